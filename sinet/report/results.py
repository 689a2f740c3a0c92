"""`results/README.md`: finished grids on one screen, to read where the project is read.

Scores beside published ones, the ablation, what recipes were chosen from, efficiency, what the comparisons found and
could have found, and what it took. All tables as CSV and all figures are copied beside it; nothing is measured here.
"""

import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from sinet import systems
from sinet.captions import machine, short_commit
from sinet.errors import UserError
from sinet.evaluate.stats import LEVEL
from sinet.files import read_sealed, write_text
from sinet.grid.plan import Plan
from sinet.report.frame import DEV, TEST
from sinet.report.grid import METRICS, is_trained
from sinet.report.table import NO_FIGURE, mean_sd

INTRODUCTION = """\
# Results

`make results CONFIGS="{configs}"`. Test splits, micro F1 x 100, symmetric relation types free of direction, and Rel+
on dev, matched as the recipe has it; mean ± standard deviation over n seeds. Published figures have other encoders and
protocols (table `published_vs_measured`); the notes of a grid's tables say on what each row was measured.
"""
SHOWN_FIGURES = ("significance", "attention_mass")
"""The figures that are seen at once, where a grid has them: of the first place."""
EFFICIENCY = {
    "FLOPs (M), released form": "Total FLOPs (M), released form",
    "FLOPs (M), ours": "Total FLOPs (M)",
    "sentences/s, one by one": "Sentences/s, float32, batch 1",
    "sentences/s, best batch": "Sentences/s, float32, best",
}
MOST = 6
"""Significant differences of a place that are named; the others are counted."""


def write_results(grids: Sequence[tuple[Path, Plan]], out: Path, trials: Path) -> None:
    """Write `out` and, beside it, `shown/FOLDER/` with tables and figures, FOLDER named after a grid's results folder.

    Args:
        grids: configuration file and plan of each.
        trials: CSV of a search (`sinet choose`); what of it was chosen for a grid's runs is shown, if there is one.

    Raises:
        UserError: when a grid has not been run to its end, or by other recipes than its configuration names, or two are
            of one results folder; nothing is written then.
    """
    names = [plan.results.as_posix().strip("/").replace("/", "-") for _, plan in grids]
    if len(set(names)) < len(names):
        folders = ", ".join(str(plan.results) for _, plan in grids)
        raise UserError(f"two grids of one results folder: {folders}")
    for config, plan in grids:
        _check(config, plan)
    parts = [INTRODUCTION.format(configs=" ".join(str(config) for config, _ in grids))]
    tuned = pd.read_csv(trials) if trials.is_file() else None
    for (config, plan), name in zip(grids, names, strict=True):
        folder = out.parent / "shown" / name
        shutil.rmtree(folder, ignore_errors=True)
        made = Plan.read(plan.results / "plan.json")
        for kind, ending, files in (("tables", "csv", made.tables), ("figures", "png", made.figures)):
            for file in files:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(plan.results / kind / f"{file}.{ending}", folder / f"{file}.{ending}")
        tables = {table: pd.read_csv(folder / f"{table}.csv") for table in made.tables}
        parts += [f"## `{config}`\n", *([f"{plan.config.remark}\n"] if plan.config.remark else [])]
        parts += [
            *_scores(tables["main"], made),
            *_ablation(tables["ablation"]),
            *_tuning(tuned, made),
            *_efficiency(tables.get("efficiency"), made),
        ]
        parts += [
            _findings(tables["significance"]),
            *_figures(made, folder.relative_to(out.parent)),
            _made(config, plan),
        ]
        parts.append(f"All tables (CSV) and figures: `results/shown/{name}/`.\n")
    write_text(out, "\n".join(parts))


def _scores(lines: pd.DataFrame, plan: Plan) -> list[str]:
    """A table a dataset: what was measured, and beside it what is published of the same system."""
    known = {of.title: of.published for of in plan.config.models.values()}
    measured = _measured(lines)
    parts = []
    order = {encoder: number for number, encoder in enumerate(measured["encoder"].unique())}
    by_encoder = measured.sort_values("encoder", key=lambda of: of.map(order), kind="stable")
    for dataset, there in by_encoder.groupby("dataset", sort=False):
        published = lines[lines["source"].str.startswith("published") & (lines["dataset"] == dataset)]
        rows = []
        for (encoder, recipe, system), of in there.groupby(["encoder", "recipe", "system"], sort=False):
            elsewhere = published[published["system"] == known.get(system)].groupby("figure")["mean"].max()
            beside = {f"published {name}": elsewhere.get(name) for name in METRICS.values()} if len(published) else {}
            figures = _mean_sd(of) | _on_dev(lines, dataset, encoder, recipe, system)
            rows.append({"System": system, "Encoder": encoder, "n": of["n"].max()} | figures | beside)
        parts += [f"### {dataset}\n", _markdown(rows)]
    return parts


