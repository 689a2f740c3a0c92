"""Finished runs kept without their weights: small enough to be published beside the code that made them.

A kept run is `FOLDER/DATASET/ENCODER/MODEL/SEED/` with what its training measured (`training.json`, `log.csv`), its
predictions of the test split and, of the studied model, its attention (both compressed). From these a grid whose
configuration names the folder (`kept:`) makes, scored anew and without training, all tables and figures but those of a
clock. Any other run is trained as ever, so a grid too long for one machine or one night is made in pieces.

A kept run has the settings that the configuration asks for; the code may have changed since, so the tables name the
commit that it was trained at.
"""

import functools
import gzip
import shutil
import zlib
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from sinet.config import Plan, Run
from sinet.errors import UserError
from sinet.files import check_sum, read_sealed, write_atomically

PLAIN = ("log.csv", "log.csv.sha256", "predictions.jsonl.sha256", "training.json")
"""The last is written last: where it is, a kept run is whole."""
PREDICTIONS, ATTENTION = "predictions.jsonl", "attention.json"


def kept_runs(
    folder: Path, runs: Iterable[Run], attended: Collection[str], results: Path
) -> tuple[list[str], list[str]]:
    """Paths of the given runs that are to be taken from `folder`; and of others that are there, why they are not.

    Args:
        attended: paths of the runs whose attention is needed. results: where weights are, there is nothing to take.

    Raises:
        UserError: a `training.json` that is not what it was.
    """
    taken, refused = [], []
    for run in runs:
        kept = folder / run.path
        if not (kept / "training.json").is_file() or (results / "runs" / run.path / "model.safetensors").is_file():
            continue
        needed = [*PLAIN, f"{PREDICTIONS}.gz", *[f"{ATTENTION}.gz"] * (run.path in attended)]
        if read_sealed(kept / "training.json", "run")["run"] != run.details:
            refused.append(f"{kept}: kept under other settings than the configuration's; it is trained anew")
        elif missing := [name for name in needed if not (kept / name).is_file()]:
            refused.append(f"{kept}: kept without {missing[0]}, which this grid needs; it is trained anew")
        else:
            taken.append(run.path)
    return taken, refused


def keep(results: Path, plan: Plan, out: Path) -> list[str]:
    """Copy the finished runs of a grid to `out`; their paths. What is kept there of others stays.

    A run is finished when its record was made of this very training, under the settings of the grid.

    Raises:
        UserError: no run of the grid is finished.
    """
    kept = []
    for run in plan.runs:
        source, target = results / "runs" / run.path, out / run.path
        if not _finished(source, run):
            continue
        target.mkdir(parents=True, exist_ok=True)
        (target / "training.json").unlink(missing_ok=True)
        _compress(source / PREDICTIONS, target)
        trained = (source / "training.json").stat().st_mtime_ns
        if (source / ATTENTION).is_file() and (source / ATTENTION).stat().st_mtime_ns >= trained:
            _compress(source / ATTENTION, target)
        else:
            (target / f"{ATTENTION}.gz").unlink(missing_ok=True)
        for name in PLAIN:
            write_atomically(target / name, functools.partial(shutil.copyfile, source / name))
        kept.append(run.path)
    if not kept:
        raise UserError(f"{results}/runs: none of the {len(plan.runs)} runs of this grid is finished; run it first")
    return kept


def _finished(folder: Path, run: Run) -> bool:
    if not all((folder / name).is_file() for name in ("training.json", "record.json", PREDICTIONS)):
        return False
    trained, record = (read_sealed(folder / f"{n}.json") for n in ("training", "record"))
    # a training begun anew leaves the old predictions and their record lying: they are of other seconds
    return trained.pop("run") == run.details and trained.items() <= record.items()


def _compress(path: Path, to: Path) -> None:
    packed = gzip.compress(path.read_bytes(), mtime=0)  # no time stamp: the same run gives the same bytes
    write_atomically(to / f"{path.name}.gz", lambda partial: partial.write_bytes(packed))


def restore(kept: Path, names: Sequence[str], out: Path) -> None:
    """Put files of the kept run in the folder `kept` into the run's folder `out`, with their checksums.

    Raises:
        UserError: a file that is damaged, or not what it was.
    """
    for name in (*names, *(f"{name}.sha256" for name in names if f"{name}.sha256" in PLAIN)):
        path = kept / (name if name in PLAIN else f"{name}.gz")
        data = path.read_bytes()
        try:
            data = data if name in PLAIN else gzip.decompress(data)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(f"{path} is damaged ({error}); take it from the repository again") from None
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / name, lambda partial, data=data: partial.write_bytes(data))
    for name in names:
        check_sum(out / name)
