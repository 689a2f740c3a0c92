"""Where systems are right and wrong: F1 by type, by matching and by slice of the test split, errors by kind."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pandas as pd

from sinet.evaluate.errors import ENTITY_KINDS, KINDS, RELATION_KINDS
from sinet.evaluate.metrics import figures
from sinet.evaluate.slices import TITLES
from sinet.report.frame import ERROR, MATCHING, NO_RELATION, PLACE, TEST, TYPE
from sinet.report.grid import METRICS, NO_GOLD, WHY_EMPTY, Grid, Place
from sinet.report.table import NO_FIGURE, Cell, Table, frame, mean_sd, number, tidy_line

HIGHEST = "Highest"
CLAIMS = ("Gold", "Predicted")
EXAMPLES = ("Dataset", "Encoder", "System", "Error", *CLAIMS, "Sentence")
INVENTED = {
    "relations": ("Relations predicted", "how many are predicted per sentence"),
    "predicted_in": ("Share with a relation", "the share in which at least one is predicted"),
}
"""Figures of what is predicted in sentences without a gold relation, and what they mean."""
NOT_TESTED = (
    f"{HIGHEST}: the system with the largest mean; single classes are not tested for significance, so nothing is bold."
)


def types_table(grid: Grid) -> Table:
    """F1 and support of every entity type (Ent) and relation type (Rel, Rel+)."""
    made = _by_class(grid, TYPE, "Type", " of ")
    notes = f"Micro F1 x 100 of each type{_pooled(grid)}. Gold: its claims in the gold of the test split.", NOT_TESTED
    return _table(grid, "types", "By type", made, notes)


def relaxed_table(grid: Grid) -> Table:
    """F1 under the strict matching and the relaxed ones."""
    made = _by_class(grid, MATCHING, "Matching", ", ")
    notes = (
        f"Micro F1 x 100{_pooled(grid)}; symmetric types direction-free. Matchings as in SemEval-2013 Task 9: strict, "
        "boundaries and types of entities, as in the main table; exact, boundaries, any type; partial, a shared word, "
        "any type, one half where the boundaries differ; type, a shared word and the type. A relation needs its own "
        "type, and both arguments so. A claim is paired with one other at most, as many as can be. Symmetric "
        "twice: strict, a relation of a symmetric type counted twice, as in PL-Marker's scorer.",
        *([] if made else ["Empty: runs were analysed by a version that did not count this."]),
        NOT_TESTED,
    )
    columns = "Dataset", "Encoder", "Figure", "Matching"
    return _table(grid, "relaxed", "Relaxed matching", made, notes, columns)


def _by_class(grid: Grid, slicing: str, column: str, joined: str) -> list[tuple[dict, list[dict]]]:
    """A row for each metric and class of a slicing: the class in a `column` of its own, and in the csv `joined` to the
    metric."""
    made = []
    for place, metric, _, label, support, f1 in _classes(grid, [slicing]):
        name = METRICS[metric]
        cells, lines = _of_class(grid, place, f"{name}{joined}{label}", support["gold"], f1)
        made.append((_where(grid, place) | {"Figure": name, column: label} | cells, lines))
    return made


def slices_table(grid: Grid) -> Table:
    """F1 by sentence length, number of triples, overlap pattern and distance; Ent and Rel+ to read, Rel in the csv."""
    made = []
    for place, metric, slicing, label, support, f1 in _classes(grid, TITLES):
        name, title = METRICS[metric], TITLES[slicing]
        cells, lines = _of_class(grid, place, f"{name}, {title.lower()} {label}", support["gold"], f1, "System")
        sentences = NO_FIGURE if slicing == "distance" else number(support["sentences"], 0)
        head = {"Figure": name, "Slice": title, "Class": label, "Sentences": sentences}
        made.append((None if metric == "rel" else _where(grid, place) | head | cells, lines))
    made += _without_gold_relations(grid)
    notes = (
        f"Micro F1 x 100 over the claims of each class{_pooled(grid)}. Length, triples and overlap "
        "choose sentences by their gold, distance chooses gold and predicted relations; gold: claims of the class in "
        "the gold of the test split. No gold: the class has none, so there is no F1.",
        "Overlap (Zeng et al., 2018): normal, no two triples of the sentence share an entity; EPO, two triples hold of "
        "the same two entities; SEO, two triples share one entity only; a sentence may have both.",
        *(f"{figure}: of the sentences without a gold relation, {meaning}." for figure, meaning in INVENTED.values()),
        NOT_TESTED,
    )
    return _table(grid, "slices", "By slice", made, notes)


def _without_gold_relations(grid: Grid) -> Iterator[tuple[dict, list]]:
    """Rows of what is predicted in sentences without gold relations, those of all folds of a seed together."""
    of_figure = [*PLACE, "label"]
    of = grid.figures[(grid.figures["slicing"] == NO_RELATION) & (grid.figures["sentences"] > 0)]
    totals = of.groupby([*of_figure, "model", "seed"], sort=False)[["predicted", "sentences"]].sum()
    means = _by_model(totals["predicted"] / totals["sentences"])
    sentences = of.drop_duplicates([*of_figure, "fold"]).groupby(of_figure, sort=False)["sentences"].sum()
    for key, n in sentences.to_dict().items():
        place, (figure, _) = Place(*key[:3]), INVENTED[key[3]]
        there = {model: means[*key, model] for model in grid.models() if (*key, model) in means}
        cells, lines = _cells(grid, place, figure, there, group="System", digits=3)
        head = {"Figure": figure, "Slice": TITLES["triples"], "Class": "0", "Sentences": number(n, 0)}
        yield _where(grid, place) | head | {"Gold": number(0, 0)} | cells | {HIGHEST: NO_FIGURE}, lines


def errors_table(grid: Grid) -> Table:
    """Wrong claims by kind, mean over the seeds of each system."""
    kinds = {kind: [kind] for kind in KINDS}
    kinds |= {"all errors of entities": [*ENTITY_KINDS], "all errors of relations": [*RELATION_KINDS]}
    errors = grid.figures[grid.figures["slicing"] == ERROR].set_index("label")
    counts = {
        name: _by_model(errors.loc[errors.index.isin(of)].groupby([*PLACE, "model", "seed"], sort=False)["value"].sum())
        for name, of in kinds.items()
    }
    made = []
    for place, kind in itertools.product(grid.measured(), kinds):
        there = {model: of for (*at, model), of in counts[kind].items() if at == [*place]}
        cells, lines = _cells(grid, place, kind, there, digits=1)
        made.append((_where(grid, place) | {"Error": kind} | cells, lines))
    notes = (
        "Errors of the test split, strict matching (Ent; Rel+), symmetric types direction-free. Each wrong claim, gold "
        "or predicted, belongs to one error; a gold and a predicted claim that nearly agree are one error together. "
        "Counts of a dataset in folds are sums over its folds; they are not tested for significance, so nothing is "
        "bold.",
        *(f"{kind}: {meaning}." for kind, meaning in KINDS.items()),
    )
    return _table(grid, "errors", "Errors", made, notes)


def examples_table(grid: Grid) -> Table:
    """An example of each kind of error of each system; in the csv all that the analyses hold."""
    lines = [
        {key.lower(): text for key, text in _where(grid, place).items()}
        | {side: example.get(side, "nothing") for side in map(str.lower, CLAIMS)}
        | {"system": grid.title("models", model), "error": kind, "sentence": example["id"]}
        | {"seed": run["seed"], "words": example["text"]}
        for place in grid.measured()
        for model in grid.models(place)
        for run in grid.at(place, model)[:1]
        for kind in KINDS
        for example in run["analysis"]["errors"][kind]["examples"]
    ]
    table = pd.DataFrame(lines, columns=[*map(str.lower, EXAMPLES), "seed", "words"])
    first = table.drop_duplicates(["dataset", "encoder", "system", "error"]).to_dict("records")
    rows = [{name: line[name.lower()] for name in EXAMPLES} for line in first]
    notes = (
        "Of each system and kind of error the first in a short sentence of the first seed's run (of a dataset in folds "
        "its first fold); a kind without a line has none. The csv holds up to three of each, with the words.",
        *(f"{kind}: {meaning}." for kind, meaning in KINDS.items()),
        *grid.protocol(),
    )
    prose = (*CLAIMS, "Sentence")
    return Table("error_examples", "Examples of errors", frame(rows, EXAMPLES), table, notes, prose)


def _table(
    grid: Grid,
    name: str,
    title: str,
    made: Sequence[tuple[dict | None, list]],
    notes: tuple[str, ...],
    columns: Iterable[str] = (),
) -> Table:
    return Table.of(name, title, made, (*notes, WHY_EMPTY, *grid.numbers(), *grid.protocol()), columns)


def _pooled(grid: Grid) -> str:
    folds = any(grid.whole(run["dataset"]) != run["dataset"] for run in grid.runs)
    return ", of a dataset in folds over the claims of all folds of a seed together" if folds else ""


def _where(grid: Grid, place: Place) -> dict[str, str]:
    several = len({p.recipe for p in grid.places()}) > 1
    encoder = grid.title("encoders", place.encoder) + (f", {place.recipe}" if several else "")
    return {"Dataset": grid.title("datasets", place.dataset), "Encoder": encoder}


def _classes(grid: Grid, slicings: Iterable[str]) -> Iterator[tuple[Place, str, str, str, dict, dict]]:
    """Place, metric, slicing and label of each class, its support (`gold`, `sentences`), and by model the F1 of each
    seed over the claims of all folds."""
    of_class = [*PLACE, "metric", "slicing", "label"]
    of = grid.figures[grid.figures["slicing"].isin([*slicings])]
    counts = of.groupby([*of_class, "model", "seed"], sort=False)[["correct", "predicted", "gold"]].sum()
    f1 = _by_model(pd.Series(figures(counts.to_numpy())[..., 2], counts.index))
    support = of.drop_duplicates([*of_class, "fold"]).groupby(of_class, sort=False)[["gold", "sentences"]].sum()
    places, metrics = grid.measured(), list(METRICS)
    classes = support.to_dict("index")
    for key in sorted(classes, key=lambda key: (places.index(key[:3]), metrics.index(key[3]))):
        yield Place(*key[:3]), *key[3:], classes[key], {m: f1[*key, m] for m in grid.models() if (*key, m) in f1}


def _by_model(seeds: pd.Series) -> dict[tuple, list[float]]:
    """The figures of all seeds together, by the other keys."""
    return seeds.groupby(level=[name for name in seeds.index.names if name != "seed"], sort=False).agg(list).to_dict()


def _of_class(
    grid: Grid, place: Place, figure: str, gold: float, f1: Mapping[str, list[float]], group: str = "F1"
) -> tuple[dict, list[dict]]:
    """Cells and csv lines of a class: support, F1 of each system and the highest one."""
    cells, lines = _cells(grid, place, figure, f1, group) if gold else ({}, [])
    if not gold:
        cells = {(group, grid.title("models", model)): NO_GOLD for model in grid.models()}
    means = {line["system"]: line["mean"] for line in lines}
    best = [name for name, mean in means.items() if mean == max(means.values())]
    highest = ", ".join(best) if 0 < len(best) < len(means) else NO_FIGURE
    return {"Gold": number(gold, 0)} | cells | {HIGHEST: highest}, lines


def _cells(
    grid: Grid, place: Place, figure: str, of: Mapping[str, list[float]], group: str = "", digits: int = 2
) -> tuple[dict, list[dict]]:
    """A cell of each system under a head `group`, and csv lines of those that have figures.

    Args:
        of: the figures of each seed of a model. digits: of means over several seeds; counts of one seed are whole.
    """
    cells, lines = {}, []
    for model in grid.models():
        title, values = grid.title("models", model), grid.why_none(place, model) or of[model]
        if isinstance(values, Cell):
            cells[group, title] = values
            continue
        cells[group, title] = mean_sd(values, digits if len(values) > 1 or group else 0)
        where = grid.title("encoders", place.encoder), grid.title("datasets", place.dataset)
        source = grid.source(place.recipe, grid.at(place, model), [TEST])
        lines.append(tidy_line(source, title, *where, figure, values, grid.seeds(place, model), place.recipe, TEST))
    return cells, lines
