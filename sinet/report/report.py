"""One self-contained HTML page of a finished grid: tables, figures, cards, runs, plan, and every test sentence with
what each system made of it. Nothing is loaded from elsewhere: it opens without a network and can be mailed."""

import base64
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import jinja2
import pandas as pd
from markdown_it import MarkdownIt
from markupsafe import Markup

from sinet.captions import machine, short_commit
from sinet.data.sentence import Labels, Sentence, read_sentences
from sinet.evaluate.errors import ENTITY_KINDS, KINDS, RELATION_KINDS, sentence_errors
from sinet.evaluate.metrics import facts
from sinet.files import read_sealed, write_text
from sinet.grid.recipes import length, length_of, recorded
from sinet.report.frame import read_runs
from sinet.report.grid import METRICS, NO_TYPES, NONE, Grid, is_trained, path_of
from sinet.report.table import NO_FIGURE, Cell, for_page, frame, number

log = logging.getLogger("sinet")

PAGE = Path(__file__).with_name("page")
MEDIA = {"csv": "text/csv", "tex": "text/x-tex", "png": "image/png", "pdf": "application/pdf"}
MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "link", "autolink"])
"""No file of a grid links to anything, and the page loads nothing."""
FIGURES = {
    "curves": "Learning curves",
    "lengths": "F1 by sentence length",
    "significance": "Differences between systems",
    "speed": "F1 against speed",
    "flops": "FLOPs by sentence length",
    "attention": "Cross-task attention, sentence",
    "attention_mass": "Where cross-task attention falls",
}
"""Titles by the last part of a figure's name, less its number."""


def write_report(results: Path, plan: dict, out: Path) -> None:
    """Write the page of the grid whose outputs lie in `results`.

    Args:
        plan: as `sinet.grid.plan.Plan.declared`.

    Raises:
        OSError: naming an output that is not there.
    """
    runs = read_runs([results / "runs" / path / "record.json" for path in plan["runs"]], analyses=False)
    grid = Grid(runs, plan, {})
    about = {key: list(dict.fromkeys(run[key] for run in runs)) for key in ("dataset", "encoder", "model", "seed")}
    skipped = [{"Skipped": path, "Reason": why} for path, why in plan["skipped"]]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.tests["published"] = _is_published
    page = environment.get_template("page.html.jinja").render(
        name=str(results),
        plan=plan,
        about=about,
        titles={kind: grid.titles(f"{kind}s") for kind in ("dataset", "encoder")},
        tables=[_table(results / "tables", name) for name in plan["tables"]],
        figures=[
            *(_figure(results / "figures" / name, name, _title(name, grid)) for name in plan["figures"]),
            *(_thresholds(run, grid) for run in runs if _has_thresholds(run)),
        ],
        cards=[_html((results / "data" / name / "card.md").read_text("utf-8")) for name in about["dataset"]],
        runs=_runs(grid),
        machines=_machines(runs),
        trainings=_trainings(grid),
        skipped=for_page("Skipped", frame(skipped, ["Skipped", "Reason"]), []),
        kinds={"Entities": ENTITY_KINDS, "Triples": RELATION_KINDS},
        style=Markup((PAGE / "page.css").read_text(encoding="utf-8")),
        script=Markup((PAGE / "page.js").read_text(encoding="utf-8")),
        sentences=_embedded([_browsed(results, of, grid) for of in _first_seeds(runs)]),
    )
    write_text(out, page)
    log.info("wrote %s (%.1f MB): open it in a browser", out, out.stat().st_size / 1e6)


# -- tables, figures, cards ----------------------------------------------------------------------------------------


def _table(folder: Path, name: str) -> dict:
    """A table as the page shows it: what was measured before what is published."""
    files = {ending: _inline(folder / f"{name}.{ending}") for ending in ("csv", "tex")}
    table = read_sealed(folder / f"{name}.json")
    return table | {"name": name, "files": files, "rows": sorted(table["rows"], key=_is_published)}


def _is_published(row: Sequence[Sequence]) -> bool:
    """Whether a row's source is a publication."""
    return any(text.startswith("published") for text, *_ in row)


def _title(name: str, grid: Grid) -> str:
    *place, kind = name.split("/")
    kind, _, number = kind.partition("_") if kind[-1].isdigit() else (kind, "", "")
    return " ".join(filter(None, (FIGURES[kind], number))) + (f": {grid.where(*place)}" if place else "")


def _figure(path: Path, name: str, title: str) -> dict:
    """A figure as the page shows it; `path` without an ending."""
    png, pdf, caption = (path.with_name(f"{path.name}.{ending}") for ending in ("png", "pdf", "md"))
    return {
        "name": name,
        "title": title,
        "image": _inline(png),
        "width": _pixels(png) // 2,
        "caption": _html(caption.read_text(encoding="utf-8")),
        "files": {"pdf": _inline(pdf)},
    }


