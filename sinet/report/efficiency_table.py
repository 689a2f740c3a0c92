"""The table of multiply-adds and speed: what the paper prints, and under each of its rows what was measured here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from sinet.captions import machine, short_commit
from sinet.files import read_sealed
from sinet.published import DATASETS, EFFICIENCY_ENCODERS, is_system, remark_on
from sinet.report.frame import TEST
from sinet.report.grid import FAILED, NONE, NOT_REPORTED, NOT_RUN, PUBLISHED_ENCODERS, SKIPPED, Grid, path_of
from sinet.report.table import NO_FIGURE, Cell, Cells, Table, frame, interval, number, tidy_line

MEASURED, RANDOM_WEIGHTS = "measured", "random weights"
NOT_COUNTED, NOT_TIMED = Cell("not counted"), Cell("not timed")
FORMS = {"released": "FLOPs (M), released form", "ours": "FLOPs (M), ours"}
PARTS = {"total": "whole", "heads": "without encoder"}
RATIO = "/ reference"
"""Printed as the reference's title."""
FLOPS = [(form, column) for form in FORMS.values() for column in (*PARTS.values(), RATIO)]
CLOCK = [("Inference", "s"), ("Inference", RATIO)]
COLUMNS = [*FLOPS, *CLOCK, "Counted on", "Timed on"]


@dataclass(frozen=True)
class Entry:
    """A system of ours at a dataset and encoder.

    `forms`: its counts (`sinet.efficiency.flops.count_forms`), `counted` on what; `clock`: median and quartiles in
    seconds, `timed` on what; without either both say why. `figures`: more for the csv.
    """

    dataset: str
    encoder: str
    model: str
    source: str
    counted: str | Cell
    timed: str | Cell
    forms: dict | None = None
    clock: dict | None = None
    figures: dict[str, float] = field(default_factory=dict)


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
    for entry in (*_trained(grid, places), *unmeasured, *_untrained(places), *_external(grid)):
        groups.setdefault((*_published_names(grid, entry.dataset, entry.encoder), entry.source), []).append(entry)
    made: list[tuple[dict, list[dict]]] = []
    for dataset, entries in published.items():
        encoder = EFFICIENCY_ENCODERS[dataset]
        alone = [key for key in groups if key[1:] == (encoder, RANDOM_WEIGHTS)]
        keys = (dataset, encoder, MEASURED), (dataset, encoder, RANDOM_WEIGHTS), *alone
        ours = next((groups.pop(key) for key in keys if key in groups), [])
        for key in alone:  # the same counts on the sentences of another dataset
            groups.pop(key, None)
        made += _block(grid, dataset, encoder, entries, ours)
    made += [row for entries in groups.values() for row in _ours(grid, entries, entries)]
    beside = (
        f"Published: the paper states no unit, input, batch size or device. {NOT_REPORTED}: not reported there. "
        + remark_on("efficiency")
    )
    notes = [*([beside] if published else ()), *_notes(grid, places), *notes, *grid.remarks()]
    cells, over = frame([row for row, _ in made]), _over(grid)
    cells = cells.rename(columns={RATIO: over}) if over else cells.drop(columns=RATIO, level=1)
    return Table("efficiency", "Efficiency", cells, pd.DataFrame([line for _, of in made for line in of]), notes)


def _over(grid: Grid) -> str | None:
    """How a ratio to the model that others are compared with is headed; None where the grid does not have it."""
    return (reference := grid.declared["reference"]) and f"/ {grid.title('models', reference)}'s"


def _published_names(grid: Grid, dataset: str, encoder: str) -> tuple[str, str]:
    """The names under which the paper has a dataset and an encoder; our own where it has none."""
    datasets, encoders = grid.declared["datasets"], grid.declared["encoders"]
    return datasets.get(dataset, {}).get("published") or dataset, encoders[encoder].get("published") or encoder


# -- what was measured -----------------------------------------------------------------------------------------------


