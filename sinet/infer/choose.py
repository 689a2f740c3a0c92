"""What a search for a recipe has found: all trials as data, and of each system the best on dev as a recipe.

For every system and dataset the trial with the highest Rel+ on dev is the recipe of the search, with the threshold of
relations that is best there; it is written into a file that follows `config/recipes.yaml`.
"""

import csv
import functools
import json
from collections.abc import Iterator
from pathlib import Path

import yaml

from sinet import systems
from sinet.captions import short_commit
from sinet.data.sentence import read_sentences
from sinet.errors import UserError
from sinet.files import DIVERGED, read_sealed, write_atomically, write_text
from sinet.grid.plan import Plan
from sinet.grid.recipes import spell_out
from sinet.grid.search import changed, draw
from sinet.infer.predict import dev_curve
from sinet.schema import Search

COLUMNS = (
    *("dataset", "encoder", "model", "trial", "drawn", "seeds", "dev_ent", "dev_rel", "dev_rel_plus"),
    *("dev_rel_plus_per_seed", "chosen", "threshold", "device", "precision", "commit"),
)


def choose(search: Search, plan: Plan, table: Path, out: Path) -> list[str]:
    """Write every trial known so far to `table`, and to `out` the recipe chosen for each model of which all trials on a
    dataset are finished; what was not chosen, in words.

    A trial is known from its runs as they are planned now, else from the row that `table` has of it. One of which a
    seed diverged counts among them, without figures, and is never the best.

    Raises:
        UserError: nothing could be chosen; a plan of fewer trials than the search has.
    """
    if f"trial-{search.trials - 1}" not in plan.config.recipes:
        raise UserError(f"{plan.results}: planned with fewer than {search.trials} trials; run sinet search again")
    rows = list(_rows(search, plan, table))
    chosen: dict[str, dict] = {}
    lacking = []
    for dataset in search.datasets:
        for model in search.models:
            of = [row for row in rows if (row["dataset"], row["model"]) == (dataset, model)]
            if len(of) < search.trials:
                lacking.append(f"{model} on {dataset}: {len(of)} of {search.trials} trials are finished")
                continue
            if not (ended := [row for row in of if row["dev_rel_plus"]]):
                lacking.append(f"{model} on {dataset}: all {search.trials} trials diverged")
                continue
            best = max(ended, key=lambda row: float(row["dev_rel_plus"]))  # of equal ones the first
            best["chosen"] = "yes"
            system = plan.config.models[model].system
            trial = spell_out(plan.config, f"trial-{best['trial']}", system, dataset)[0]
            if not best["threshold"] and "threshold" in systems.settings(system).model_fields:
                best["threshold"] = _threshold(search, plan, dataset, model, best["trial"])
            changes = changed(plan.config.recipes[search.recipe][system].declared(), json.loads(best["drawn"]))
            # whole, so that a grid may give the others' in epochs
            changes |= {key: getattr(trial, key) for key in ("epochs", "steps", "evaluate_every")}
            if best["threshold"]:
                changes["settings"]["threshold"] = float(best["threshold"])
            chosen.setdefault(system, {"datasets": {}})["datasets"][dataset] = changes
    write_atomically(table, functools.partial(_write, rows=rows))
    if not chosen:
        raise UserError("; ".join(lacking))
    written = yaml.safe_dump({"recipes": {search.recipe: chosen}}, sort_keys=False, default_flow_style=None, width=120)
    write_text(out, HEAD.format(trials=search.trials, table=table.name) + written)
    return lacking


HEAD = """\
# Written by `sinet choose`: for each system and dataset the best on dev of {trials} random trials, the same for all
# ({table}), and the threshold of relations that is best there. Not to be edited.
"""


def _rows(search: Search, plan: Plan, table: Path) -> Iterator[dict[str, str]]:
    known = {}
    if table.is_file():
        with open(table, newline="", encoding="utf-8") as file:
            known = {tuple(row[key] for key in COLUMNS[:5]): row for row in csv.DictReader(file)}
    for dataset in search.datasets:
        for model in search.models:
            for number, changes in enumerate(draw(search)):
                drawn = json.dumps(changes)
                identity = dataset, search.encoder, model, str(number), drawn
                runs = [f"{dataset}/{search.encoder}/{model}.trial-{number}/{seed}" for seed in search.seeds]
                records = [_record(plan, run) for run in runs]
                if not all(records):
                    if identity in known:
                        yield known[identity] | {"chosen": ""}
                    continue
                done: list[dict] = [record for record in records if record]
                ended = [record["dev"] for record in done if "dev" in record]
                mean = {m: "" for m in ("ent", "rel", "rel_plus")}
                if len(ended) == len(done):
                    mean = {m: f"{sum(dev[m] for dev in ended) / len(ended):.2f}" for m in mean}
                yield {
                    **dict(zip(COLUMNS, identity, strict=False)),
                    "seeds": " ".join(map(str, search.seeds)),
                    **{f"dev_{m}": value for m, value in mean.items()},
                    "dev_rel_plus_per_seed": " ".join(
                        f"{r['dev']['rel_plus']:.2f}" if "dev" in r else "diverged" for r in done
                    ),
                    "chosen": "",
                    "threshold": known.get(identity, {}).get("threshold", ""),
                    "device": done[0]["device_name"],
                    "precision": done[0]["precision"],
                    "commit": short_commit(done[0]["git_commit"]),
                }


def _record(plan: Plan, run: str) -> dict | None:
    """What the training of a run measured, where it is finished, or on what it diverged, and as the plan has it."""
    if run not in plan.runs:
        return None
    for path in (plan.file(run, "training.json"), plan.file(run, DIVERGED)):
        if path.is_file() and (record := read_sealed(path))["run"] == plan.spec(run).model_dump():
            return record
    return None


def _threshold(search: Search, plan: Plan, dataset: str, model: str, trial: str) -> str:
    """The common threshold of relations with the highest mean Rel+ on dev over the seeds; of equal ones the middle."""
    folders = [plan.file(f"{dataset}/{search.encoder}/{model}.trial-{trial}/{seed}", "") for seed in search.seeds]
    dev = read_sentences(plan.results / "data" / dataset / "dev.jsonl")
    curves = [dev_curve(folder, dev) for folder in folders]
    means = {points[0]["threshold"]: sum(p["f1"] for p in points) for points in zip(*curves, strict=True)}
    best = [threshold for threshold, f1 in means.items() if f1 == max(means.values())]
    return f"{best[len(best) // 2]:.2f}"


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
