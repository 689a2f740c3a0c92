"""`python -m sinet`: the steps of the workflow and what users do beside it, one module a group of commands.

A command is a typed function: its parameters are the options, its docstring the help. It imports what it needs when it
runs, as torch and transformers cost seconds a process.
"""

import argparse
import inspect
import json
import logging
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from sinet.errors import Interrupted, UserError, printable, shown
from sinet.files import check_path

DESCRIPTION = """\
Train, score, time and compare systems for joint entity and relation extraction.
The workflow (`make tables`, `snakemake --cores all`) calls these steps in their order; each works by itself.
"""


@dataclass(frozen=True)
class Option:
    """How a parameter stands on the command line: its help, the word for its value, and the bounds of a number."""

    help: str
    metavar: str = "FILE"
    positional: bool = False
    repeated: bool = False
    """Whether each value of a list has the option's name before it."""
    least: int = 1
    most: int = 1_000_000_000


Config = Annotated[list[Path], Option("overrides keys of config.yaml", repeated=True)]
PlanFile = Annotated[Path, Option("plan.json in the grid's results folder")]
Dataset = Annotated[str, Option("of the runs", "NAME")]
Encoder = Annotated[str, Option("of the runs", "NAME")]
Json = Annotated[Path, Option("JSON to write")]
Language = Annotated[str, Option("spaCy's code of the language that raw text is in", "CODE")]

COMMANDS: dict[str, Callable[..., int | None]] = {}


def command(function: Callable[..., int | None]) -> Callable[..., int | None]:
    """Make a function a command of its name."""
    COMMANDS[function.__name__.rstrip("_").replace("_", "-")] = function
    return function


def main(arguments: list[str] | None = None) -> int:
    """Run one command; exit status 0, or 2 after a one-line message about what the user gave."""
    options = vars(build_parser().parse_args(arguments))
    name = options.pop("command")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain("%(asctime)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(handlers=[handler], force=True)
    logger = logging.getLogger("sinet")
    logger.setLevel(logging.INFO)

    def refused(why: object, status: int = 2) -> int:
        logger.error("sinet %s: %s", name, why)
        return status

    try:
        for given in options.values():
            for path in given if isinstance(given, list) else [given]:
                if isinstance(path, Path):
                    check_path(path)
        return COMMANDS[name](**options) or 0
    except Interrupted as error:
        return refused(error, 75)
    except UserError as error:
        return refused(error)
    except OSError as error:
        return refused(f"{f'{error.filename}: ' if error.filename else ''}{error.strerror or error}")
    except json.JSONDecodeError as error:
        return refused(f"a file that should be JSON is not: {error}")
    except KeyboardInterrupt:
        return 130
    except Exception:
        # a fault of ours
        logger.exception("sinet %s failed", name)
        return 1


def readable(*paths: Path) -> None:
    """Raise `OSError` for a file that cannot be read, before what reads it is imported, which takes longer."""
    for path in paths:
        path.open("rb").close()


class _Plain(logging.Formatter):
    """Log lines in which no text from a file steers the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def build_parser() -> argparse.ArgumentParser:
    """The command line: one sub-parser a command."""
    from sinet.cli import data, grid, report, runs, scores  # noqa: F401 - each adds its commands

    parser = argparse.ArgumentParser(
        prog="python -m sinet", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, function in COMMANDS.items():
        described = " ".join((inspect.getdoc(function) or "").split())
        first, _, rest = described.partition(". ")
        help = f"{first[0].lower()}{first[1:]}".removesuffix(".")
        sub = subparsers.add_parser(name, help=help, description=f"{first}. {rest}" if rest else described)
        hints = get_type_hints(function, include_extras=True)
        for parameter in inspect.signature(function).parameters.values():
            _add(sub, parameter, hints[parameter.name])
    return parser


def _add(parser: argparse.ArgumentParser, parameter: inspect.Parameter, hint: Any) -> None:
    annotation, option = _option(hint)
    required = parameter.default is inspect.Parameter.empty
    settings: dict[str, Any] = {"help": option.help}
    if not required and parameter.default not in (None, [], False):
        default = parameter.default
        shown_default = " ".join(map(str, default)) if isinstance(default, list) else default
        settings["help"] += f" ({shown_default:,})" if isinstance(default, int) else f" ({shown_default})"
    if annotation is bool:
        parser.add_argument(f"--{parameter.name.replace('_', '-')}", action="store_true", **settings)
        return
    settings["metavar"] = option.metavar
    if get_origin(annotation) is list:
        annotation = get_args(annotation)[0]
        settings |= {"action": "append"} if option.repeated else {"nargs": "+" if required else "*"}
    settings["type"] = {int: _whole(option.least, option.most), float: _above_zero}.get(annotation, annotation)
    if option.positional:
        parser.add_argument(parameter.name, **settings)
    else:
        default = None if required else parameter.default
        default = list(default) if isinstance(default, list) else default
        name = f"--{parameter.name.strip('_').replace('_', '-')}"
        parser.add_argument(name, dest=parameter.name, required=required, default=default, **settings)


def _option(hint: Any) -> tuple[Any, Option]:
    """The type of a parameter without None, and how it stands on the command line."""
    option = None
    while True:
        if get_origin(hint) is Annotated:
            hint, *metadata = get_args(hint)
            option = next((m for m in metadata if isinstance(m, Option)), option)
        elif get_origin(hint) is UnionType:
            hint = next(of for of in get_args(hint) if of is not NoneType)
        else:
            if option is None:
                raise TypeError(f"a parameter of a command has no Option: {hint}")
            return hint, option


def _above_zero(text: str) -> float:
    try:
        if 0 < float(text) < math.inf:
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{shown(text)} should be a number above 0")


def _whole(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or len(text) > len(str(most)) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(
                f"{shown(text)} should be a whole number of at least {least} and at most {most}"
            )
        return int(text)

    return number
