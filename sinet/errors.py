"""The one exception whose text is meant for the user: what is wrong, where, what would be right; words for it."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave us; printed as one line, exit status 2, never as a traceback."""


class Interrupted(Exception):
    """The scheduler asked the job to end; its state is saved. Exit status 75 (a temporary failure: run it again)."""


def counted(n: int, what: str) -> str:
    """A number of things: no faults, 1 fault, 2 faults."""
    return f"{n or 'no'} {what}{'' if n == 1 else 's'}"


def nearest(word: str, known: Iterable[str]) -> str:
    """The hint that ends an error about an unknown `word`: the closest known word, else all of them."""
    known = sorted(map(str, known))
    close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'}"
