"""`python -m sinet`."""

import sys

from sinet.cli import main

if __name__ == "__main__":
    sys.exit(main())
