"""What is wrong with an App, its stream, its mapping and its function."""
