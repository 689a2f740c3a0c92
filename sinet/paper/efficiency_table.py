"""The table of multiply-adds and speed: what the paper prints, and under each of its rows what was measured here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sinet.files import read_sealed
from sinet.paper.grid import FAILED, LEFT_OUT, NOT_REPORTED, NOT_RUN, PUBLISHED_ENCODERS, Grid, path_of
from sinet.paper.table import NO_FIGURE, Table, frame, tidy_line
from sinet.published import DATASETS, EFFICIENCY_ENCODERS, is_system, remark_on

MEASURED, RANDOM_WEIGHTS = "measured", "random weights"
NOT_COUNTED, NOT_TIMED = "not counted", "not timed"
FORMS = {"released": "FLOPs (M), released form", "ours": "FLOPs (M), ours"}
PARTS = {"total": "whole", "heads": "without encoder"}
RATIO = "/ reference"
"""Printed as the reference's title."""
COLUMNS = (
    *((form, column) for form in FORMS.values() for column in (*PARTS.values(), RATIO)),
    *(("Inference", "s"), ("Inference", RATIO), ("", "Counted on"), ("", "Timed on")),
)


@dataclass(frozen=True)
class Entry:
    """A system of ours at a dataset and encoder.

    `forms`: its counts (`sinet.run.flops.count_forms`), `counted` on what; `timed`: median and quartiles in seconds,
    `timing` on what; without either both columns say why. `figures`: more for the csv.
    """

    dataset: str
    encoder: str
    model: str
    source: str
    counted: str
    timing: str
    forms: dict | None = None
    timed: dict | None = None
    figures: dict[str, float] | None = None


def efficiency_table(grid: Grid, published: dict, folders: Sequence[Path]) -> Table:
    """Multiply-adds and speed of inference; the paper states neither input, batch nor device for its figures.

    `folders`: `.../{dataset}/{encoder}` with `flops.json` and `timing.json`. Ours stands under a row of the paper where
    the dataset and the encoder are the paper's, whatever variant of the encoder; else its architecture alone, on
    whichever dataset.
    """
    places = {f.parts[-2:]: tuple(read_sealed(f / f"{name}.json") for name in ("flops", "timing")) for f in folders}
    places = dict(sorted(places.items()))
    unmeasured, notes = _unmeasured(grid, {(grid.whole(dataset), encoder) for dataset, encoder in places})
    groups: dict[tuple, list[Entry]] = {}
    for entry in (*_trained(grid, places), *unmeasured, *_untrained(places)):
        groups.setdefault((*_published_names(grid, entry.dataset, entry.encoder), entry.source), []).append(entry)
    rows, lines = [], []
    for dataset, deck in published.items():
        encoder = EFFICIENCY_ENCODERS[dataset]
        alone = [key for key in groups if key[1:] == (encoder, RANDOM_WEIGHTS)]
        keys = (dataset, encoder, MEASURED), (dataset, encoder, RANDOM_WEIGHTS), *alone
        ours = next((groups.pop(key) for key in keys if key in groups), [])
        for key in alone:  # the same counts on the sentences of another dataset
            groups.pop(key, None)
        more_rows, more_lines = _block(grid, dataset, encoder, deck, ours)
        rows += more_rows
        lines += more_lines
    for entries in groups.values():
        more_rows, more_lines = _ours(grid, entries, entries)
        rows += more_rows
        lines += more_lines
    beside = (
        f"Published: the paper states no unit, input, batch size or device. {NOT_REPORTED}: not reported there. "
        + remark_on("efficiency")
    )
    notes = [*([beside] if published else ()), *_notes(grid, places), *notes, *grid.remarks()]
    texts, over = frame(rows), _over(grid)
    texts = texts.rename(columns={RATIO: over}) if over else texts.drop(columns=RATIO, level=1)
    return Table("efficiency", "Efficiency", texts, pd.DataFrame(lines), tuple(notes))


def _over(grid: Grid) -> str | None:
    """How a ratio to the model that others are compared with is headed; None where the grid does not have it."""
    return (reference := grid.declared["reference"]) and f"/ {grid.title('models', reference)}'s"