def _has_thresholds(run: dict) -> bool:
    """Whether `sinet thresholds` drew the curve of the run as it is now."""
    files = [run["folder"] / name for name in ("thresholds.json", "model.json")]
    if not all(path.is_file() for path in files):
        return False
    chosen, made = (read_sealed(path, "files")["files"] for path in files)
    return chosen == made


def _thresholds(run: dict, grid: Grid) -> dict:
    where = f"{_system(run, grid)}: {grid.where(run['dataset'], run['encoder'])}"
    return _figure(run["folder"] / "thresholds", f"thresholds/{path_of(run)}", f"Relation thresholds, {where}")


def _system(run: dict, grid: Grid) -> str:
    return f"{grid.title('models', run['model'])}, seed {run['seed']}"


def _pixels(path: Path) -> int:
    """Width of a PNG, which stands in its header; half of its 300 dots an inch make a legible size on a screen."""
    return int.from_bytes(path.read_bytes()[16:20])


def _html(text: str) -> Markup:
    return Markup(MARKDOWN.render(text))


def _inline(path: Path) -> str:
    return f"data:{MEDIA[path.suffix[1:]]};base64,{base64.b64encode(path.read_bytes()).decode()}"


# -- runs ----------------------------------------------------------------------------------------------------------


def _f1(run: dict, metric: str, value: float) -> Cell:
    return number(value) if run["scores"]["symmetric"][metric]["types"] else NO_TYPES


def _runs(grid: Grid) -> dict:
    rows = [
        {
            "System": grid.title("models", run["model"]),
            "Dataset": grid.title("datasets", run["dataset"]),
            "Encoder": grid.encoder_of(run["model"], run["encoder"]),
            "Seed": number(run["seed"], 0),
            "Recipe": run["recipe"]["name"],
            "Selected": f"epoch {run['selected_epoch']:g} of {length(recorded(run))} ({run['selection']})"
            if is_trained(run)
            else NONE,
            **{name: _f1(run, metric, run["scores"]["symmetric"][metric]["f1"]) for metric, name in METRICS.items()},
            "Dev Rel+": _f1(run, "rel_plus", run["dev"]["rel_plus"]) if "rel_plus" in run["dev"] else NO_FIGURE,
            "Training (min)": number(run["seconds"]["train"] / 60, 1) if is_trained(run) else Cell(NONE),
            "Parameters (M)": number(run["parameters"] / 1e6, 1) if is_trained(run) else Cell(NONE),
            "Precision": run.get("precision", NONE),
        }
        for run in grid.runs
    ]
    splits = ", ".join(dict.fromkeys(run["split"] for run in grid.runs))
    note = (
        f"Micro F1 x 100 on the {splits} split, symmetric types direction-free; training time without the evaluations "
        "on dev."
    )
    return for_page("Runs", frame(rows), [note, *grid.external()])


def _machines(runs: Sequence[dict]) -> list[dict]:
    """Machines, commits and versions that the runs were trained with, each with its runs."""
    machines: dict[tuple, list[str]] = {}
    for run in filter(is_trained, runs):
        versions = ", ".join(f"{package} {version}" for package, version in run["versions"].items())
        machines.setdefault((machine(run), short_commit(run["git_commit"]), versions), []).append(path_of(run))
    return [{"title": title, "commit": c, "versions": v, "runs": of} for (title, c, v), of in machines.items()]


def _settings(of: dict) -> str:
    said = (f"{k} for {len(v)} types" if isinstance(v, dict) else f"{k} {v}" for k, v in of.items())
    return ", ".join(said) or "as declared by the system"


