"""The table of multiply-adds and speed: what the deck prints, and what was counted and timed here."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from sinet.files import read_json
from sinet.paper.grid import FAILED, NOT_REPORTED, NOT_RUN, Grid
from sinet.paper.table import NO_FIGURE, Table, frame, tidy_line
from sinet.published import DATASETS as PUBLISHED_DATASETS
from sinet.published import is_system

DECK_ENCODERS = {"scierc": ("SciBERT", "scibert-sizes"), "ace05": ("ALBERT", "albert-xxlarge-sizes")}
SPEED_COLUMNS = {
    (precision, kind): f"Sentences/s, {precision}, {title}"
    for precision in ("float32", "bfloat16")
    for kind, title in (("batch_1", "batch 1"), ("best", "best batch"))
}
RANDOM_WEIGHTS = "random weights"
SHOWN_WORDS = "32"
"""The length whose count in the deck's architectures stands in the table; all are in the csv."""
AS_PUBLISHED = "as published"
"""The formulation of a system whose published count is of another form than ours."""
NOT_COUNTED, NOT_TIMED = "not counted", "not timed"
COUNT_COLUMNS = {"encoder": "Encoder FLOPs (M)", "heads": "Head FLOPs (M)", "total": "Total FLOPs (M)"}
EFFICIENCY_COLUMNS = (
    *COUNT_COLUMNS.values(),
    *("FLOPs / SINET's", "Ours equals it at (words)"),
    *SPEED_COLUMNS.values(),
    *("Inference (s)", "Time / SINET's"),
)


def efficiency_table(grid: Grid, published: dict, folders: Sequence[Path]) -> Table:
    """Multiply-adds and speed of inference; the deck states neither input, batch nor device for its figures.

    `folders`: `.../{dataset}/{encoder}` with `flops.json` and `timing.json`.
    """
    measured = {folder.parts[-2:]: _read_efficiency(folder) for folder in sorted(folders)}
    architectures = {}  # of any measured dataset: counts by length hardly depend on it
    for flops, _ in measured.values():
        architectures |= flops["architectures"]
    rows, lines = _published(grid, published, architectures)
    notes = [
        f"Published: the deck states no unit, input, batch size or device. {NOT_REPORTED}: not reported there. Ours "
        "equals it at: the sentence length at which our count, in the deck's encoder architecture with random weights "
        "and with relations between gold entities, reaches the deck's figure (of a system whose released form does "
        f"more work than ours, our count {AS_PUBLISHED}). Sentences are cut by MiniLM's word pieces."
    ]
    for place, (flops, timing) in measured.items():
        for more_rows, more_lines in (_trained(grid, place, flops, timing), _untrained(grid, place, flops, timing)):
            rows += more_rows
            lines += more_lines
        notes += _notes(grid, place, flops, timing)
    more_rows, more_notes = _unmeasured(grid, {(grid.whole(dataset), encoder) for dataset, encoder in measured})
    notes += more_notes
    return Table("efficiency", "Efficiency", frame(rows + more_rows), pd.DataFrame(lines), (*notes, *grid.remarks()))


def _published(grid: Grid, published: dict, architectures: dict) -> tuple[list[dict], list[dict]]:
    """Rows and csv lines of the deck's figures."""
    rows, lines = [], []
    for dataset, entries in published.items():
        reference = next(entry for entry in entries if entry["system"] == "SINET")
        title, kind = DECK_ENCODERS[dataset]
        where = PUBLISHED_DATASETS[dataset], title
        for entry in entries:
            texts = {
                "Total FLOPs (M)": f"{entry['flops_m']:,}",
                "FLOPs / SINET's": f"{entry['flops_m'] / reference['flops_m']:.2f}",
                "Ours equals it at (words)": _length_of(entry, architectures.get(kind), grid.declared["models"]),
                "Inference (s)": f"{entry['inference_s']:,}",
                "Time / SINET's": f"{entry['inference_s'] / reference['inference_s']:.2f}",
            }
            rows.append(_row(entry["system"], *where, "published", texts))
            lines += [
                tidy_line("published", entry["system"], where[1], where[0], figure, [entry[key]])
                for figure, key in (("Total FLOPs (M)", "flops_m"), ("Inference (s)", "inference_s"))
            ]
    return rows, lines