def _trained(grid: Grid, places: dict) -> Iterator[Entry]:
    for (dataset, encoder), (flops, timing) in places.items():
        for model, found in flops["systems"].items():
            forms, kinds = _forms(found), timing["systems"][model]
            best = kinds["float32"]["best"]
            speeds = {
                f"Sentences/s, {precision}, {kind.replace('_', ' ')}": timed["sentences_per_s"]
                for precision, of in kinds.items()
                for kind, timed in of.items()
            }
            on = _counted(flops, forms, grid.title("encoders", encoder)), _timed(timing, timing, best)
            yield Entry(grid.whole(dataset), encoder, model, MEASURED, *on, forms, best, speeds)


def _untrained(places: dict) -> Iterator[Entry]:
    """Architectures with random weights: counted, timed, or both."""
    for (dataset, _), (flops, timing) in places.items():
        for encoder in dict.fromkeys((*flops["architectures"], *timing["architectures"])):
            counted = flops["architectures"].get(encoder, {"systems": {}})
            timed = timing["architectures"].get(encoder, {"systems": {}})
            for model in dict.fromkeys((*counted["systems"], *timed["systems"])):
                forms, clock = _forms(counted["systems"].get(model)), timed["systems"].get(model)
                during = _timed(timing, timed, clock | {"batch": 1}) if clock else NOT_TIMED
                on = _counted(flops, forms, counted.get("tokenizer")), during
                yield Entry(dataset, encoder, model, RANDOM_WEIGHTS, *on, forms, clock)


def _external(grid: Grid) -> Iterator[Entry]:
    """Models that are given by predictions, once a dataset: nothing of them is counted or timed."""
    external = {(place.dataset, m): place.encoder for place, m in reversed(grid.planned) if grid.is_external(m)}
    for (dataset, model), encoder in reversed(external.items()):
        yield Entry(dataset, encoder, model, "external", Cell(NONE), Cell(NONE))


def _forms(counted: dict | None) -> dict | None:
    """None where a system was not counted, for whatever reason."""
    return None if counted is None or "not_counted" in counted else counted


def _counted(flops: dict, forms: dict | None, tokenizer: str) -> str | Cell:
    if forms is None:
        return NOT_COUNTED
    ours = forms["ours"]
    return f"{ours['sentences']} of {flops['of_sentences']}, {ours['word_pieces']:.1f} pieces ({tokenizer})"


def _timed(timing: dict, sample: dict, clock: dict) -> str:
    return f"{sample['sentences']} of {timing['of_sentences']}, batch {clock['batch']}"


def _unmeasured(grid: Grid, measured: set[tuple[str, str]]) -> tuple[list[Entry], list[str]]:
    """The systems planned at a dataset and encoder of which nothing was measured, and why.

    Args:
        measured: datasets (all their folds) and encoders.
    """
    entries, notes = [], []

    def of_systems(paths: Sequence[str], where: tuple[str, str]) -> list[str]:
        at = [path for path in paths if (grid.whole(path.split("/")[0]), path.split("/")[1]) == where]
        return [path for path in at if is_system(grid.declared["models"][path.split("/")[2]])]

    for where in dict.fromkeys(place[:2] for place in grid.places() if place[:2] not in measured):
        there = [of for of in grid.planned if of[0][:2] == where and not grid.is_external(of[1])]
        systems = [of for of in there if is_system(grid.declared["models"][of[1]])]
        for place, model in systems:
            whys = (NOT_COUNTED, NOT_TIMED) if grid.at(place, model) else (FAILED, FAILED)
            entries.append(Entry(*where, model, MEASURED, *whys))
        if systems:
            lost = of_systems([path for path, _ in grid.declared["failed"]], where)
            archived = of_systems(grid.declared["archived"], where)
            reasons = [f"no result of {', '.join(lost)}"] * bool(lost)
            reasons += [f"{len(archived)} of their runs are archived without weights"] * bool(archived)
            why = "; ".join(reasons) or "counting or timing has not come to its end"
            notes.append(f"{grid.where(*where)}: all systems are counted and timed together; {why}.")
    return entries, notes


# -- rows ------------------------------------------------------------------------------------------------------------


