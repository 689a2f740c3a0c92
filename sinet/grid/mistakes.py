"""What is wrong with what a user wrote, one line a mistake: which key, and what would be right."""

import math
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from sinet.errors import UserError, nearest, shown
from sinet.grid.bounded_yaml import dotted, unreadable
from sinet.schema import Strict

Declared = TypeVar("Declared", bound=Strict)
WANTED = {
    "int": "a whole number",
    "float": "a finite number",
    "string": "text",
    "list": "a list",
    "dict": "a mapping",
    "model": "a mapping",
    "bool": "true or false (on the command line True or False)",
}
BOUNDS = {"greater_than_equal": "at least", "greater_than": "above", "less_than_equal": "at most", "less_than": "below"}
KINDS = ((bool, "true/false"), (str, "text"), (int | float, "a number"), (list, "a list"), (dict, "a mapping"))


def validated(model: type[Declared], value: object, where: str = "") -> Declared:
    """A value as a model; `where` stands before each mistake.

    Raises:
        UserError: every mistake, one a line.
    """
    if lines := list(unreadable(value)):
        raise UserError("\n".join(f"{where}{line}" for line in lines))
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = sorted(error.errors(include_url=False), key=lambda e: [str(part) for part in e["loc"]])
        raise UserError("\n".join(f"{where}{_line(model, e)}" for e in found)) from None


def _line(model: type[BaseModel], error: Mapping[str, Any]) -> str:
    loc, kind, value, context = error["loc"], error["type"], error["input"], error.get("ctx", {})
    key = dotted(loc) or "top level"
    match kind:
        case "extra_forbidden":
            return f"{key}: unknown key, {nearest(loc[-1], _type_at(model, loc[:-1]).model_fields)}"
        case "missing":
            described = _type_at(model, loc[:-1]).model_fields[loc[-1]].description
            where = dotted(loc[:-1]) or "config"
            return f"{where}: key {loc[-1]!r} is missing{f' ({described})' if described else ''}"
        case "mistake":
            return f"{f'{key}: ' if loc else ''}{error['msg'].replace('{value}', shown(value))}"
        case "string_pattern_mismatch":
            at_key = loc[-1] == "[key]"
            described = _description(model, loc) or "another form is needed"
            return f"{dotted(loc[:-1] if at_key else loc)}: {shown(value)} is not valid, expected: {described}"
        case "string_too_short":
            return f"{key}: the text is empty"
        case "too_short":
            return f"{key}: the list is empty; name at least one"
        case "literal_error":
            known = [choice for choice in _choices(_annotation_at(model, loc)) if choice is not None]
            return f"{key}: {shown(value)} is unknown, {nearest(str(value), map(str, known))}"
    if kind in BOUNDS:
        limit = next(context[short] for short in ("ge", "gt", "le", "lt") if short in context)
        return f"{key}: {shown(value)} should be {BOUNDS[kind]} {limit}"
    wanted = kind.removesuffix("_type").removesuffix("_from_float")
    hint = ""
    if wanted in ("int", "float") and isinstance(value, str) and (number := _as_number(value)) is not None:
        hint = f"; YAML reads {value} as text, write {number}"
    right = WANTED.get(wanted, error["msg"]) + " or null" * (NoneType in get_args(_annotation_at(model, loc)))
    return f"{key}: {shown(value)} is {kind_of(value)}, should be {right}{hint}"


def kind_of(value: object) -> str:
    """The kind of a value, in words."""
    return next((name for kind, name in KINDS if isinstance(value, kind)), "nothing")


def _annotation_at(model: type[BaseModel], loc: Sequence[int | str]) -> Any:
    """The annotation of what stands at a place."""
    annotation: Any = model
    for part in loc:
        annotation = _plain(annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            annotation = annotation.model_fields[str(part)].annotation
        elif part != "[key]":
            annotation = get_args(annotation)[-1]
    return annotation


def _type_at(model: type[BaseModel], loc: Sequence[int | str]) -> Any:
    return _plain(_annotation_at(model, loc))


def _plain(annotation: Any) -> Any:
    """An annotation without its metadata and without None."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) in (Union, UnionType):
            annotation = next(of for of in get_args(annotation) if of is not NoneType)
        else:
            return annotation


def _choices(annotation: Any) -> Iterator[object]:
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    for inner in get_args(annotation) if get_origin(annotation) is not Literal else ():
        yield from _choices(inner)


def _description(model: type[BaseModel], loc: Sequence[int | str]) -> str | None:
    """The description of the form that a text at a place must have."""
    annotation = get_args(_type_at(model, loc[:-2]))[0] if loc[-1] == "[key]" else _annotation_at(model, loc)
    waiting = [annotation]
    while waiting:
        each = waiting.pop()
        found = [d for d in (getattr(m, "description", None) for m in getattr(each, "__metadata__", ())) if d]
        if found:
            return found[0]
        waiting.extend(get_args(each))
    parent = _type_at(model, loc[:-1])
    return parent.model_fields[str(loc[-1])].description.rstrip(".") if hasattr(parent, "model_fields") else None


def _as_number(text: str) -> str | None:
    try:
        number = float(text)
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    mantissa, _, exponent = f"{number:e}".partition("e")
    mantissa = mantissa.rstrip("0")
    return f"{mantissa}{'0' if mantissa.endswith('.') else ''}e{int(exponent):+d}"