def _trained(grid: Grid, place: tuple[str, str], flops: dict, timing: dict) -> tuple[list[dict], list[dict]]:
    """Rows and csv lines of the trained runs of one dataset and encoder, and of their other formulations."""
    rows, lines = [], []
    dataset, encoder = grid.title("datasets", place[0]), grid.title("encoders", place[1])
    sinet = _sinet(grid, flops["systems"])
    for model, counted in flops["systems"].items():
        title = grid.title("models", model)
        best = timing["systems"][model]["float32"]["best"]
        figures = _count_figures(counted) | _speed_figures(timing, model) | {"Inference (s)": best["median_s"]}
        texts = _texts(figures) | {"Inference (s)": _quartiles(best)}
        if sinet:
            reference = timing["systems"][sinet]["float32"]["best"]["median_s"]
            figures["FLOPs / SINET's"] = counted["total"] / flops["systems"][sinet]["total"]
            figures["Time / SINET's"] = best["median_s"] / reference
            texts |= {name: f"{figures[name]:.2f}" for name in ("FLOPs / SINET's", "Time / SINET's")}
        rows.append(_row(f"{title} (ours)", dataset, encoder, "measured", texts))
        lines += [tidy_line("measured", title, encoder, dataset, name, [value]) for name, value in figures.items()]
        for formulation, other in counted["formulations"].items():
            figures = _count_figures(other)
            texts = _texts(figures) | dict.fromkeys(SPEED_COLUMNS.values(), NOT_TIMED)
            name = f"{title}, {formulation}"
            rows.append(_row(f"{name} (ours)", dataset, encoder, "measured", texts))
            lines += [tidy_line("measured", name, encoder, dataset, n, [v]) for n, v in figures.items()]
    return rows, lines


def _untrained(grid: Grid, place: tuple[str, str], flops: dict, timing: dict) -> tuple[list[dict], list[dict]]:
    """Rows and csv lines of the architectures with random weights, those timed and those counted."""
    dataset = grid.title("datasets", place[0])
    rows, lines = _timed_around(grid, dataset, timing["architectures"])
    more_rows, more_lines = _counted_around(grid, dataset, flops["architectures"])
    return rows + more_rows, lines + more_lines


def _timed_around(grid: Grid, dataset: str, architectures: dict) -> tuple[list[dict], list[dict]]:
    rows, lines = [], []
    for kind, timed in architectures.items():
        encoder, sinet = grid.title("encoders", kind), _sinet(grid, timed["systems"])
        for model, figures in timed["systems"].items():
            values = {SPEED_COLUMNS["float32", "batch_1"]: figures["sentences_per_s"]}
            values["Inference (s)"] = figures["median_s"]
            texts = _texts(values) | {"Inference (s)": _quartiles(figures)}
            if sinet:
                ratio = figures["median_s"] / timed["systems"][sinet]["median_s"]
                values["Time / SINET's"], texts["Time / SINET's"] = ratio, f"{ratio:.2f}"
            title = grid.title("models", model)
            rows.append(_row(f"{title} (ours)", dataset, encoder, RANDOM_WEIGHTS, texts))
            lines += [tidy_line(RANDOM_WEIGHTS, title, encoder, dataset, n, [v]) for n, v in values.items()]
    return rows, lines