def _block(
    grid: Grid, dataset: str, encoder: str, published: list[dict], ours: list[Entry]
) -> Iterator[tuple[dict, list[dict]]]:
    """Each row of the paper for a dataset and encoder, ours under it, then systems that the paper does not have."""
    models = grid.declared["models"]
    name = models.get(grid.declared["reference"], {}).get("published")
    reference = next((row for row in published if row["system"] == name), None)
    on = PUBLISHED_ENCODERS[encoder], DATASETS[dataset]
    where = ", ".join(reversed(on))
    out = {(_published_names(grid, d, e), models[m].get("published")) for d, e, m in grid.absent}
    for row in published:
        system, cells = row["system"], dict.fromkeys(COLUMNS, NOT_REPORTED)
        lines = []
        for head, column, figure, key in (
            (FORMS["released"], PARTS["total"], "Total FLOPs (M)", "flops_m"),
            ("Inference", "s", "Inference (s)", "inference_s"),
        ):
            cells[head, column] = Cell(f"{row[key]:,}", row[key])
            if reference:
                cells[head, RATIO] = number(row[key] / reference[key])
            lines.append(tidy_line("published", system, *on, figure, [row[key]]))
        yield {"System": system, "On": where, "Source": "published"} | cells, lines
        same = [entry for entry in ours if models[entry.model].get("published") == system]
        yield from _ours(grid, same, ours)
        if not same:
            why = SKIPPED if ((dataset, encoder), system) in out else NOT_RUN
            yield {"System": f"{system} (ours)", "On": where, "Source": MEASURED} | dict.fromkeys(COLUMNS, why), []
    in_paper = {row["system"] for row in published}
    yield from _ours(grid, [e for e in ours if models[e.model].get("published") not in in_paper], ours)


def _ours(grid: Grid, entries: Sequence[Entry], group: Sequence[Entry]) -> Iterator[tuple[dict, list[dict]]]:
    """Rows and csv lines of entries, against the reference in their group."""
    over = _over(grid)
    reference = next((entry for entry in group if over and entry.model == grid.declared["reference"]), None)
    for entry in entries:
        cells: Cells = dict.fromkeys(FLOPS, NO_FIGURE if entry.forms else entry.counted)
        cells |= dict.fromkeys(CLOCK, NO_FIGURE if entry.clock else entry.timed)
        figures = dict(entry.figures)
        for form, head in FORMS.items():
            if entry.forms is None:
                break
            counts, said = entry.forms[form], "" if form == "ours" else ", released form"
            cells |= {(head, column): number(counts[part] / 1e6, 1) for part, column in PARTS.items()}
            for words, of in {"": counts, **counts.get("by_words", {})}.items():
                for part, name in (("encoder", "Encoder"), ("heads", "Head"), ("total", "Total")):
                    figures[f"{name} FLOPs (M){said}" + f", {words} words" * bool(words)] = of[part] / 1e6
            if "without_context" in counts:
                figures["Total FLOPs (M), sentences alone"] = counts["without_context"] / 1e6
            if reference and reference.forms:
                figures[f"FLOPs {over}{said}"] = ratio = counts["total"] / reference.forms[form]["total"]
                cells[head, RATIO] = number(ratio)
        if entry.clock:
            figures["Inference (s)"] = seconds = entry.clock["median_s"]
            cells["Inference", "s"] = Cell(f"{seconds:.2f} {interval(entry.clock['quartiles_s'])}", seconds)
            if reference and reference.clock:
                figures[f"Time {over}"] = ratio = seconds / reference.clock["median_s"]
                cells["Inference", RATIO] = number(ratio)
        cells |= {"Counted on": entry.counted, "Timed on": entry.timed}
        title = grid.title("models", entry.model)
        on = grid.encoder_of(entry.model, entry.encoder), grid.title("datasets", entry.dataset)
        lines = [tidy_line(entry.source, title, *on, name, [value], split=TEST) for name, value in figures.items()]
        yield {"System": grid.named(entry.model), "On": ", ".join(reversed(on)), "Source": entry.source} | cells, lines