def _published_names(grid: Grid, dataset: str, encoder: str) -> tuple[str, str]:
    """The names under which the paper has a dataset and an encoder; our own where it has none."""
    datasets, encoders = grid.declared["datasets"], grid.declared["encoders"]
    return datasets.get(dataset, {}).get("published") or dataset, encoders[encoder].get("published") or encoder


def _published_system(grid: Grid, entry: Entry) -> str | None:
    return grid.declared["models"][entry.model].get("published")


# -- what was measured -----------------------------------------------------------------------------------------------


def _trained(grid: Grid, places: dict) -> list[Entry]:
    entries = []
    for (dataset, encoder), (flops, timing) in places.items():
        for model, found in flops["systems"].items():
            forms, kinds = _forms(found), timing["systems"][model]
            best = kinds["float32"]["best"]
            speeds = {
                f"Sentences/s, {precision}, {kind.replace('_', ' ')}": timed["sentences_per_s"]
                for precision, of in kinds.items()
                for kind, timed in of.items()
            }
            counted, timed = _counted(flops, forms, grid.title("encoders", encoder)), _timed(timing, timing, best)
            place = grid.whole(dataset), encoder, model, MEASURED
            entries.append(Entry(*place, counted, timed, forms, best, speeds))
    return entries


def _untrained(places: dict) -> list[Entry]:
    """Architectures with random weights: counted, timed, or both."""
    entries = []
    for (dataset, _), (flops, timing) in places.items():
        for encoder in dict.fromkeys((*flops["architectures"], *timing["architectures"])):
            counted = flops["architectures"].get(encoder, {"systems": {}})
            timed = timing["architectures"].get(encoder, {"systems": {}})
            for model in dict.fromkeys((*counted["systems"], *timed["systems"])):
                forms, clock = _forms(counted["systems"].get(model)), timed["systems"].get(model)
                on = _counted(flops, forms, counted.get("tokenizer"))
                during = _timed(timing, timed, clock | {"batch": 1}) if clock else NOT_TIMED
                entries.append(Entry(dataset, encoder, model, RANDOM_WEIGHTS, on, during, forms, clock))
    return entries


def _forms(counted: dict | None) -> dict | None:
    """None where a system was not counted, for whatever reason."""
    return None if counted is None or "not_counted" in counted else counted


def _counted(flops: dict, forms: dict | None, tokenizer: str) -> str:
    if forms is None:
        return NOT_COUNTED
    ours = forms["ours"]
    return f"{ours['sentences']} of {flops['of_sentences']}, {ours['word_pieces']:.1f} pieces ({tokenizer})"


def _timed(timing: dict, sample: dict, clock: dict) -> str:
    return f"{sample['sentences']} of {timing['of_sentences']}, batch {clock['batch']}"


def _unmeasured(grid: Grid, measured: set[tuple[str, str]]) -> tuple[list[Entry], list[str]]:
    """The systems planned, or left out, at a dataset and encoder of which nothing was measured, and why.

    Args:
        measured: datasets (all their folds) and encoders.
    """
    entries, notes = [], []
    for dataset, encoder in dict.fromkeys(place[:2] for place in grid.places() if place[:2] not in measured):
        there = [(place, m) for place, m in dict.fromkeys(grid.planned()) if place[:2] == (dataset, encoder)]
        systems = [(place, m) for place, m in there if is_system(grid.declared["models"][m])]
        for place, model in systems:
            whys = (NOT_COUNTED, NOT_TIMED) if grid.at(place, model) else (FAILED, FAILED)
            entries.append(Entry(dataset, encoder, model, MEASURED, *whys))
        if systems:
            lost, kept = (
                [p for p in paths if (grid.whole(p.split("/")[0]), p.split("/")[1]) == (dataset, encoder)]
                for paths in ([path for path, _ in grid.declared["failed"]], grid.declared["archived"])
            )
            kept = [path for path in kept if is_system(grid.declared["models"][path.split("/")[2]])]
            reasons = [f"no result of {', '.join(lost)}"] * bool(lost)
            reasons += [f"{len(kept)} of their runs are archived without weights"] * bool(kept)
            why = "; ".join(reasons) or "counting or timing has not come to its end"
            where = f"{grid.title('datasets', dataset)}, {grid.title('encoders', encoder)}"
            notes.append(f"{where}: all systems are counted and timed together; {why}.")
    return entries, notes


