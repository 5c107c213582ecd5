"""The zip of a function: code, libraries for its processor, byte code made ahead."""
