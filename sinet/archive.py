"""Finished runs archived without their weights: small enough to be published beside the code that made them.

An archived run is `FOLDER/DATASET/ENCODER/MODEL/SEED/` with what its training measured (`training.json`, `log.csv`),
its predictions of the test split and, of the studied model, its attention (both compressed). What was counted and timed
of a dataset and encoder is `FOLDER/efficiency/DATASET/ENCODER/`. From these a grid whose configuration names the folder
(`archive:`) makes, scored anew and without training, all tables and figures but the sentences of the case study. Any
other run is trained as ever, so a grid too long for one machine or one night is made in pieces.

An archived run has the settings that the configuration asks for; the code may have changed since, so the tables name
the commit that it was trained at.
"""

import functools
import gzip
import logging
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sinet.errors import UserError
from sinet.files import check_sum, read_sealed, write_atomically
from sinet.grid.plan import COUNTED, TIMED, Plan
from sinet.schema import RunSpec

log = logging.getLogger("sinet")

PLAIN = ("log.csv", "log.csv.sha256", "predictions.jsonl.sha256", "training.json")
"""The last is written last: where it is, an archived run is whole."""
PREDICTIONS, ATTENTION = "predictions.jsonl", "attention.json"
EFFICIENCY = {"flops.json": COUNTED, "timing.json": TIMED}
"""What was counted and timed, and the keys of `efficiency` that it depends on."""


def with_archived(plan: Plan) -> tuple[Plan, list[str]]:
    """The plan with those of its runs that are to be taken from its archive, and the places of which counts and times
    are; and of others that are there, why they are not.

    Raises:
        UserError: a `training.json`, or a count or time, that is not what it was.
    """
    taken, measured, refused = [], [], []
    folder, case = Path(plan.config.archive or ""), plan.case_study
    attended = plan.at(case.dataset, case.encoder, case.model) if case else []
    for run in plan.trained if plan.config.archive else ():
        archived = folder / run
        # where weights are, there is nothing to take
        if not (archived / "training.json").is_file() or plan.file(run, "model.safetensors").is_file():
            continue
        needed = [*PLAIN, f"{PREDICTIONS}.gz", *[f"{ATTENTION}.gz"] * (run in attended)]
        if read_sealed(archived / "training.json", "run")["run"] != plan.spec(run).model_dump():
            refused.append(f"{archived}: archived under other settings than the configuration's; it is trained anew")
        elif missing := [name for name in needed if not (archived / name).is_file()]:
            refused.append(f"{archived}: archived without {missing[0]}, which this grid needs; it is trained anew")
        else:
            taken.append(run)
    for place in plan.places if plan.config.archive and plan.config.efficiency else ():
        files = [folder / "efficiency" / Path(*place) / name for name in EFFICIENCY]
        there = plan.systems_at(*place)
        if not all(file.is_file() for file in files) or {*taken}.isdisjoint(there.values()):
            continue
        said = {file.name: read_sealed(file) for file in files}
        if trained := [model for model, run in there.items() if run not in taken]:
            why = f"systems are measured together, {', '.join(trained)} is trained here, and archived runs lack weights"
        elif lacking := [model for model in there for of in said.values() if model not in of.get("trainings", {})]:
            why = f"archived without {lacking[0]}"
        elif not all(_is_of(plan, place, name, of, folder) for name, of in said.items()):
            why = "archived of other trainings, or under other settings than the configuration's"
        else:
            measured.append(list(place))
            continue
        refused.append(f"{files[0].parent}: {why}; efficiency is skipped there")
    return replace(plan, archived=taken, archived_places=measured), refused


def _is_of(plan: Plan, place: tuple[str, str], name: str, said: dict, runs: Path) -> bool:
    """Whether what was counted or timed (`said`, of a file `name`) is what the plan asks, of the trainings below
    `runs`."""
    return plan.asked(*place, EFFICIENCY[name], runs).items() <= said.items()


def archive(plan: Plan, out: Path) -> list[str]:
    """Copy the finished runs of a grid to `out`, and what was counted and timed of them; the runs' paths. What is
    archived there of others stays.

    A run is finished when its record was made of this very training, under the settings of the grid.

    Raises:
        UserError: no run of the grid is finished.
    """
    archived = []
    for run in plan.trained:
        source, target = plan.file(run, ""), out / run
        if not _finished(source, plan.spec(run)):
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
        archived.append(run)
    if not archived:
        raise UserError(f"{plan.results}/runs: none of the {len(plan.trained)} runs is finished; run the grid first")
    for place in plan.measured:
        if not {*plan.systems_at(*place).values()} <= {*archived}:
            continue
        for name in EFFICIENCY:
            file, target = (folder / "efficiency" / Path(*place) / name for folder in (plan.results, out))
            if file.is_file() and _is_of(plan, place, name, read_sealed(file), plan.results / "runs"):
                target.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(target, functools.partial(shutil.copyfile, file))
            else:
                log.warning("%s: not of these trainings and settings, so not archived; run the grid again", file)
    return archived


def _finished(folder: Path, run: RunSpec) -> bool:
    if not all((folder / name).is_file() for name in ("training.json", "record.json", PREDICTIONS)):
        return False
    trained, record = (read_sealed(folder / f"{n}.json") for n in ("training", "record"))
    # a training begun anew leaves the old predictions and their record lying: they are of other seconds
    return trained.pop("run") == run.model_dump() and trained.items() <= record.items()


def _compress(path: Path, to: Path) -> None:
    packed = gzip.compress(path.read_bytes(), mtime=0)  # no time stamp: the same run gives the same bytes
    write_atomically(to / f"{path.name}.gz", lambda partial: partial.write_bytes(packed))


def unarchive(archived: Path, names: Sequence[str], out: Path) -> None:
    """Put files of the archived run or efficiency in the folder `archived` into its folder `out`, with their checksums.

    Raises:
        UserError: a file that is damaged, or not what it was.
    """
    for name in (*names, *(f"{name}.sha256" for name in names if f"{name}.sha256" in PLAIN)):
        plain = name in (*PLAIN, *EFFICIENCY)
        path = archived / (name if plain else f"{name}.gz")
        data = path.read_bytes()
        try:
            data = data if plain else gzip.decompress(data)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(f"{path} is damaged ({error}); take it from the repository again") from None
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / name, functools.partial(Path.write_bytes, data=data))
    for name in names:
        check_sum(out / name)
