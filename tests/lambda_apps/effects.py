"""What handlers did, one line each, in a file that outlives their process."""

from __future__ import annotations

import os

__all__ = ["note"]


def note(line: str) -> None:
    """Append a line to the file that EFFECTS names; whole lines, from any thread."""
    file = os.open(os.environ["EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{line}\n".encode())
    finally:
        os.close(file)