def _measured(lines: pd.DataFrame, split: str = TEST) -> pd.DataFrame:
    """What was measured here, of systems trained here."""
    return lines[lines["source"].str.startswith("measured") & (lines["split"] == split)]


def _on_dev(lines: pd.DataFrame, *row: str) -> dict[str, str | None]:
    """Rel+ on dev of a dataset, encoder, recipe and system."""
    there = _measured(lines, DEV)
    there = there[(there[["dataset", "encoder", "recipe", "system", "figure"]] == [*row, "Rel+"]).all(axis="columns")]
    return {"dev Rel+": _mean_sd(there)["Rel+"] if len(there) else None}


def _ablation(lines: pd.DataFrame) -> list[str]:
    measured = _measured(lines)
    rows = [
        {"SINET's ablation": setting, "On": f"{dataset}, {encoder}", "n": of["n"].max()}
        | _mean_sd(of)
        | _on_dev(lines, dataset, encoder, recipe, setting)
        for (dataset, encoder, setting, recipe), of in measured.groupby(
            ["dataset", "encoder", "system", "recipe"], sort=False
        )
        if len(measured[(measured["dataset"] == dataset) & (measured["encoder"] == encoder)]) > len(of)
    ]
    return [_markdown(rows)] if rows else []


def _tuning(trials: pd.DataFrame | None, plan: Plan) -> list[str]:
    """The trials of each system that is trained by what was chosen of them: their Rel+ on dev, and the choice."""
    if trials is None:
        return []
    rows = []
    for (dataset, encoder, model), of in trials.groupby(["dataset", "encoder", "model"], sort=False):
        chosen, runs = of.loc[of["chosen"] == "yes", "drawn"], plan.at(dataset, encoder, model)
        if chosen.empty or not runs:
            continue
        drawn, spec = json.loads(chosen.item()), plan.spec(runs[0])
        settings = systems.settings(spec.system)(**spec.settings)
        made_of = spec.recipe.model_dump() | {f"settings.{k}": v for k, v in settings.model_dump().items()}
        if "encoder_lr" in drawn and spec.recipe.encoder_lr is None:
            drawn["encoder_lr"] = None  # a frozen encoder stays so
        if any(made_of[key] != value for key, value in drawn.items()):
            continue  # trained otherwise
        names = plan.config.models[model].title, plan.config.datasets[dataset].title
        figures = of["dev_rel_plus"].sort_values(ascending=False)  # without one it diverged: the last
        on_dev = " ".join(figures.map("{:.2f}".format, na_action="ignore").fillna("diverged"))
        place = {"Tuned on dev": names[0], "On": f"{names[1]}, {plan.config.encoders[encoder].title}"}
        values = {k.removeprefix("settings."): "frozen" if v is None else str(v) for k, v in drawn.items()}
        threshold = {"threshold": made_of.get("settings.threshold")}
        rows.append(place | {"Rel+ of its trials": on_dev} | values | threshold)
    return [_markdown(rows)] if rows else []


def _efficiency(lines: pd.DataFrame | None, plan: Plan) -> list[str]:
    if lines is None or lines.empty:
        return []
    measured = lines[lines["source"] == "measured"]
    rows = []
    for (system, dataset, encoder), of in measured.groupby(["system", "dataset", "encoder"], sort=False):
        figures = of.set_index("figure")["mean"]
        found = {name: figures.get(key) for name, key in EFFICIENCY.items() if key in figures}
        rows.append({"Efficiency": system, "On": f"{dataset}, {encoder}"} | found)
    timed = {place: read_sealed(plan.results / "efficiency" / Path(*place) / "timing.json") for place in plan.measured}
    clocks = (
        f"{plan.place_title(*place)}: {t['sentences']} of {t['of_sentences']} test sentences on {machine(t)}, at "
        f"commit {short_commit(t['git_commit'])}"
        for place, t in timed.items()
    )
    note = f"FLOPs are multiply-adds a sentence; times, float32: {'; '.join(clocks)}. Weights of the first seed.\n"
    return [_markdown(rows, "{:,.1f}"), note] if rows else []


