"""Choosing a recipe on dev, with the same number of trials for every system; the test split is never read.

`config/trials/trials.yaml` names the trials: what each changes in the recipe it starts from. Their dev scores are kept
as data in `config/trials/trials.csv`, the recipe that came out best stands in `config/recipes.yaml`.
"""

import copy
import csv
import functools
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from sinet.errors import UserError, nearest
from sinet.files import read_sealed, write_atomically
from sinet.grid import recipes
from sinet.grid.bounded_yaml import read_yaml
from sinet.grid.mistakes import validated
from sinet.grid.plan import resolve
from sinet.schema import RunSpec, Trials
from sinet.train.trainer import train_run

log = logging.getLogger("sinet")

COLUMNS = (
    *("model", "trial", "recipe", "dataset", "encoder", "seeds", "selection", "dev_ent", "dev_rel", "dev_rel_plus"),
    *("dev_rel_plus_per_seed", "device", "precision"),
)


def trial_runs(config: dict, declared: Trials) -> Iterator[tuple[str, str, RunSpec]]:
    """The runs of every trial: model, trial, run.

    Args:
        config: a loaded configuration; its grid is replaced.
        declared: the trials.

    Raises:
        UserError: unequal numbers of trials, or a change that the configuration's checks refuse.
    """
    sizes = {model: len(trials) for model, trials in declared.trials.items()}
    if len(set(sizes.values())) > 1:
        raise UserError(f"trials: every model needs the same number of trials, there are {sizes}")
    for model, trials in declared.trials.items():
        if model not in config["models"]:
            raise UserError(f"trials: {model!r} is not declared, {nearest(model, config['models'])}")
        system = config["models"][model]["system"]
        for trial, changes in trials.items():
            varied = copy.deepcopy(config)
            start = declared.start.get(system)
            if start is None:
                raise UserError(f"start: no recipe for {system}, whose trials are declared ({model})")
            settings = start.get("settings", {}) | changes.get("settings", {})
            varied["recipes"]["trial"] = {system: start | changes | {"settings": settings}}
            block = {"datasets": [declared.dataset], "encoders": [declared.encoder], "recipe": "trial"}
            varied["grid"] = [block | {"models": [model], "seeds": declared.seeds}]
            for run in resolve(varied).specs():
                if any(t.train_on != "train" for _, t in run.recipe.trainings):
                    raise UserError(f"trials.{model}.{trial}.train_on: a trial is judged on dev; write train")
                yield model, str(trial), run


def tune(config: dict, trials: Path, only: Sequence[str], data: Path, out: Path, state: Path, table: Path) -> None:
    """Train the trials of the models in `only` (all by default) and write every trial known so far to `table`."""
    declared = validated(Trials, read_yaml(trials), where=f"{trials}: ")
    planned = list(trial_runs(config, declared))
    for model in only:
        if model not in declared.trials:
            raise UserError(f"{trials}: no trials for {model!r}, {nearest(model, declared.trials)}")
    position = {(model, str(t)): i for model, trials in declared.trials.items() for i, t in enumerate(trials)}
    # Every model's first trial, then every second: stopped anywhere, the budgets differ by one trial at most.
    for model, trial, run in sorted(planned, key=lambda each: position[each[:2]]):
        if not only or model in only:
            train_run(run, data, _folder(out, model, trial, run), state, config["mirrors"])
            done = list(_rows(planned, out, table))
            write_atomically(table, functools.partial(_write, rows=done))
            for row in done:
                if (row["model"], row["trial"]) == (model, trial):
                    log.info("%s, trial %s: dev Rel+ %s", model, trial, row["dev_rel_plus_per_seed"])


def _folder(out: Path, model: str, trial: str, run: RunSpec) -> Path:
    return out / model / trial / str(run.seed)


def _rows(planned: list[tuple[str, str, RunSpec]], out: Path, table: Path) -> Iterator[dict]:
    """One row a trial: from its runs where all have been trained as declared now, else the row that `table` has of it,
    as long as that was measured under the same recipe."""
    known = {}
    if table.is_file():
        with open(table, newline="", encoding="utf-8") as file:
            known = {(row["model"], row["trial"]): row for row in csv.DictReader(file)}
    for model, trial in dict.fromkeys((model, trial) for model, trial, _ in planned):
        runs = [run for m, t, run in planned if (m, t) == (model, trial)]
        recipe = runs[0].model_dump(include={"recipe", "settings"})
        paths = [_folder(out, model, trial, run) / "training.json" for run in runs]
        records = [read_sealed(path) for path in paths if path.is_file()]
        if [record["run"] for record in records] != [run.model_dump() for run in runs]:
            row = known.get((model, trial))
            if row is not None and json.loads(row["recipe"]) == recipe:
                yield row
            continue
        run = runs[0]
        mean = {m: sum(r["dev"][m] for r in records) / len(records) for m in ("ent", "rel", "rel_plus")}
        yield {
            "model": model,
            "trial": trial,
            "recipe": json.dumps(recipe, sort_keys=True),
            "dataset": run.dataset,
            "encoder": run.encoder_name,
            "seeds": " ".join(str(run.seed) for run in runs),
            "selection": recipes.selection(run.recipe),
            **{f"dev_{m}": f"{value:.2f}" for m, value in mean.items()},
            "dev_rel_plus_per_seed": " ".join(f"{r['dev']['rel_plus']:.2f}" for r in records),
            "device": f"{records[0]['device_name']} ({records[0]['threads']} threads)",
            "precision": records[0]["precision"],
        }


def _write(path: Path, rows: list[dict]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
