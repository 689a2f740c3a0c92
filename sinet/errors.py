"""The one exception whose text is meant for the user: what is wrong, where, what would be right; words for it."""

import difflib
import reprlib
from collections.abc import Iterable

LONGEST_LINE = 1000
"""Characters of a message's line that are printed."""


class UserError(Exception):
    """A mistake in what the user gave us; printed as one line, exit status 2, never as a traceback."""


class Interrupted(Exception):
    """The scheduler asked the job to end; its state is saved. Exit status 75 (a temporary failure: run it again)."""


def counted(n: int, what: str) -> str:
    """A number of things: no faults, 1 fault, 2 faults."""
    return f"{n or 'no'} {what}{'' if n == 1 else 's'}"


class _Shortened(reprlib.Repr):
    """`repr` of so much of a value as a message has room for."""

    def repr_int(self, value: int, level: int) -> str:
        digits = value.bit_length() * 3 // 10  # Python refuses to print more than some thousand
        return repr(value) if digits < self.maxlong else f"a number of about {digits:,} digits"


_SHORTENED = _Shortened()
_SHORTENED.maxstring = _SHORTENED.maxother = 100
_SHORTENED.maxlevel = 3


def shown(value: object) -> str:
    """A wrong value as a message quotes it: shortened, control characters escaped."""
    text = _SHORTENED.repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def printable(text: str) -> str:
    """A message for the terminal: control characters escaped but for line breaks, long lines shortened."""

    def line(whole: str) -> str:
        begun = whole if len(whole) <= LONGEST_LINE else f"{whole[:LONGEST_LINE]}..."
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in begun)

    return "\n".join(map(line, text.split("\n")))


def nearest(word: str, known: Iterable[str]) -> str:
    """The hint that ends an error about an unknown `word`: the closest known word, else all of them."""
    known = sorted(map(str, known))
    close = difflib.get_close_matches(str(word)[:100], known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'}"