# -- notes -----------------------------------------------------------------------------------------------------------


def _notes(grid: Grid, places: dict) -> list[str]:
    forms, lost, alone, passes = {}, {}, {}, {}
    for (_, encoder), (flops, _) in places.items():
        architectures = flops["architectures"].items()
        for name, systems in ((encoder, flops["systems"]), *((kind, of["systems"]) for kind, of in architectures)):
            for model, counted in systems.items():
                title = grid.title("models", model)
                if "not_counted" in counted:
                    lost[f"{title} with {grid.title('encoders', name)}"] = counted["not_counted"]
                else:
                    forms[title], ours = counted["released_form"], counted["ours"]
                    if (rows := ours.get("passes", 1)) > 1:
                        passes[f"{title} with {grid.title('encoders', name)}"] = f"{rows:.1f}"
                    if "without_context" in ours:
                        figure = f"{ours['without_context'] / 1e6:.1f} of {ours['total'] / 1e6:.1f}"
                        alone[f"{title} with {grid.title('encoders', name)}"] = figure
    differ = "; ".join(f"{title}: {text}" for title, text in forms.items() if text)
    same = ", ".join(title for title, text in forms.items() if not text)
    several = "; ".join(f"{what} {figure}" for what, figure in passes.items())
    without = "; ".join(f"{what} {figure}" for what, figure in alone.items())
    return [
        "Ours: FLOPs are multiply-adds per sentence (unit: one multiply-add = 1), mean over the sentences counted, at "
        "even steps of length where they are not the whole test split, counted by fvcore under eager attention, "
        "nothing padded. Released form: what the authors' code multiplies for the same figures. It multiplies besides: "
        f"{differ or 'nothing that was counted'}." + f" The same as ours: {same}." * bool(same),
        "Inference (s): median [quartiles] of one pass over the sentences timed, token ids to triples, float32, the "
        f"batch that is fastest. {RANDOM_WEIGHTS.capitalize()}: the encoder's sizes alone, relations between gold "
        "entities, sentence by sentence.",
        *([f"Passes of an encoder a sentence: {several}; of the others one."] * bool(passes)),
        *([f"FLOPs (M) of sentences alone, without the context that is read: {without}."] * bool(alone)),
        *(f"{NOT_COUNTED.text.capitalize()}: {what}: {why}." for what, why in lost.items()),
        *(note for place, measured in places.items() for note in _place_notes(grid, place, *measured)),
    ]


def _place_notes(grid: Grid, place: tuple[str, str], flops: dict, timing: dict) -> list[str]:
    weights = "; ".join(f"{grid.title('models', m)} {_weights(grid.runs, *place, m)}" for m in timing["systems"])
    repeats = min(k["repeats"] for t in timing["systems"].values() for kinds in t.values() for k in kinds.values())
    busy = timing["other_work_cpus"]
    company = "what else it did is not known" if busy is None else f"other processes kept {busy:.2f} CPUs busy"
    return [
        f"{grid.where(*place)}, time: {machine(timing)}, {company}; "
        f"{repeats} or more passes and {timing['least_seconds']:g} s or more, order shuffled. Tokenising apart: at "
        f"most {1e3 * max(timing['tokenising_s'].values()) / timing['sentences']:.2f} ms a sentence."
        + (f" {timing['not_timed']}." if timing["not_timed"] else ""),
        f"{grid.where(*place)}, weights: {weights}. Counted at commit {short_commit(flops['git_commit'])}, timed at "
        f"commit {short_commit(timing['git_commit'])}.",
    ]


def _weights(runs: Sequence[dict], dataset: str, encoder: str, model: str) -> str:
    """Which run was counted and timed: the first seed of the grid."""
    run = next(r for r in runs if path_of(r).rsplit("/", 1)[0] == f"{dataset}/{encoder}/{model}")
    return (
        f"of recipe {run['recipe']['name']}, seed {run['seed']}, epoch {run['selected_epoch']:g} ({run['selection']})"
    )