# -- rows ------------------------------------------------------------------------------------------------------------


def _block(grid: Grid, dataset: str, encoder: str, deck: list[dict], ours: list[Entry]) -> tuple[list, list]:
    """Each row of the paper for a dataset and encoder, ours under it, then systems that the paper does not have."""
    rows, lines = [], []
    published = grid.declared["models"].get(grid.declared["reference"], {}).get("published")
    reference = next((row for row in deck if row["system"] == published), None)
    where = f"{DATASETS[dataset]}, {PUBLISHED_ENCODERS[encoder]}"
    out = {(_published_names(grid, d, e), grid.declared["models"][m].get("published")) for d, e, m in grid.absent()}
    for row in deck:
        cells = dict.fromkeys(COLUMNS, NOT_REPORTED)
        cells[FORMS["released"], PARTS["total"]] = f"{row['flops_m']:,}"
        cells["Inference", "s"] = f"{row['inference_s']:,}"
        if reference:
            cells[FORMS["released"], RATIO] = f"{row['flops_m'] / reference['flops_m']:.2f}"
            cells["Inference", RATIO] = f"{row['inference_s'] / reference['inference_s']:.2f}"
        rows.append(_row(row["system"], where, "published", cells))
        lines += [
            tidy_line("published", row["system"], PUBLISHED_ENCODERS[encoder], DATASETS[dataset], figure, [row[key]])
            for figure, key in (("Total FLOPs (M)", "flops_m"), ("Inference (s)", "inference_s"))
        ]
        same = [entry for entry in ours if _published_system(grid, entry) == row["system"]]
        more_rows, more_lines = _ours(grid, same, ours)
        if not same:
            why = LEFT_OUT if ((dataset, encoder), row["system"]) in out else NOT_RUN
            more_rows = [_row(f"{row['system']} (ours)", where, MEASURED, dict.fromkeys(COLUMNS, why))]
        rows += more_rows
        lines += more_lines
    others = [entry for entry in ours if _published_system(grid, entry) not in {row["system"] for row in deck}]
    more_rows, more_lines = _ours(grid, others, ours)
    return rows + more_rows, lines + more_lines


def _ours(grid: Grid, entries: Sequence[Entry], group: Sequence[Entry]) -> tuple[list[dict], list[dict]]:
    """Rows and csv lines of entries, against the reference in their group."""
    rows, lines, over = [], [], _over(grid)
    reference = next((entry for entry in group if over and entry.model == grid.declared["reference"]), None)
    for entry in entries:
        title = grid.title("models", entry.model)
        where = grid.title("datasets", entry.dataset), grid.title("encoders", entry.encoder)
        cells = dict.fromkeys(COLUMNS, NO_FIGURE)
        cells |= {column: entry.counted for column in COLUMNS if not entry.forms and "FLOPs" in column[0]}
        cells |= {column: entry.timing for column in COLUMNS if not entry.timed and column[0] == "Inference"}
        cells |= {("", "Counted on"): entry.counted, ("", "Timed on"): entry.timing}
        figures = dict(entry.figures or {})
        for form, head in FORMS.items() if entry.forms else ():
            counts = entry.forms[form]
            cells |= {(head, column): f"{counts[part] / 1e6:,.1f}" for part, column in PARTS.items()}
            said = "" if form == "ours" else ", released form"
            for words, of in {"": counts, **counts.get("by_words", {})}.items():
                after = said + f", {words} words" * bool(words)
                for part in ("encoder", "heads", "total"):
                    figures[f"{part.removesuffix('s').capitalize()} FLOPs (M){after}"] = of[part] / 1e6
            if reference and reference.forms:
                figures[f"FLOPs {over}{said}"] = ratio = counts["total"] / reference.forms[form]["total"]
                cells[head, RATIO] = f"{ratio:.2f}"
        if entry.timed:
            figures["Inference (s)"] = seconds = entry.timed["median_s"]
            cells["Inference", "s"] = "{:.2f} [{:.2f}, {:.2f}]".format(seconds, *entry.timed["quartiles_s"])
            if reference and reference.timed:
                figures[f"Time {over}"] = ratio = seconds / reference.timed["median_s"]
                cells["Inference", RATIO] = f"{ratio:.2f}"
        rows.append(_row(f"{title} (ours)", ", ".join(where), entry.source, cells))
        lines += [tidy_line(entry.source, title, where[1], where[0], name, [value]) for name, value in figures.items()]
    return rows, lines


