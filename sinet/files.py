"""Files that are there whole or not at all, and that show when they were changed afterwards.

What a step makes carries its checksum: JSON as its last key (`write_sealed`), another file in a file of `sha256sum`'s
form beside it (`write_sum`). They guard against damage and slips of an editor, not against forgery.
"""

import contextlib
import glob
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from sinet.errors import Interrupted, UserError, closest, shown
from sinet.provenance import digest_of, file_sha256

SEAL = "checksum"
DIVERGED = "diverged.json"
"""What a training that diverged leaves in its run's folder."""


def similar_path(path: Path) -> str:
    """The end of a message about a path that may be missing: the most similar one there is, name by name, if any."""
    found = Path(path.anchor)
    try:
        for name in path.relative_to(found).parts:
            there = (found / name).exists()
            near = name if there else closest(name, [other.name for other in found.iterdir()], cutoff=0.75)
            if near is None:
                return ""
            found /= near
    except OSError:
        return ""
    return "" if found == path else f", did you mean {str(found)!r}?"


def check_path(path: Path | str) -> None:
    """Raise `UserError` for a path that leads nowhere, or to something that would be waited for: a pipe, a device."""
    if "\0" in str(path):
        raise UserError(f"{shown(str(path))}: a path cannot hold the character NUL")
    if len(str(path).splitlines()) > 1:
        raise UserError(f"{shown(str(path))}: a path that holds a line break, which messages cannot show; rename it")
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
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name a file in it")
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
        raise UserError(f"{_not_written(path, partial, error)}: what was there before is whole") from None
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


def write_text(path: Path, text: str) -> None:
    """A text in UTF-8, atomically."""
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def write_lines(path: Path, of: object, chunk: int, lines: Callable[[int], Iterable[str]]) -> None:
    """Write lines that take long to make. They stand in `NAME.DIGEST.partial` until all are there; what a process that
    was killed left there, of the same `of`, is gone on from.

    Args:
        of: JSON value of all that determines the lines.
        chunk: lines after which they are on the disk; only whole chunks are gone on from.
        lines: gives all lines but the first, as many as it is told.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
        Interrupted: by the user; the lines that are there are kept.
    """
    partial = path.with_name(f"{path.name}.{digest_of(of)[:8]}.partial")
    written = 0
    try:
        with open(partial, "a+b") as file:
            file.seek(0)
            end, whole = 0, 0
            for number, there in enumerate(iter(file.readline, b""), 1):
                if number % chunk == 0 and there.endswith(b"\n"):
                    end, whole = file.tell(), number
            file.truncate(end)
            for written, line in enumerate(lines(whole), whole + 1):
                file.write(line.encode())
                if written % chunk == 0:
                    file.flush()
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise UserError(f"{_not_written(path, partial, error)}: the next start continues from {partial}") from None
    except KeyboardInterrupt:
        kept = f"{written - written % chunk} lines are kept in {partial}"
        raise Interrupted(f"interrupted; {kept}, and the same command continues from there") from None
    for other in path.parent.glob(f"{glob.escape(path.name)}.????????.partial"):
        other.unlink()


def _not_written(path: Path, partial: Path, error: Exception) -> str:
    """Why a file cannot be written, and what to do."""
    if not isinstance(error, OSError):  # torch's writer does not say
        try:
            partial.touch()
        except OSError as refused:
            error = refused
    why = error.strerror if isinstance(error, OSError) else "no space left"
    free = shutil.disk_usage(path.parent).free >> 20
    return f"{path} cannot be written: {why} ({free} MiB free); make room, or the folder writable, and start again"


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


def json_line(record: object) -> str:
    """A record as a line of JSON."""
    return json.dumps(record, ensure_ascii=False) + "\n"


def write_json(path: Path, record: object) -> None:
    """Indented JSON, atomically."""
    write_text(path, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def write_sealed(path: Path, record: dict, indent: int | None = 2) -> None:
    """JSON whose last key is the checksum of all it says otherwise, atomically."""
    said = {key: value for key, value in record.items() if key != SEAL}
    write_text(path, json.dumps(said | {SEAL: digest_of(said)}, indent=indent, ensure_ascii=False) + "\n")


def read_sealed(path: Path, *keys: str) -> dict:
    """What `write_sealed` was given; raises `UserError` when the file says anything else by now, and as `read_json`."""
    found = read_json(path, *keys, SEAL)
    if found.pop(SEAL) != digest_of(found):
        raise UserError(f"{path}: changed since it was made (its checksum differs); delete it, to have it made again")
    return found


def write_sum(path: Path) -> None:
    """The checksum of a file as `NAME.sha256` beside it; `sha256sum --check` reads it as well."""
    write_text(_sum_of(path), f"{file_sha256(path)}  {path.name}\n")


def check_sum(path: Path) -> None:
    """Raises `UserError` when a file is not what its checksum beside it says; most files of users have none."""
    beside = _sum_of(path)
    if beside.is_file() and beside.read_text(encoding="utf-8", errors="replace").split()[:1] != [file_sha256(path)]:
        raise UserError(
            f"{path}: changed since it was made ({beside.name} differs); delete both, to have it made again"
        )


def _sum_of(path: Path) -> Path:
    return Path(f"{path}.sha256")


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
