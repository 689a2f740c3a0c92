"""`python -m sinet.grid ...`: Snakemake with the display of a grid, whose import takes seconds in which Ctrl-C is no
fault either."""

import sys

from sinet.errors import uncaught


def main() -> None:
    """Call Snakemake, with its arguments."""
    sys.excepthook = uncaught
    from snakemake.cli import main

    main([*sys.argv[1:], "--logger", "sinet"])


if __name__ == "__main__":
    main()
