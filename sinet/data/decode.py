"""Files into text and text into JSON values, every mistake with its place."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sinet.errors import MESSAGE, UserError, plain, quoted
from sinet.files import similar_path

REPLACEMENT = "\ufffd"
"""What `read_with_faults` puts in the place of bytes that are not UTF-8."""
ZLIB = (b"x\x01", b"x\x9c", b"x\xda")
"""How a file compressed by zlib begins."""
NOT_UTF8 = "not UTF-8 (byte {} of the line); convert the file to UTF-8"


@dataclass(frozen=True)
class Fault:
    """A mistake in a file: field (may be empty) and what would be right; its place goes beside it.

    A reader of another form puts one in the place of an entity or relation that it cannot make out.
    """

    field: str
    what: str

    def __str__(self) -> str:
        return plain(f"{self.field}: {self.what}" if self.field else self.what, MESSAGE)


def read_text(path: Path) -> str:
    """The file as text; raises `UserError` naming line and byte where it is not UTF-8."""
    data = _bytes(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}: not UTF-8 (byte {error.start}); convert the file to UTF-8") from None


def read_with_faults(path: Path) -> tuple[str, list[str]]:
    """The file as text, with a replacement character for what is not UTF-8, and each line that holds such, as
    `file:line: what is wrong`; raises `UserError` for a file that cannot be read at all."""
    data, faults = _bytes(path), []
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            line.decode()
        except UnicodeDecodeError as error:
            faults.append(f"{path}:{number}: {NOT_UTF8.format(error.start + 1)}")
    return data.decode("utf-8-sig", errors="replace"), faults


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}{similar_path(path)}") from None
    if data[:2] in ZLIB:
        raise UserError(f"{path}: compressed, as spaCy's DocBin is; `sinet convert FILE --out DIR` reads that")
    return data


def utf8_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line with its end, one at a time, without a byte-order mark.

    Raises:
        UserError: a file that cannot be read, or the line that is not UTF-8.
    """
    try:
        with open(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise UserError(f"{path}:{number}: {NOT_UTF8.format(error.start + 1)}") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}{similar_path(path)}") from None


def decoded(line: str, where: str) -> object:
    """JSON of one line; raises `UserError` with its place and column where it is broken."""
    value = decode(line.rstrip("\r\n"))
    if isinstance(value, Fault):
        raise UserError(f"{where}: {value}")
    return value


def decode(text: str) -> Any:
    """The JSON value that a text is, or what is wrong with it."""
    value, end = decode_at(text, len(text) - len(text.lstrip()))
    if not isinstance(value, Fault) and text[end:].strip():
        return Fault("", f"broken JSON: extra text at column {end + 1}")
    return value


def decode_at(text: str, start: int) -> tuple[Any, int]:
    """The JSON value that starts at a position, and where it ends; or what is wrong with it, and where."""
    try:
        value, end = DECODER.raw_decode(text, start)
        if "\\u" in text[start:end]:  # half a surrogate pair can be escaped in JSON, and not be written as UTF-8
            json.dumps(value, ensure_ascii=False).encode()
        return value, end
    except json.JSONDecodeError as error:
        return Fault("", f"broken JSON: {error.msg} at column {error.colno}"), error.pos
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        return Fault("", f"{half!r} is half of a surrogate pair; write both halves, or the character itself"), start
    except RecursionError:
        return Fault("", "broken JSON: nested too deeply"), start
    except ValueError as error:  # a number of thousands of digits, or what `_object` refuses
        return Fault("", f"broken JSON: {str(error).split(';')[0]}"), start


def _object(pairs: list[tuple[str, object]]) -> dict:
    record = dict(pairs)
    if len(record) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"key {quoted(key)} occurs twice in an object")
            seen.add(key)
    return record


DECODER = json.JSONDecoder(object_pairs_hook=_object)
