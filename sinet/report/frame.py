"""The figures of runs as one tidy frame, a row a run and figure: what tables and figures group and pivot.

A figure that a record or an analysis gains is one more row here (`_figures`), and then a selection in a table.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from sinet.evaluate.metrics import METRICS, REL_GOLD_ENTITIES
from sinet.files import read_sealed

TEST, DEV = "test", "dev"
PLACE = ["dataset", "encoder", "recipe"]
"""Where systems can be compared; `dataset` is the whole one, `fold` the one that a run is of."""
RUN = [*PLACE, "model", "seed", "fold"]
ALL, TYPE, ERROR = "all", "type", "error"
"""Slicings besides those of `sinet.evaluate.slices.CLASSES`: none, by entity or relation type, and kinds of error."""
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


def tidy(runs: Iterable[dict], whole: dict[str, str]) -> pd.DataFrame:
    """A row for each run and figure, with COLUMNS.

    `value` is F1 x 100, of an ERROR the number of such errors; `gold`, `predicted` and `correct` count claims,
    `sentences` those of a class. On test symmetric types are direction-free; on dev relations are matched as the recipe
    has it.

    Args:
        runs: as `read_runs`. whole: dataset of each fold.
    """
    rows: list[tuple] = []
    for run in runs:
        place = whole[run["dataset"]], run["encoder"], run["recipe"]["name"]
        rows += ((*place, run["model"], run["seed"], run["dataset"], *figure) for figure in _figures(run))
    return pd.DataFrame(rows, columns=COLUMNS)


def _figures(run: dict) -> Iterator[tuple]:
    for metric in METRICS:
        if metric in run["dev"]:
            yield DEV, metric, ALL, "", run["dev"][metric], *[NO_COUNT] * 4
        scores = run["scores"]["symmetric"][metric]
        for slicing, classes in ((ALL, {"": scores}), (TYPE, scores["types"])):
            yield from (_f1(metric, slicing, label, figures) for label, figures in classes.items())
    if figures := run["scores"]["symmetric"].get(REL_GOLD_ENTITIES):
        yield _f1(REL_GOLD_ENTITIES, ALL, "", figures)
    if "analysis" in run:
        for slicing, classes in run["analysis"]["slices"].items():
            for label, of in classes.items():
                yield from (_f1(m, slicing, label, of[m], of.get("sentences", NO_COUNT)) for m in METRICS if m in of)
        for kind, errors in run["analysis"]["errors"].items():
            yield TEST, ERROR, ERROR, kind, errors["count"], *[NO_COUNT] * 4


def _f1(metric: str, slicing: str, label: str, figures: dict, sentences: float = NO_COUNT) -> tuple:
    counts = figures["gold"], figures["predicted"], figures["correct"]
    return TEST, metric, slicing, label, figures["f1"], *counts, sentences