def _counted_around(grid: Grid, dataset: str, architectures: dict) -> tuple[list[dict], list[dict]]:
    """A row of each formulation at `SHOWN_WORDS` words, csv lines at every length."""
    rows, lines = [], []
    counts = [(kind, model, counted) for kind, systems in architectures.items() for model, counted in systems.items()]
    for kind, model, counted in counts:
        title, encoder = grid.title("models", model), grid.title("encoders", kind)
        sinet = _sinet(grid, architectures[kind])
        forms = {title: counted["by_words"]}
        forms |= {f"{title}, {formulation}": other for formulation, other in counted["formulations"].items()}
        for name, by_words in forms.items():
            lines += [
                tidy_line(RANDOM_WEIGHTS, name, encoder, dataset, f"{column}, {n} words", [c[part] / 1e6])
                for n, c in by_words.items()
                for part, column in COUNT_COLUMNS.items()
            ]
            if SHOWN_WORDS not in by_words:
                continue
            figures = by_words[SHOWN_WORDS]
            texts = _texts({column: figures[part] / 1e6 for part, column in COUNT_COLUMNS.items()})
            texts |= dict.fromkeys((*SPEED_COLUMNS.values(), "Inference (s)"), NOT_TIMED)
            if sinet:
                reference = architectures[kind][sinet]["by_words"][SHOWN_WORDS]["total"]
                texts["FLOPs / SINET's"] = f"{figures['total'] / reference:.2f}"
            rows.append(_row(f"{name} (ours)", dataset, encoder, f"{RANDOM_WEIGHTS}, {SHOWN_WORDS} words", texts))
    return rows, lines


def _unmeasured(grid: Grid, measured: set[tuple[str, str]]) -> tuple[list[dict], list[str]]:
    """Rows of the systems on a planned dataset and encoder of which nothing was measured, and why.

    Args:
        measured: datasets (all their folds) and encoders.
    """
    rows, notes = [], []
    for dataset, encoder in dict.fromkeys(place[:2] for place in grid.places() if place[:2] not in measured):
        places = [place for place in grid.places() if place[:2] == (dataset, encoder)]
        systems = [(p, m) for p in places for m in grid.models(p) if is_system(grid.declared["models"][m])]
        where = grid.title("datasets", dataset), grid.title("encoders", encoder)
        for place, model in systems:
            texts = dict.fromkeys(COUNT_COLUMNS.values(), NOT_COUNTED)
            texts |= dict.fromkeys((*SPEED_COLUMNS.values(), "Inference (s)"), NOT_TIMED)
            if not grid.at(place, model):
                texts = dict.fromkeys(texts, FAILED)
            rows.append(_row(f"{grid.title('models', model)} (ours)", *where, "measured", texts))
        if systems:
            lost, kept = (
                [p for p in paths if (grid.whole(p.split("/")[0]), p.split("/")[1]) == (dataset, encoder)]
                for paths in ([path for path, _ in grid.declared["failed"]], grid.declared["kept"])
            )
            kept = [path for path in kept if is_system(grid.declared["models"][path.split("/")[2]])]
            reasons = [f"no result of {', '.join(lost)}"] * bool(lost)
            reasons += [f"{len(kept)} of their runs are kept without weights"] * bool(kept)
            why = "; ".join(reasons) or "counting or timing has not come to its end"
            notes.append(f"{', '.join(where)}: all systems are counted and timed together; {why}.")
    return rows, notes


def _sinet(grid: Grid, models: Iterable[str]) -> str | None:
    return next((m for m in models if grid.declared["models"][m].get("published") == "SINET"), None)


def _quartiles(figures: dict) -> str:
    return "{:.2f} [{:.2f}, {:.2f}]".format(figures["median_s"], *figures["quartiles_s"])


def _read_efficiency(folder: Path) -> tuple[dict, dict]:
    return tuple(read_json(folder / f"{name}.json") for name in ("flops", "timing"))


def _count_figures(counted: dict) -> dict[str, float]:
    return {column: counted[part] / 1e6 for part, column in COUNT_COLUMNS.items()} | {
        f"{column}, {words} words": figures[part] / 1e6
        for words, figures in counted["by_words"].items()
        for part, column in COUNT_COLUMNS.items()
    }


def _speed_figures(timing: dict, model: str) -> dict[str, float]:
    return {
        SPEED_COLUMNS[precision, kind]: figures["sentences_per_s"]
        for precision, kinds in timing["systems"][model].items()
        for kind, figures in kinds.items()
    }


def _texts(figures: dict[str, float]) -> dict[str, str]:
    return {name: f"{value:,.1f}" for name, value in figures.items() if name in EFFICIENCY_COLUMNS}


