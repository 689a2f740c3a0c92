"""Files that are there whole or not at all."""

import contextlib
import json
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from sinet.errors import UserError, shown


def check_path(path: Path | str) -> None:
    """Raise `UserError` for a path that leads nowhere, or to something that would be waited for: a pipe, a device."""
    if "\0" in str(path):
        raise UserError(f"{shown(str(path))}: a path cannot hold the character NUL")
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        return  # to be made, or missed by whoever reads it
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or Path(path).samefile(os.devnull)):
        raise UserError(f"{path}: a pipe or device, not a file; write what it holds into a file first")


def read_text(path: Path) -> str:
    """A text file's contents.

    Raises:
        UserError: a pipe, or not UTF-8. OSError: it is not there or cannot be read.
    """
    check_path(path)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not Unicode; save it as UTF-8") from None


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write(temporary path)`, then move the result into place; a crash leaves the old file or the new one.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        _remove_abandoned(path)
        partial.touch()
        mode = partial.stat().st_mode
        write(partial)
        partial.chmod(mode)  # safetensors gives its files to the user alone; others may read the rest
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, SafetensorError, RuntimeError) as error:
        # torch's writer says no more than where in its own source it failed
        if isinstance(error, RuntimeError) and "inline_container" not in str(error):
            raise
        free = shutil.disk_usage(path.parent).free >> 20
        raise UserError(
            f"{path} cannot be written: {_why(error, partial)} ({free} MiB free); make room, or the folder writable, "
            "and start again: what was there before is whole"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _remove_abandoned(path: Path) -> None:
    """What processes that were killed left of the same file."""
    named = re.compile(rf"\.{re.escape(path.name)}\.(\d+)\.part")
    for found in path.parent.iterdir():
        if (match := named.fullmatch(found.name)) and not _lives(int(match[1])):
            found.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # another user's
    return True


def _why(error: Exception, partial: Path) -> str:
    if isinstance(error, OSError):
        return error.strerror
    try:
        partial.touch()
    except OSError as refused:
        return refused.strerror
    return "no space left"


def read_json(path: Path, *keys: str) -> Any:
    """What a JSON file holds: with `keys`, a mapping that has them.

    Raises:
        UserError: a file that is broken, or lacks a key. OSError: one that is not there.
    """
    try:
        found = parse_json(read_text(path))
    except ValueError as error:
        raise UserError(f"{path}: broken JSON ({error}); make it again") from None
    if missing := [key for key in keys if not isinstance(found, dict) or key not in found]:
        raise UserError(f"{path}: {missing[0]!r} is missing, so it is not what it should be; make it again")
    return found


def parse_json(text: str) -> Any:
    """What JSON text holds; raises `ValueError` for whatever is none, or nested or long beyond what Python reads."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError:
        raise
    except ValueError:
        raise ValueError("a number of thousands of digits") from None


def write_json(path: Path, record: object) -> None:
    """Indented JSON, atomically."""
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def link_or_copy(source: Path, target: Path) -> None:
    """Give `target` the bytes of `source`, without a second copy on the disk where the file system allows; a crash
    leaves the old file or the new one."""

    def give(partial: Path) -> None:
        partial.unlink()
        try:
            os.link(source, partial)
        except OSError:
            shutil.copyfile(source, partial)

    write_atomically(target, give)
