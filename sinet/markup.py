"""Text of others made to stand for itself where it is put: in Markdown, in LaTeX, in a spreadsheet.

Titles, remarks, names, types and words of sentences are text: nothing in them is a mark, loads an image or is computed.
"""

import re
import unicodedata

from sinet.errors import CONTROL

_MARKS = re.compile(
    r"[\\`*|$]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # within a word an underscore is no mark
    r"|\](?=[(\[:])"  # links, images and their definitions
    r"|<(?=[A-Za-z/!?])|&(?=#?\w+;)|~(?=~)"
)
_FIRST = re.compile(r"^(?:[#+-]+(?=\s|$)|>|--|\d+(?=[.)](?:\s|$)))")
"""What at the beginning of a line opens a heading, a list, a quotation or a rule."""
_NUMBERS = re.compile(r"[+-]?[\d.]+(e[+-]?\d+)?( [+-]?[\d.]+(e[+-]?\d+)?)*", re.IGNORECASE)
_LATEX = {
    **{"\\": r"\textbackslash{}", "±": r"$\pm$", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"$<$", ">": r"$>$", "|": r"$|$"},
    **{c: f"\\{c}" for c in "&%$#_{}"},
}


def line(text: str) -> str:
    """The text on one line, control characters and line breaks as blanks."""
    return " ".join(CONTROL.sub(" ", text).split())


def markdown(text: str) -> str:
    """Markdown (CommonMark, GitHub's) that shows the text as it is, on one line."""
    text = _MARKS.sub(r"\\\g<0>", line(text))
    first = _FIRST.match(text)
    if first is None:
        return text
    at = first.end() if first[0].isdigit() else 0
    return f"{text[:at]}\\{text[at:]}"


def latex(text: str) -> str:
    """LaTeX that shows the text, on one line; what pdflatex has no glyph for becomes its nearest ASCII, or a question
    mark."""

    def one(c: str) -> str:
        if c in _LATEX:
            return _LATEX[c]
        return c if c.isascii() else unicodedata.normalize("NFKD", c).encode("ascii", "ignore").decode() or "?"

    made = "".join(map(one, line(text)))
    # at the beginning of a row they would belong to the line break before it
    return f"{{{made[0]}}}{made[1:]}" if made[:1] in ("[", "*") else made


def spreadsheet(value: object) -> object:
    """A cell of a CSV file: a text that a spreadsheet would take for a formula with an apostrophe before it."""
    if (
        isinstance(value, str)
        and value[:1] in set("=+-@\uff1d\uff0b\uff0d\uff20\t\r\n")
        and not _NUMBERS.fullmatch(value)
    ):
        return f"'{value}"
    return value