def _length_of(entry: dict, counted: dict | None, models: dict) -> str:
    """At how many words our count of a published system's architecture equals its figure, and why there is none."""
    if counted is None:
        return NOT_COUNTED
    model = next((m for m in counted if models[m].get("published") == entry["system"]), None)
    if model is None:
        return NOT_RUN
    by_words = counted[model]["formulations"].get(AS_PUBLISHED, counted[model]["by_words"])
    return words_at(by_words, entry["flops_m"] * 1e6)


def words_at(by_words: dict[str, dict], multiply_adds: float) -> str:
    """The sentence length in words at which a count reaches `multiply_adds`, linear between the lengths counted; beyond
    them, which."""
    points = sorted((int(words), figures["total"]) for words, figures in by_words.items())
    if multiply_adds < points[0][1]:
        return f"below {points[0][0]}"
    for (low, below), (high, above) in itertools.pairwise(points):
        if multiply_adds <= above:
            return f"{low + (high - low) * (multiply_adds - below) / (above - below):.1f}"
    return f"beyond {points[-1][0]}"


def _notes(grid: Grid, place: tuple[str, str], flops: dict, timing: dict) -> list[str]:
    counted = next(iter(flops["systems"].values()))
    where = f"{grid.title('datasets', place[0])}, {grid.title('encoders', place[1])}"
    titles = {m: grid.title("models", m) for m in flops["systems"]}
    weights = "; ".join(f"{titles[m]} {_weights(grid.runs, *place, m)}" for m in flops["systems"])
    batches = "; ".join(
        f"{titles[m]} " + ", ".join(f"{kinds['best']['batch']} ({precision})" for precision, kinds in timed.items())
        for m, timed in timing["systems"].items()
    )
    repeats = min(k["repeats"] for t in timing["systems"].values() for kinds in t.values() for k in kinds.values())
    notes = [
        f"{where}, ours: FLOPs are multiply-adds per sentence (unit: one multiply-add = 1), mean over "
        f"{counted['sentences']} of the {flops['of_sentences']} sentences of the {flops['split']} split at even steps "
        f"of length ({counted['word_pieces']:.1f} word pieces on average), counted by fvcore under eager attention, "
        "nothing padded.",
        f"{where}, ours: speed of inference, token ids to triples, over {timing['sentences']} of the "
        f"{timing['of_sentences']} sentences, sorted by length; median of {repeats} or more passes and "
        f"{timing['least_seconds']:g} s or more, order shuffled, "
        f"{timing['device_name']} ({timing['device']}, {timing['threads']} threads), {_company(timing)}. Inference "
        f"(s): median [quartiles] of one pass, float32, best batch. Best batches: {batches}."
        " Tokenising apart: at most "
        f"{1e3 * max(timing['tokenising_s'].values()) / timing['sentences']:.2f} ms a sentence."
        + (f" {timing['not_timed']}." if timing["not_timed"] else ""),
        f"{where}, weights: {weights}.",
    ]
    if timing["architectures"]:
        sizes = "; ".join(
            f"{grid.title('encoders', kind)} {timed['sentences']}" for kind, timed in timing["architectures"].items()
        )
        notes.append(
            f"{where}, random weights: float32, sentence by sentence, relations between gold entities, over a sample "
            f"at even steps of length ({sizes} sentences); Inference (s): median [quartiles] of one pass."
        )
    return notes


def _company(timing: dict) -> str:
    cpus = timing["other_work_cpus"]
    return "what else the machine did is not known" if cpus is None else f"other processes kept {cpus:.2f} CPUs busy"


def _weights(runs: Sequence[dict], dataset: str, encoder: str, model: str) -> str:
    """Which run was counted and timed: the first seed of the grid."""
    run = next(r for r in runs if (r["dataset"], r["encoder"], r["model"]) == (dataset, encoder, model))
    return (
        f"of recipe {run['recipe']['name']}, seed {run['seed']}, epoch {run['selected_epoch']:g} ({run['selection']})"
    )


def _row(system: str, dataset: str, encoder: str, source: str, figures: dict[str, str]) -> dict:
    row = {"System": system, "Dataset": dataset, "Encoder": encoder, "Source": source}
    absent = NOT_REPORTED if source == "published" else NO_FIGURE
    row |= {column: figures.get(column, absent) for column in EFFICIENCY_COLUMNS}
    return {("", key): value for key, value in row.items()}
