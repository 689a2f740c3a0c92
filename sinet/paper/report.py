"""One self-contained HTML page of a finished grid: tables, figures, cards, runs, plan, and every test sentence with
what each system made of it. Nothing is loaded from elsewhere: it opens without a network and can be mailed."""

import base64
import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import jinja2
from markdown_it import MarkdownIt
from markupsafe import Markup

from sinet.data.sentence import Labels, Sentence, read_sentences
from sinet.files import read_sealed, write_atomically
from sinet.grid.recipes import length, trainings
from sinet.paper.titles import dataset_title
from sinet.score.errors import ENTITY_KINDS, KINDS, RELATION_KINDS, sentence_errors
from sinet.score.metrics import facts

log = logging.getLogger("sinet")

PAGE = Path(__file__).with_name("page")
MEDIA = {"csv": "text/csv", "tex": "text/x-tex", "png": "image/png", "pdf": "application/pdf"}
MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "link", "autolink"])
"""No file of a grid links to anything, and the page loads nothing."""


def write_report(results: Path, plan: dict, out: Path) -> None:
    """Write the page of the grid whose outputs lie in `results`.

    Args:
        plan: as `sinet.grid.plan.Plan.declared`.

    Raises:
        OSError: naming an output that is not there.
    """
    records = {path: read_sealed(results / "runs" / path / "record.json") for path in plan["runs"]}
    titles = {
        kind: {name: dataset_title(name, d) for name, d in plan[f"{kind}s"].items()}
        for kind in ("dataset", "encoder", "model")
    }
    about = {
        key: _distinct(plan[f"{key}s"][r[key]]["title"] if f"{key}s" in plan else r[key] for r in records.values())
        for key in ("dataset", "encoder", "model", "seed", "split")
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("page.html.jinja").render(
        name=str(results),
        plan=plan,
        length=length,
        titles=titles,
        about=about,
        tables=[_table(results / "tables", name) for name in plan["tables"]],
        figures=[_figure(results / "figures", name) for name in plan["figures"]],
        cards=[
            _card(results / "data" / name / "card.md") for name in _distinct(r["dataset"] for r in records.values())
        ],
        records=records,
        machines=_machines(records),
        trainings=_trainings(records),
        kinds={"Entities": ENTITY_KINDS, "Triples": RELATION_KINDS},
        style=Markup((PAGE / "page.css").read_text(encoding="utf-8")),
        script=Markup((PAGE / "page.js").read_text(encoding="utf-8")),
        sentences=_embedded([_browsed(results, runs, records, titles) for runs in _first_seeds(records)]),
    )
    write_atomically(out, lambda partial: partial.write_text(page, encoding="utf-8"))
    log.info("wrote %s (%.1f MB): open it in a browser", out, out.stat().st_size / 1e6)


# -- tables, figures, cards ----------------------------------------------------------------------------------------


def _table(folder: Path, name: str) -> dict:
    title, body = _titled((folder / f"{name}.md").read_text(encoding="utf-8"))
    return {
        "name": name,
        "title": title,
        "body": body,
        "files": {ending: _inline(folder / f"{name}.{ending}") for ending in ("csv", "tex")},
    }


def _figure(folder: Path, name: str) -> dict:
    return {
        "name": name,
        "image": _inline(folder / f"{name}.png"),
        "width": _pixels(folder / f"{name}.png") // 2,
        "caption": _html((folder / f"{name}.md").read_text(encoding="utf-8")),
        "files": {"pdf": _inline(folder / f"{name}.pdf")},
    }


def _pixels(path: Path) -> int:
    """Width of a PNG, which stands in its header; half of its 300 dots an inch make a legible size on a screen."""
    return int.from_bytes(path.read_bytes()[16:20])


def _card(path: Path) -> dict:
    title, body = _titled(path.read_text(encoding="utf-8"))
    return {"name": path.parent.name, "title": title, "body": body}


def _titled(text: str) -> tuple[Markup, Markup]:
    """The heading that opens a Markdown file, and the rest, as HTML."""
    first, _, rest = text.partition("\n")
    return Markup(MARKDOWN.renderInline(first.removeprefix("# "))), _html(rest)


def _html(text: str) -> Markup:
    return Markup(MARKDOWN.render(text))


def _inline(path: Path) -> str:
    return f"data:{MEDIA[path.suffix[1:]]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _machines(records: dict[str, dict]) -> list[dict]:
    """Machines, commits and versions that the runs were trained with, each with its runs."""
    machines: dict[str, dict] = {}
    for path, record in records.items():
        described = {k: record[k] for k in ("device_name", "device", "threads", "git_commit", "versions")}
        machines.setdefault(json.dumps(described, sort_keys=True), described | {"runs": []})["runs"].append(path)
    return list(machines.values())


def _trainings(records: dict[str, dict]) -> list[dict]:
    """How each model, or part of it, is trained: its recipe and settings, where, with which seeds."""
    trained: dict[str, dict] = {}
    for record in records.values():
        for part, training in trainings(record["recipe"]):
            how = {"recipe": training | {"name": record["recipe"]["name"], "length": length(training)}}
            how |= {"model": record["model"], "part": part, "settings": record["settings"]}
            group = trained.setdefault(json.dumps(how, sort_keys=True), how | {"places": {}, "seeds": {}})
            group["places"][record["dataset"], record["encoder"]] = None
            group["seeds"][record["seed"]] = None
    return list(trained.values())


# -- sentences -----------------------------------------------------------------------------------------------------


def _first_seeds(records: dict[str, dict]) -> list[list[str]]:
    """Runs by dataset and encoder, of each model the first seed."""
    grouped: dict[tuple[str, str], dict[str, str]] = {}
    for path, record in records.items():
        grouped.setdefault((record["dataset"], record["encoder"]), {}).setdefault(record["model"], path)
    return [list(models.values()) for models in grouped.values()]


def _browsed(results: Path, runs: Sequence[str], records: dict[str, dict], titles: dict[str, dict]) -> dict:
    """Gold and predictions of some runs on one test split, in small: types and spans as numbers.

    `sentences`: `[id, words, gold, prediction of each system]`; gold is `[entities, relations]`, a prediction
    `[entities, relations, errors]`; an entity `[type, start, end]`, a relation `[type, head, tail]`, an error
    `[kind, gold or -1, predicted or -1]`, positions in the lists of entities or relations by its kind.
    """
    data = results / "data" / records[runs[0]]["dataset"]
    labels = Labels.read(data / "labels.json")
    gold = read_sentences(data / "test.jsonl")
    predicted = [read_sentences(results / "runs" / path / "predictions.jsonl") for path in runs]
    first = records[runs[0]]
    return {
        "title": f"{titles['dataset'][first['dataset']]}, {titles['encoder'][first['encoder']]}",
        "systems": [f"{titles['model'][records[r]['model']]}, seed {records[r]['seed']}" for r in runs],
        "entity_types": labels.entity_types,
        "relation_types": labels.relation_types,
        "kinds": list(KINDS),
        "entity_kinds": len(ENTITY_KINDS),
        "sentences": [
            [g.id, g.tokens, _claims(g, labels)[0], *(_prediction(g, p, labels) for p in each)]
            for g, each in zip(gold, zip(*predicted, strict=True), strict=True)
        ],
    }


def _prediction(gold: Sentence, predicted: Sentence, labels: Labels) -> list:
    (_, gold_places), (listed, places) = _claims(gold, labels), _claims(predicted, labels)
    order = list(KINDS)
    errors = [
        [order.index(e.kind), gold_places.get(e.gold, -1), places.get(e.predicted, -1)]
        for e in sentence_errors(gold, predicted, labels.symmetric)
    ]
    return [*listed, errors]


def _claims(sentence: Sentence, labels: Labels) -> tuple[list[list], dict[tuple, int]]:
    """Entities and relations as lists of numbers, each claim once, and the place of each claim in its list."""
    places: dict[tuple, int] = {}
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


def _distinct(values: Iterable) -> list:
    return list(dict.fromkeys(values))