def _row(system: str, where: str, source: str, cells: dict[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    return {("", "System"): system, ("", "On"): where, ("", "Source"): source} | cells


# -- notes -----------------------------------------------------------------------------------------------------------


def _notes(grid: Grid, places: dict) -> list[str]:
    forms, lost = {}, {}
    for (_, encoder), (flops, _) in places.items():
        architectures = flops["architectures"].items()
        for name, systems in ((encoder, flops["systems"]), *((kind, of["systems"]) for kind, of in architectures)):
            for model, counted in systems.items():
                title = grid.title("models", model)
                if "not_counted" in counted:
                    lost[f"{title} with {grid.title('encoders', name)}"] = counted["not_counted"]
                else:
                    forms[title] = counted["released_form"]
    differ = "; ".join(f"{title}: {text}" for title, text in forms.items() if text)
    same = ", ".join(title for title, text in forms.items() if not text)
    return [
        "Ours: FLOPs are multiply-adds per sentence (unit: one multiply-add = 1), mean over the sentences counted, at "
        "even steps of length where they are not the whole test split, counted by fvcore under eager attention, "
        "nothing padded. Released form: what the authors' code multiplies for the same figures. It multiplies besides: "
        f"{differ or 'nothing that was counted'}." + f" The same as ours: {same}." * bool(same),
        "Inference (s): median [quartiles] of one pass over the sentences timed, token ids to triples, float32, the "
        f"batch that is fastest. {RANDOM_WEIGHTS.capitalize()}: the encoder's sizes alone, relations between gold "
        "entities, sentence by sentence.",
        *(f"{NOT_COUNTED.capitalize()}: {what}: {why}." for what, why in lost.items()),
        *(note for place, (_, timing) in places.items() for note in _place_notes(grid, place, timing)),
    ]


def _place_notes(grid: Grid, place: tuple[str, str], timing: dict) -> list[str]:
    where = f"{grid.title('datasets', place[0])}, {grid.title('encoders', place[1])}"
    weights = "; ".join(f"{grid.title('models', m)} {_weights(grid.runs, *place, m)}" for m in timing["systems"])
    repeats = min(k["repeats"] for t in timing["systems"].values() for kinds in t.values() for k in kinds.values())
    busy = timing["other_work_cpus"]
    company = "what else it did is not known" if busy is None else f"other processes kept {busy:.2f} CPUs busy"
    return [
        f"{where}, time: {timing['device_name']} ({timing['device']}, {timing['threads']} threads), {company}; "
        f"{repeats} or more passes and {timing['least_seconds']:g} s or more, order shuffled. Tokenising apart: at "
        f"most {1e3 * max(timing['tokenising_s'].values()) / timing['sentences']:.2f} ms a sentence."
        + (f" {timing['not_timed']}." if timing["not_timed"] else ""),
        f"{where}, weights: {weights}.",
    ]


def _weights(runs: Sequence[dict], dataset: str, encoder: str, model: str) -> str:
    """Which run was counted and timed: the first seed of the grid."""
    run = next(r for r in runs if path_of(r).rsplit("/", 1)[0] == f"{dataset}/{encoder}/{model}")
    return (
        f"of recipe {run['recipe']['name']}, seed {run['seed']}, epoch {run['selected_epoch']:g} ({run['selection']})"
    )