def _trainings(grid: Grid) -> dict:
    """How each model, or part of it, is trained: its recipe and settings, where, with which seeds."""

    def rate(value: float | None) -> Cell | str:
        return "frozen" if value is None else Cell(f"{value}", value)

    rows = [
        {
            "System": ", ".join(filter(None, (grid.title("models", run["model"]), part))),
            "Datasets and encoders": grid.where(run["dataset"], run["encoder"]),
            "Seeds": str(run["seed"]),
            "Recipe": run["recipe"]["name"],
            "Length": length_of(t),
            "Batch": number(t.batch_size, 0) if isinstance(t.batch_size, int) else t.batch_size,
            **{"Optimiser": t.optimizer, "Schedule": t.schedule, "Encoder rate": rate(t.encoder_lr)},
            **{"Head rate": rate(t.head_lr), "Decay": rate(t.weight_decay), "Warm-up": rate(t.warmup)},
            **{"Clip": rate(t.clip), "Selection": t.selection},
            "Settings": _settings(run["settings"]),
        }
        for run in filter(is_trained, grid.runs)
        for part, t in recorded(run).trainings
    ]
    if not rows:
        return for_page("Plan", frame([], ["System"]), ["Nothing is trained: all models are given by predictions."])
    joined = {"Datasets and encoders": "; ", "Seeds": ", "}
    how = [column for column in rows[0] if column not in joined]
    said = {column: lambda texts, by=by: by.join(dict.fromkeys(texts)) for column, by in joined.items()}
    plan = pd.DataFrame(rows, dtype=object).groupby(how, sort=False).agg(said).reset_index()[list(rows[0])]
    note = (
        "Rates are the highest ones of a schedule; warm-up is a share of all steps, of a linear schedule; settings are "
        "those that differ from the system's own."
    )
    return for_page("Plan", frame(plan.to_dict("records")), [note])


# -- sentences -----------------------------------------------------------------------------------------------------


def _first_seeds(runs: Sequence[dict]) -> list[list[dict]]:
    """Runs by dataset and encoder, of each model the first seed."""
    grouped: dict[tuple[str, str], dict[str, dict]] = {}
    for run in runs:
        grouped.setdefault((run["dataset"], run["encoder"]), {}).setdefault(run["model"], run)
    return [list(models.values()) for models in grouped.values()]


def _browsed(results: Path, runs: Sequence[dict], grid: Grid) -> dict:
    """Gold and predictions of some runs on one test split, in small: types and spans as numbers.

    `sentences`: `[id, words, gold, prediction of each system]`; gold is `[entities, relations]`, a prediction
    `[entities, relations, errors]`; an entity `[type, start, end]`, a relation `[type, head, tail]`, an error
    `[kind, gold or -1, predicted or -1]`, positions in the lists of entities or relations by its kind.
    """
    data = results / "data" / runs[0]["dataset"]
    gold = read_sentences(data / "test.jsonl")
    predicted = [read_sentences(run["folder"] / "predictions.jsonl") for run in runs]
    labels = _with_unknown(Labels.read(data / "labels.json"), [s for of in predicted for s in of])
    return {
        "title": grid.where(runs[0]["dataset"], runs[0]["encoder"]),
        "systems": [_system(run, grid) for run in runs],
        "entity_types": labels.entity_types,
        "relation_types": labels.relation_types,
        "kinds": list(KINDS),
        "entity_kinds": len(ENTITY_KINDS),
        "sentences": [
            [g.id, g.tokens, _claims(g, labels)[0], *(_prediction(g, p, labels) for p in each)]
            for g, each in zip(gold, zip(*predicted, strict=True), strict=True)
        ],
    }


def _with_unknown(labels: Labels, predicted: Sequence[Sentence]) -> Labels:
    """The labels and, behind them, what else predictions made elsewhere have."""
    entities = dict.fromkeys([*labels.entity_types, *(e.type for s in predicted for e in s.entities)])
    relations = dict.fromkeys([*labels.relation_types, *(r.type for s in predicted for r in s.relations)])
    return Labels(tuple(entities), tuple(relations), labels.symmetric)


def _prediction(gold: Sentence, predicted: Sentence, labels: Labels) -> list:
    (_, gold_places), (listed, places) = _claims(gold, labels), _claims(predicted, labels)
    order = list(KINDS)
    errors = [
        [order.index(e.kind), gold_places.get(e.gold, -1), places.get(e.predicted, -1)]
        for e in sentence_errors(gold, predicted, labels.symmetric)
    ]
    return [*listed, errors]


def _claims(sentence: Sentence, labels: Labels) -> tuple[list[list], dict[tuple | None, int]]:
    """Entities and relations as lists of numbers, each claim once, and the place of each claim in its list."""
    places: dict[tuple | None, int] = {}
    entities: list[list[int]] = []
    relations: list[list[int]] = []
    numbers = []
    for e in sentence.entities:
        claim = (e.type, e.start, e.end)
        if claim not in places:
            places[claim] = len(entities)
            entities.append([labels.entity_types.index(e.type), e.start, e.end])
        numbers.append(places[claim])
    for r in sentence.relations:
        (claim,) = facts(sentence.with_labels(sentence.entities, [r]), "rel_plus", labels.symmetric)
        if claim not in places:
            places[claim] = len(relations)
            relations.append([labels.relation_types.index(r.type), numbers[r.head], numbers[r.tail]])
    return [entities, relations], places


def _embedded(value: object) -> Markup:
    """JSON that can stand in a script element."""
    return Markup(json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"))
