"""Finished runs kept without their weights: small enough to be published beside the code that made them.

A kept run is `FOLDER/DATASET/ENCODER/MODEL/SEED/` with what its training measured (`training.json`, `log.csv`), its
predictions of the test split and, of the studied model, its attention (both compressed). From these a grid whose
configuration names the folder (`kept:`) makes all tables and figures but those of a clock, scored anew and without
training; a run that is not kept, or was kept under other settings, is trained as ever. So a grid too long for one
machine or one night is made in pieces.
"""

import gzip
import json
import logging
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from sinet.config import Plan, Run
from sinet.errors import UserError
from sinet.files import write_atomically

log = logging.getLogger("sinet")

PLAIN = ("training.json", "log.csv")
COMPRESSED = ("predictions.jsonl", "attention.json")
"""The second of the studied model alone."""


def kept_runs(folder: Path, runs: Iterable[Run], attended: Collection[str]) -> dict[str, Path]:
    """Of the given runs those that are kept in `folder` as they are needed, by path; a warning for any other there.

    Args:
        attended: paths of the runs whose attention is needed.
    """
    found = {}
    for run in runs:
        kept = folder / run.path
        if not (kept / "training.json").is_file():
            continue
        if json.loads((kept / "training.json").read_text(encoding="utf-8"))["run"] != run.details:
            log.warning("%s: kept under other settings than the configuration's; it is trained anew", kept)
        elif run.path in attended and not (kept / "attention.json.gz").is_file():
            log.warning("%s: kept without its attention, which the case study needs; it is trained anew", kept)
        else:
            found[run.path] = kept
    return found


def keep(results: Path, plan: Plan, out: Path) -> list[str]:
    """Copy the finished runs of a grid to `out`; their paths.

    Raises:
        UserError: no run of the grid is finished.
    """
    kept = []
    for run in plan.runs:
        source, target = results / "runs" / run.path, out / run.path
        if not (source / "record.json").is_file():
            continue
        target.mkdir(parents=True, exist_ok=True)
        for name in PLAIN:
            shutil.copyfile(source / name, target / name)
        for name in filter(lambda name: (source / name).is_file(), COMPRESSED):
            # no time stamp: the same run gives the same bytes
            packed = gzip.compress((source / name).read_bytes(), mtime=0)
            write_atomically(target / f"{name}.gz", lambda partial, packed=packed: partial.write_bytes(packed))
        kept.append(run.path)
    if not kept:
        raise UserError(f"{results}/runs: none of the {len(plan.runs)} runs of this grid is finished; run it first")
    return kept


def restore(kept: Path, names: Iterable[str], out: Path) -> None:
    """Put files of the kept run in the folder `kept` into the run's folder `out`.

    Raises:
        UserError: a file that is damaged.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        try:
            data = (kept / name).read_bytes() if name in PLAIN else gzip.decompress((kept / f"{name}.gz").read_bytes())
        except (gzip.BadGzipFile, EOFError) as error:
            raise UserError(f"{kept / name}.gz is damaged ({error}); take it from the repository again") from None
        write_atomically(out / name, lambda partial, data=data: partial.write_bytes(data))
