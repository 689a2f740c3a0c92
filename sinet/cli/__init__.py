"""`sinet`, `python -m sinet`: what users do, and the steps of the workflow, one module a group of commands.

A command is a typed function: its parameters are the options, its docstring the help. It imports what it needs when it
runs, as torch and transformers cost seconds a process.
"""

import argparse
import inspect
import itertools
import json
import logging
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, NoReturn, get_args, get_origin, get_type_hints

from sinet.errors import MESSAGE, Interrupted, UserError, nearest, plain, printable, shown
from sinet.files import check_path, similar_path

DESCRIPTION = """Train, score, time and compare systems for joint entity and relation extraction. `make tables` runs a
whole grid. Where `sinet` is not installed, `python -m sinet` is the same."""
USERS = (
    *("check", "convert", "init", "train", "predict", "score", "thresholds", "compare", "plan", "report", "publish"),
    *("search", "choose", "vectors", "bench", "export", "import", "schema"),
)
"""Commands that users call, in the order in which they need them; all others are steps of the workflow."""


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
Run = Annotated[Path, Option("a trained run's folder", "DIR")]
Data = Annotated[Path, Option("the prepared dataset", "DIR")]
Mirrors = Annotated[list[str] | None, Option("folders to search first; default: config.yaml", "DIR")]
PlannedRun = Annotated[str, Option("which of the plan's runs", "DATASET/ENCODER/MODEL/SEED", positional=True)]
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
    given = sys.argv[1:] if arguments is None else arguments
    options = vars(build_parser().parse_args(given or ["--help"]))
    name = options.pop("command")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain("%(asctime)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(handlers=[handler], force=True)
    logger = logging.getLogger("sinet")
    logger.setLevel(logging.INFO)

    def refused(why: object, status: int = 2) -> int:
        logger.error("%s: %s", called(name), why)
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
        at = f"{error.filename}: " if error.filename else ""
        return refused(f"{at}{error.strerror or error}{similar_path(Path(error.filename)) if at else ''}")
    except json.JSONDecodeError as error:
        return refused(f"a file that should be JSON is not: {error}")
    except KeyboardInterrupt:
        return 130
    except Exception:
        # a fault of ours
        logger.exception("%s failed", called(name))
        return 1


def read_plan(path: Path):  # type: ignore[no-untyped-def]
    """The plan of a grid that was written."""
    from sinet.grid.plan import Plan

    return Plan.read(path)


def readable(*paths: Path) -> None:
    """Raise `OSError` for a file that cannot be read, before what reads it is imported, which takes longer."""
    for path in paths:
        path.open("rb").close()


class _Plain(logging.Formatter):
    """Log lines in which no text from a file steers the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, and the nearest right word."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {plain(message, MESSAGE)}\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = f"write `{called(value)}`" if value in COMMANDS else nearest(value, action.choices)
            self.error(f"{shown(value)} is unknown, {known}")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        # a mistyped option is reported before the one that is missing for it
        for given in itertools.takewhile("--".__ne__, args[:1] if self._subparsers else args):
            name = given.partition("=")[0]
            if name.startswith("--") and " " not in name and name not in self._option_string_actions:
                self.error(f"{shown(name)} is unknown, {nearest(name, self._option_string_actions)}")
        return super().parse_known_args(args, namespace)


class _Help(argparse.HelpFormatter):
    """Leaves an example in one line, which can be pasted."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("example: ") else super()._fill_text(text, width, indent)


def called(name: str) -> str:
    """How a command is called."""
    return f"sinet {name}" if name in USERS else f"sinet step {name}"


def build_parser() -> argparse.ArgumentParser:
    """The command line: one sub-parser a command, those of the workflow's steps under `step`."""
    from sinet.cli import data, grid, report, runs, scores  # noqa: F401 - each adds its commands

    parser = _Parser(prog="sinet", description=DESCRIPTION)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in USERS:
        _add_command(commands, name)
    described = "The workflow's steps, which it calls in their order; each works by itself."
    steps = commands.add_parser("step", help="the workflow's steps; see sinet step --help", description=described)
    each = steps.add_subparsers(dest="command", required=True, metavar="STEP")
    for name in COMMANDS:
        if name not in USERS:
            _add_command(each, name)
    return parser


def _add_command(subparsers: Any, name: str) -> None:
    """A sub-parser of a command. Its docstring is the help: the first sentence in the list, an example at the end."""
    function = COMMANDS[name]
    described, _, example = " ".join((inspect.getdoc(function) or "").split()).partition(" Example: ")
    first = described.partition(". ")[0]
    sub = subparsers.add_parser(
        name,
        help=f"{first[0].lower()}{first[1:]}".removesuffix("."),
        description=described,
        epilog=example and f"example: {example}",
        formatter_class=_Help,
    )
    hints = get_type_hints(function, include_extras=True)
    for parameter in inspect.signature(function).parameters.values():
        _add(sub, parameter, hints[parameter.name])


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
