"""YAML files of users: bounded, and refused where YAML reads something else than a reader would."""

import functools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer

from sinet.errors import CONTROL, UserError, shown
from sinet.files import read_text

MOST_VALUES, DEEPEST = 20_000, 30
"""Values of a YAML file once its aliases are spelled out, and levels of them."""
MOST_DIGITS, GREATEST, LONGEST_TEXT = 15, 1e100, 1000
"""Digits of a whole number, all of which a float64 holds too; bound of a number, whose products stay finite; characters
of a text."""
MOST_MISTAKES = 20
"""Of a kind that may stand everywhere: so many are reported."""
TAG = "tag:yaml.org,2002:"
KEY = re.compile(rf"{TAG}(str(.|\n)*|merge<<)")
NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*|([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|\.inf|\.nan)", re.IGNORECASE)
"""Numbers that mean what they look like: YAML also reads 24:00 (to the base 60), 010 (to the base 8) and 1_000."""
TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Characters that turn the direction of what follows them."""
UNREADABLE = re.compile(rf"{CONTROL.pattern}|[\ud800-\udfff{TURNING}]")
"""Those, control characters and halves of characters."""


def read_yaml(path: Path) -> Any:
    """What a YAML file holds.

    Raises:
        UserError: the line that is broken, or whose meaning in YAML is another than it looks. OSError: it cannot be
        read.
    """
    text = read_text(path)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        for line, mistake in _misread(node):
            raise UserError(f"{path}:{line}: {mistake}")
        return None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        what = str(getattr(error, "problem", None) or getattr(error, "reason", error))
        raise UserError(f"{where}: broken YAML: {what:.200}") from None


class _Loader(Composer, yaml.CSafeLoader):
    """Composes a bounded document from the events of libyaml, which reads them ten times faster than Python does: an
    alias counts as all that it stands for."""

    def __init__(self, text: str) -> None:
        Composer.__init__(self)
        yaml.CSafeLoader.__init__(self, text)
        self.values, self.depth = 0, 0
        self.sizes: dict[str, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        before, event = self.values, self.peek_event()  # type: Any, Any
        mark = event.start_mark
        if isinstance(event, yaml.AliasEvent) and event.anchor in self.anchors:
            if event.anchor not in self.sizes:
                raise yaml.MarkedYAMLError(
                    problem=f"the alias {shown(event.anchor)} contains itself", problem_mark=mark
                )
            self.values += self.sizes[event.anchor]
        self.values, self.depth = self.values + 1, self.depth + 1
        if self.values > MOST_VALUES or self.depth > DEEPEST:
            most = f"more than {MOST_VALUES:,} values" if self.values > MOST_VALUES else f"more than {DEEPEST} levels"
            raise yaml.MarkedYAMLError(problem=f"{most} with aliases expanded", problem_mark=mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        if not isinstance(event, yaml.AliasEvent) and event.anchor:
            self.sizes[event.anchor] = self.values - before
        return node


def _misread(node: yaml.Node | None, key: str = "") -> Iterator[tuple[int, str]]:
    """What YAML reads otherwise than it looks, anywhere in a document: the line, and what to write."""
    if node is None:
        return
    line, kind = node.start_mark.line + 1, node.tag.removeprefix(TAG)
    if isinstance(node, yaml.MappingNode) and kind == "map":
        seen = set()
        for name, value in node.value:
            if not isinstance(name, yaml.ScalarNode) or not KEY.fullmatch(name.tag + name.value):
                yield name.start_mark.line + 1, f"{key or 'a mapping'}: a key should be text; write it in quotes"
            elif name.value in seen:
                yield name.start_mark.line + 1, f"{shown(name.value)} is given twice; only the last would count"
            else:
                seen.add(name.value)
                yield from _misread(value, f"{key}.{name.value}" if key else name.value)
    elif isinstance(node, yaml.SequenceNode) and kind == "seq":
        for number, item in enumerate(node.value):
            yield from _misread(item, f"{key}[{number}]")
    elif not isinstance(node, yaml.ScalarNode) or kind not in ("int", "float", "str", "bool", "null", "timestamp"):
        yield (
            line,
            f"{key or 'top level'}: has the YAML tag {shown(kind)}, which is not supported here; write text in quotes",
        )
    elif kind == "timestamp":
        yield line, f"{key}: {shown(node.value)} is a date in YAML; write it in quotes"
    elif kind == "bool" and node.value.lower() not in yaml.SafeLoader.bool_values:
        yield line, f"{key}: {shown(node.value)} should be true or false"
    elif kind in ("int", "float") and not NUMBER.fullmatch(node.value):
        yield line, f"{key}: {_other_number(node.value, key)}"
    elif kind == "int" and len(node.value) > MOST_DIGITS:
        yield line, f"{key}: {shown(node.value)} is a number of {len(node.value):,} digits; write text in quotes"


def _other_number(text: str, key: str) -> str:
    if ":" in text:
        fields = text.split(":")
        read = functools.reduce(lambda whole, field: whole * 60 + float(field.replace("_", "")), fields, 0.0)
        right = "a plain number, or text in quotes"
        if key.endswith("runtime"):
            right = f"the number of minutes{f': {int(read) // 60}' if len(fields) == 3 else ''}"
        return f"{text} is read by YAML as {read:.15g}; write {right}"
    return f"{text} is read by YAML as a different number than it looks; write plain decimals, or text in quotes"


def unreadable(value: object, path: tuple = ()) -> Iterator[str]:
    """At most `MOST_MISTAKES` of what no configuration may hold: keys that are no text, numbers without bound, control
    characters."""
    for number, line in enumerate(_unreadable(value, path)):
        if number == MOST_MISTAKES:
            return
        yield line


def _unreadable(value: object, path: tuple) -> Iterator[str]:
    key = dotted(path) or "config"
    if len(path) > DEEPEST:
        yield f"{key}: more than {DEEPEST} levels"
    elif isinstance(value, dict):
        for name, held in value.items():
            if not isinstance(name, str) or UNREADABLE.search(name):
                yield f"{key}: the key {shown(name)} should be text of one line; write it in quotes"
            else:
                yield from _unreadable(held, (*path, name))
    elif isinstance(value, list):
        for number, held in enumerate(value):
            yield from _unreadable(held, (*path, number))
    elif isinstance(value, str):
        if len(value) > LONGEST_TEXT:
            yield f"{key}: {shown(value)} has {len(value):,} characters; at most {LONGEST_TEXT:,} are allowed"
        elif held := UNREADABLE.search(value):
            yield f"{key}: {shown(value)} holds {shown(held[0])}; write text of one line without control characters"
    elif isinstance(value, float) and not abs(value) < GREATEST:
        yield f"{key}: {value} is {'too large' if math.isfinite(value) else 'not a finite number'}"
    elif isinstance(value, int) and abs(value) >= 10**MOST_DIGITS:
        yield f"{key}: {shown(value)} is too large; a whole number has at most {MOST_DIGITS} digits"
    elif not isinstance(value, int | float | None):
        yield f"{key}: {shown(value)} is a {type(value).__name__}; text is written in quotes"


def dotted(path: object) -> str:
    """A place in a nested value as messages name it: `grid[0].seeds`."""
    text = ""
    for part in path:  # type: ignore[attr-defined]
        name = shown(part) if len(str(part)) > 100 else str(part)
        text += f"[{part}]" if isinstance(part, int) else f".{name}" if text else name
    return text
