"""``python -m dynaflow``."""

from dynaflow.cli import main

if __name__ == "__main__":
    main()
