"""The figures of runs as one tidy frame, a row a run and figure: what tables and figures group and pivot.

A figure that a record or an analysis gains is one more row here (`_figures`), and then a selection in a table.
"""

from collections.abc import Iterator, Sequence, Set
from pathlib import Path

import pandas as pd

from sinet.evaluate.metrics import METRICS, REL_GOLD_ENTITIES
from sinet.files import read_sealed

TEST, DEV, NOT_SEEN = "test", "dev", "test without sentences of train"
PLACE = ["dataset", "encoder", "recipe"]
"""Where systems can be compared; `dataset` is the whole one, `fold` the one that a run is of."""
RUN = [*PLACE, "model", "seed", "fold"]
ALL, TYPE, MATCHING, ERROR, NO_RELATION = "all", "type", "matching", "error", "no relation"
"""Slicings besides those of `sinet.evaluate.slices.CLASSES`: none, by entity or relation type, strict and relaxed
matching, kinds of error, and the sentences without a gold relation."""
NO_COUNT = float("nan")
COLUMNS = [*RUN, "split", "metric", "slicing", "label", "value", "gold", "predicted", "correct", "sentences"]


def read_runs(records: Sequence[Path], analyses: bool = True) -> list[dict]:
    """The records of runs, each with its `folder` and, where it is asked for, its `analysis`."""
    runs = []
    for path in records:
        run = read_sealed(path, "dataset", "model", "seed", "recipe", "test_sentences")
        run["folder"] = path.parent
        if analyses:
            run["analysis"] = read_sealed(path.with_name("analysis.json"))
        runs.append(run)
    return runs


def tidy(runs: Sequence[dict], whole: dict[str, str]) -> pd.DataFrame:
    """A row for each run and figure, with COLUMNS.

    `value` is F1 x 100, of an ERROR the number of such errors; `gold`, `predicted` and `correct` count claims,
    `sentences` those of a class; of NOT_SEEN those that are left out. Of sentences with NO_RELATION, `predicted` counts
    relations or sentences. On test symmetric types are direction-free; on dev relations are matched as the recipe has
    it. What the analysis of some run does not hold, as it is of an earlier version, there is of none.

    Args:
        runs: as `read_runs`. whole: dataset of each fold.
    """
    rows: list[tuple] = []
    held = set.intersection(*(set(run.get("analysis", ())) for run in runs)) if runs else set()
    for run in runs:
        place = whole[run["dataset"]], run["encoder"], run["recipe"]["name"]
        rows += ((*place, run["model"], run["seed"], run["dataset"], *figure) for figure in _figures(run, held))
    return pd.DataFrame(rows, columns=COLUMNS)


def _figures(run: dict, held: Set[str]) -> Iterator[tuple]:
    for metric in METRICS:
        if metric in run["dev"]:
            yield DEV, metric, ALL, "", run["dev"][metric], *[NO_COUNT] * 4
        scores = run["scores"]["symmetric"][metric]
        for slicing, classes in ((ALL, {"": scores}), (TYPE, scores["types"])):
            yield from (_f1(metric, slicing, label, figures) for label, figures in classes.items())
    if figures := run["scores"]["symmetric"].get(REL_GOLD_ENTITIES):
        yield _f1(REL_GOLD_ENTITIES, ALL, "", figures)
    analysis = {key: run["analysis"][key] for key in held}
    for slicing, classes in analysis.get("slices", {}).items():
        for label, of in classes.items():
            yield from (_f1(m, slicing, label, of[m], of.get("sentences", NO_COUNT)) for m in METRICS if m in of)
    for kind, errors in analysis.get("errors", {}).items():
        yield TEST, ERROR, ERROR, kind, errors["count"], *[NO_COUNT] * 4
    for metric in METRICS:
        matchings = dict(analysis.get("relaxed", {}).get(metric, {}))
        if twice := analysis.get("symmetric_twice", {}).get(metric):
            matchings["symmetric twice"] = twice
        if matchings:
            matchings = {"strict": run["scores"]["symmetric"][metric]} | matchings
        yield from (_f1(metric, MATCHING, matching, figures) for matching, figures in matchings.items())
    if of := analysis.get("without_gold_relations"):
        for label in ("relations", "predicted_in"):
            yield TEST, "rel_plus", NO_RELATION, label, NO_COUNT, NO_COUNT, of[label], NO_COUNT, of["sentences"]
    if of := analysis.get("without_seen"):
        yield from (_f1(metric, ALL, "", of[metric], of["seen"], NOT_SEEN) for metric in METRICS)


def _f1(metric: str, slicing: str, label: str, figures: dict, sentences: float = NO_COUNT, split: str = TEST) -> tuple:
    counts = figures["gold"], figures["predicted"], figures["correct"]
    return split, metric, slicing, label, figures["f1"], *counts, sentences