def _findings(lines: pd.DataFrame) -> str:
    """What the comparisons of each place found, with intervals, and what they could have found."""
    parts = []
    for (dataset, encoder, recipe), of in lines.groupby(["dataset", "encoder", "recipe"], sort=False):
        tested = of[of["p_holm"].notna()]
        where = f"**{dataset}, {encoder}, recipe {recipe}.**"
        if tested.empty:
            parts.append(f"{where} Too few seeds for a test.")
            continue
        found = tested[tested["p_holm"] < LEVEL]
        named = [
            f"{c.system} {'above' if c.difference > 0 else 'below'} {c.other} by {abs(c.difference):.2f} {c.figure} "
            f"(95 % {min(map(abs, (c.t_low, c.t_high))):.2f} to {max(map(abs, (c.t_low, c.t_high))):.2f})"
            for c in found.sort_values("p_holm").head(MOST).itertuples()
        ]
        more = f"; and {len(found) - MOST} more" if len(found) > MOST else ""
        reach = ", ".join(
            f"{each['detectable'].min():.1f} to {each['detectable'].max():.1f} {figure}"
            for figure, each in tested.groupby("figure", sort=False)
        )
        says = f"Significant (Holm over the grid, {LEVEL:g}): {len(found)} of {len(tested)} tested comparisons"
        parts.append(
            f"{where} {says}{': ' if named else ''}{'; '.join(named)}{more}. What differs by less than {reach} would "
            "have been missed more often than in one case of five."
        )
    return "\n\n".join(parts) + "\n"


def _figures(plan: Plan, folder: Path) -> list[str]:
    found = [next((f for f in plan.figures if f.split("/")[-1] == name), None) for name in SHOWN_FIGURES]
    return [" ".join(f'<img src="{folder}/{f}.png" width="420" alt="{f}">' for f in found if f) + "\n"] * any(found)


def _mean_sd(of: pd.DataFrame) -> dict[str, str]:
    seeds = {line["figure"]: str(line["values"]).split() for line in of.to_dict("records") if line["n"]}
    texts = {figure: mean_sd(list(map(float, values))).text for figure, values in seeds.items()}
    return {name: texts.get(name, NO_FIGURE.text) for name in METRICS.values()}


def _markdown(rows: list[dict], figure: str = "{:.2f}") -> str:
    """Rows as a table without empty columns; figures as texts."""
    frame = pd.DataFrame(rows).dropna(axis="columns", how="all")
    for column in frame.select_dtypes("float"):
        frame[column] = [figure.format(value) if pd.notna(value) else NO_FIGURE.text for value in frame[column]]
    return frame.fillna(NO_FIGURE.text).to_markdown(index=False, disable_numparse=True) + "\n"


def _check(config: Path, plan: Plan) -> None:
    results = plan.results
    needed = [results / "plan.json", *plan.records()]
    if needed[0].is_file():
        made = Plan.read(needed[0])
        needed += [results / "tables" / f"{table}.csv" for table in made.tables]
        needed += [results / "figures" / f"{figure}.png" for figure in made.figures]
    if missing := [path for path in needed if not path.is_file()]:
        raise UserError(f"{missing[0]} is missing; run the grid first: make tables CONFIG={config}")
    for run in plan.specs():
        path, wanted = plan.file(run.path, "record.json"), run.model_dump()
        record = read_sealed(path, "recipe", "settings")
        if changed := [key for key in ("recipe", "settings") if record[key] != wanted[key]]:
            raise UserError(f"{path}: another {changed[0]} than now; run the grid again: make tables CONFIG={config}")


def _made(config: Path, plan: Plan) -> str:
    """Command, date, commit, machine and time of a grid's trainings."""
    paths = plan.records()
    records = list(filter(is_trained, map(read_sealed, paths)))
    last = datetime.fromtimestamp(max(path.stat().st_mtime for path in paths), UTC)
    minutes = sum(sum(record["seconds"].values()) for record in records) / 60
    machines: dict[str, dict[str, None]] = {}
    for r in records:
        machines.setdefault(f"{machine(r)}, {r['precision']}", {})[short_commit(r["git_commit"])] = None
    trained = "; ".join(f"{on}, at commit {', '.join(commits)}" for on, commits in machines.items())
    trained += " (+: with uncommitted changes)" * ("+" in trained)
    skipped = f"; {len(plan.skipped)} skipped" if plan.skipped else ""
    return (
        f"`make tables CONFIG={config}`, finished {last:%Y-%m-%d}. {len(paths)} runs{skipped}; {minutes:.0f} "
        f"minutes of training and evaluation on dev in all. Trained on: {trained}.\n"
    )
