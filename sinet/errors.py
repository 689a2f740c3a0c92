"""The one exception whose text is meant for the user: what is wrong, where, what would be right; words for it."""

import difflib
import re
import reprlib
import sys
from collections.abc import Iterable, Sequence
from types import TracebackType

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Characters that no name may hold: line breaks, and what steers a terminal."""
LISTED, LETTERS, MESSAGE = 30, 60, 1000
"""Names that a message lists, characters that it shows of one name, and of a line."""


class UserError(Exception):
    """A mistake in what the user gave us; printed as one line, exit status 2, never as a traceback."""


class Diverged(UserError):
    """A training whose loss or weights are no numbers any more: other rates are needed."""


class Interrupted(Exception):
    """The scheduler asked the job to end; its state is saved. Exit status 75 (a temporary failure: run it again)."""


def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """As `sys.excepthook` of a grid: Ctrl-C before the first job, or once more while trainings save, is no fault."""
    if issubclass(kind, KeyboardInterrupt):
        print("Interrupted. The same command continues.", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


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
        begun = whole if len(whole) <= MESSAGE else f"{whole[:MESSAGE]}..."
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in begun)

    return "\n".join(map(line, text.split("\n")))


def nearest(word: str, known: Iterable[str]) -> str:
    """The hint that ends an error about an unknown `word`: the closest known word, else all of them."""
    known = sorted(map(str, known))
    close = closest(str(word), known, cutoff=0.6)
    return f"did you mean {close!r}?" if close else f"known: {listed(known) or 'none'}"


def closest(word: str, known: Iterable[str], cutoff: float) -> str | None:
    """The known word most like `word`, if one is alike by `cutoff`; words too long to be shown are like none, as the
    time of a comparison grows with the square of their length."""
    short = [other for other in known if len(other) <= LETTERS] if len(word) <= LETTERS else []
    return next(iter(difflib.get_close_matches(word, short, n=1, cutoff=cutoff)), None)


def listed(names: Sequence[str]) -> str:
    """Names in one line: the first of them and the number of the others, each shortened and escaped."""
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return ", ".join(map(plain, names[:LISTED])) + more


def quoted(text: str) -> str:
    """A name between quotation marks, escaped, and shortened where it is long."""
    return repr(text) if len(text) <= LETTERS else f"{text[:LETTERS]!r}... ({len(text):,} characters)"


def plain(text: str, most: int = LETTERS) -> str:
    """A text as it may be printed: control characters escaped, shortened where it is long."""
    cut = text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"
    return CONTROL.sub(lambda found: repr(found.group())[1:-1], cut)
