"""The tables: published rows as printed in the papers beside measured rows, told apart, each as csv, md and tex.

The csv files are tidy (one figure a line, per-seed values kept); md and tex are for reading. Rebuilt from the same
records they are the same bytes: no date, no order that depends on a directory listing.
"""

import itertools
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

METRICS = {"ent": "Ent", "rel": "Rel", "rel_plus": "Rel+"}
PUBLISHED_METRICS = {"ent": "ent", "rel": "rel", "rel_plus": "rel_strict"}
PUBLISHED_DATASETS = {"ace04": "ACE04", "ace05": "ACE05", "scierc": "SciERC"}
PUBLISHED_ENCODERS = {"Bb": "BERT", "SciB": "SciBERT", "ALB": "ALBERT"}
NOT_REPORTED, NOT_RUN, NO_FIGURE, FAILED = "n.r.", "not run", "n/a", "failed"


@dataclass(frozen=True)
class Table:
    """A table ready to be written: a frame to read (two header lines), a tidy frame, and its caption lines."""

    name: str
    title: str
    frame: pd.DataFrame
    tidy: pd.DataFrame
    notes: tuple[str, ...]


def write_tables(records: Sequence[Path], efficiency: Sequence[Path], declared: dict, out: Path) -> None:
    """Write `{main,ablation,efficiency}.{csv,md,tex}`.

    Args:
        records: `record.json` of every run of the grid.
        efficiency: folders `.../{dataset}/{encoder}` with `flops.json` and `timing.json`.
        declared: `datasets`, `encoders`, `models` as configured, the grid's `remark`, `left_out` runs with reasons, and
            `missing`: runs without a result, as planned, with the reason.
    """
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in records]
    published = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))
    out.mkdir(parents=True, exist_ok=True)
    for table in (
        main_table(runs, published["main"], declared),
        ablation_table(runs, published["ablation"], declared),
        efficiency_table(efficiency, published["efficiency"], runs, declared),
    ):
        table.tidy.to_csv(out / f"{table.name}.csv", index=False, lineterminator="\n")
        (out / f"{table.name}.md").write_text(markdown(table), encoding="utf-8")
        (out / f"{table.name}.tex").write_text(latex(table), encoding="utf-8")


# -- the three tables ----------------------------------------------------------------------------------------------


def main_table(runs: list[dict], published: list[dict], declared: dict) -> Table:
    """Systems x datasets; published rows first, then one measured row for each model, encoder and recipe."""
    datasets = dict(PUBLISHED_DATASETS)
    for run in runs:
        datasets.setdefault(*_column(run["dataset"], declared))
    rows, tidy = [], []
    for row in published:
        cells = {
            ("", "System"): f"{row['system']} ({row['cite']})",
            ("", "Encoder"): PUBLISHED_ENCODERS[row["encoder"]],
        }
        cells[("", "Source")] = "published"
        for dataset, title in datasets.items():
            for metric, name in METRICS.items():
                value = row.get(dataset, {}).get(PUBLISHED_METRICS[metric])
                cells[(title, name)] = NOT_REPORTED if value is None else f"{value:.2f}"
                if value is not None:
                    tidy.append(
                        _tidy("published", row["system"], PUBLISHED_ENCODERS[row["encoder"]], title, name, [value])
                    )
        rows.append(cells)
    main_models = {n for n, m in declared["models"].items() if "published" in m or "setting" not in m}
    runs = [run for run in runs if run["model"] in main_models]
    lost = [run for run in declared["missing"] if run["model"] in main_models]
    for (model, encoder, recipe), group in _grouped(runs, lost):
        title, encoder_title = declared["models"][model]["title"], declared["encoders"][encoder]["title"]
        cells = {
            ("", "System"): f"{title} (ours)",
            ("", "Encoder"): encoder_title,
            ("", "Source"): _measured(recipe, group, declared),
        }
        absent = [run for run in lost if _group(run, run["encoder"]["name"]) == (model, encoder, recipe)]
        for dataset, dataset_title in datasets.items():
            chosen = [r for r in group if _column(r["dataset"], declared)[0] == dataset]
            for metric, name in METRICS.items():
                values = [r["scores"]["symmetric"][metric]["f1"] for r in chosen]
                gone = [run for run in absent if _column(run["dataset"], declared)[0] == dataset]
                cells[(dataset_title, name)] = _cell(values, len(gone))
                if values:
                    seeds = [r["seed"] for r in chosen]
                    tidy.append(
                        _tidy(f"measured, recipe {recipe}", title, encoder_title, dataset_title, name, values, seeds)
                    )
        rows.append(cells)
    notes = (
        f"Micro F1 x 100. {NOT_REPORTED}: the paper reports no such figure. {NOT_RUN}: not in this grid.",
        *_protocol(runs, declared),
    )
    return Table("main", "Main results", _frame(rows), pd.DataFrame(tidy), notes)


def ablation_table(runs: list[dict], published: dict, declared: dict) -> Table:
    """The five settings; the deck's figures beside ours for each dataset and encoder that was run."""
    settings = {m["setting"]: n for n, m in declared["models"].items() if "setting" in m}
    runs = [run for run in runs if run["model"] in settings.values()]
    measured: dict[tuple[str, str, str], dict] = {}
    for run in runs:
        place = _place(run, run["encoder"], declared)
        measured.setdefault(place, {}).setdefault(run["model"], []).append(run)
    rows, tidy = [], []
    for reference in published["scierc"]:
        setting = reference["setting"]
        cells = {("", "Setting"): setting}
        for dataset, entries in published.items():
            entry = next(e for e in entries if e["setting"] == setting)
            for metric, name in METRICS.items():
                value = entry[PUBLISHED_METRICS[metric]]
                cells[(f"{PUBLISHED_DATASETS[dataset]}, published", name)] = f"{value:.2f}"
                tidy.append(_tidy("published", setting, "", PUBLISHED_DATASETS[dataset], name, [value]))
        for place, models in measured.items():
            _, encoder, recipe = place
            group = models.get(settings.get(setting), [])
            first = next(iter(models.values()))[0]["dataset"]
            titles = declared["datasets"][first]["title"], declared["encoders"][encoder]["title"]
            for metric, name in METRICS.items():
                values = [r["scores"]["symmetric"][metric]["f1"] for r in group]
                gone = [run for run in declared["missing"] if run["model"] == settings.get(setting)]
                gone = [run for run in gone if _place(run, run["encoder"]["name"], declared) == place]
                cells[(f"{titles[0]}, {titles[1]}, ours ({recipe})", name)] = _cell(values, len(gone))
                if values:
                    seeds = [r["seed"] for r in group]
                    tidy.append(_tidy(f"measured, recipe {recipe}", setting, titles[1], titles[0], name, values, seeds))
        rows.append(cells)
    notes = (
        "Micro F1 x 100. Published: split not stated in the deck, its encoders, one figure each; the figures do not "
        f"match its main table. {NOT_RUN}: not in this grid.",
        *_protocol(runs, declared),
    )
    return Table("ablation", "Ablation", _frame(rows), pd.DataFrame(tidy), notes)


def efficiency_table(folders: Sequence[Path], published: dict, runs: list[dict], declared: dict) -> Table:
    """Multiply-adds and speed of inference; the deck states neither input, batch nor device for its figures."""
    rows, tidy, notes = [], [], []
    measured = {folder.parts[-2:]: _read_efficiency(folder) for folder in sorted(folders)}
    architectures = {}  # of any measured dataset: counts by length hardly depend on it
    for flops, _ in measured.values():
        architectures |= flops["architectures"]
    for dataset, entries in published.items():
        reference = next(entry for entry in entries if entry["system"] == "SINET")
        for entry in entries:
            title, kind = DECK_ENCODERS[dataset]
            where = PUBLISHED_DATASETS[dataset], title
            texts = {
                "Total FLOPs (M)": f"{entry['flops_m']:,}",
                "FLOPs / SINET's": f"{entry['flops_m'] / reference['flops_m']:.2f}",
                "Ours equals it at (words)": _length_of(entry, architectures.get(kind), declared),
                "Inference (s)": f"{entry['inference_s']:,}",
                "Time / SINET's": f"{entry['inference_s'] / reference['inference_s']:.2f}",
            }
            rows.append(_efficiency_row(entry["system"], *where, "published", texts))
            tidy += [
                _tidy("published", entry["system"], where[1], where[0], figure, [entry[key]])
                for figure, key in (("Total FLOPs (M)", "flops_m"), ("Inference (s)", "inference_s"))
            ]
    for (dataset, encoder), (flops, timing) in measured.items():
        where = declared["datasets"][dataset]["title"], declared["encoders"][encoder]["title"]
        sinet = next((m for m in flops["systems"] if declared["models"][m].get("published") == "SINET"), None)
        for model, counted in flops["systems"].items():
            title = declared["models"][model]["title"]
            figures = _count_figures(counted) | _speed_figures(timing, model)
            best = timing["systems"][model]["float32"]["best"]
            figures["Inference (s)"] = best["median_s"]
            texts = _efficiency_texts(figures)
            texts["Inference (s)"] = "{:.2f} [{:.2f}, {:.2f}]".format(best["median_s"], *best["quartiles_s"])
            if sinet:
                reference = timing["systems"][sinet]["float32"]["best"]["median_s"]
                figures["FLOPs / SINET's"] = counted["total"] / flops["systems"][sinet]["total"]
                figures["Time / SINET's"] = best["median_s"] / reference
                texts |= {name: f"{figures[name]:.2f}" for name in ("FLOPs / SINET's", "Time / SINET's")}
            rows.append(_efficiency_row(f"{title} (ours)", *where, "measured", texts))
            tidy += [_tidy("measured", title, where[1], where[0], name, [value]) for name, value in figures.items()]
            for formulation, other in counted["formulations"].items():
                figures = _count_figures(other)
                texts = _efficiency_texts(figures) | dict.fromkeys(SPEED_COLUMNS.values(), "not timed")
                rows.append(_efficiency_row(f"{title}, {formulation} (ours)", *where, "measured", texts))
                name = f"{title}, {formulation}"
                tidy += [_tidy("measured", name, where[1], where[0], n, [v]) for n, v in figures.items()]
        notes += _efficiency_notes(where, flops, timing, runs, (dataset, encoder), declared)
        for kind, systems_ in flops["architectures"].items():
            title = declared["encoders"][kind]["title"]
            for model, by_words in systems_.items():
                name = declared["models"][model]["title"]
                tidy += [
                    _tidy(
                        "counted, random weights",
                        name,
                        title,
                        where[0],
                        f"Total FLOPs (M), {n} words",
                        [c["total"] / 1e6],
                    )
                    for n, c in by_words.items()
                ]
    notes.insert(
        0,
        f"Published: the deck states no unit, input, batch size or device. {NOT_REPORTED}: not reported there. Ours "
        "equals it at: the sentence length at which our count, in the deck's encoder architecture with random weights "
        "and with relations between gold entities, reaches the deck's figure.",
    )
    return Table("efficiency", "Efficiency", _frame(rows), pd.DataFrame(tidy), (*notes, *_remarks(declared)))


DECK_ENCODERS = {"scierc": ("SciBERT", "scibert-sizes"), "ace05": ("ALBERT", "albert-xxlarge-sizes")}
SPEED_COLUMNS = {
    (precision, kind): f"Sentences/s, {precision}, {title}"
    for precision in ("float32", "bfloat16")
    for kind, title in (("batch_1", "batch 1"), ("best", "best batch"))
}
COUNT_COLUMNS = {"encoder": "Encoder FLOPs (M)", "heads": "Head FLOPs (M)", "total": "Total FLOPs (M)"}
EFFICIENCY_COLUMNS = (
    *COUNT_COLUMNS.values(),
    *("FLOPs / SINET's", "Ours equals it at (words)"),
    *SPEED_COLUMNS.values(),
    *("Inference (s)", "Time / SINET's"),
)


def _read_efficiency(folder: Path) -> tuple[dict, dict]:
    return tuple(json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in ("flops", "timing"))


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


def _efficiency_texts(figures: dict[str, float]) -> dict[str, str]:
    return {name: f"{value:,.1f}" for name, value in figures.items() if name in EFFICIENCY_COLUMNS}


def _length_of(entry: dict, counted: dict | None, declared: dict) -> str:
    """At how many words our count of a published system's architecture equals its figure, and why there is none."""
    if counted is None:
        return "not counted"
    model = next((m for m in counted if declared["models"][m].get("published") == entry["system"]), None)
    if model is None:
        return NOT_RUN
    words = words_at(counted[model], entry["flops_m"] * 1e6)
    return "beyond " + max(counted[model], key=int) if words is None else f"{words:.1f}"


def words_at(by_words: dict[str, dict], multiply_adds: float) -> float | None:
    """The sentence length in words at which a count reaches `multiply_adds`, linear between the lengths counted (and
    from nothing at none); None beyond them."""
    points = [(0.0, 0.0), *sorted((float(words), figures["total"]) for words, figures in by_words.items())]
    for (low, below), (high, above) in itertools.pairwise(points):
        if below <= multiply_adds <= above:
            return low + (high - low) * (multiply_adds - below) / (above - below)
    return None


def _efficiency_notes(
    where: tuple[str, str], flops: dict, timing: dict, runs: list[dict], place: tuple[str, str], declared: dict
) -> list[str]:
    counted = next(iter(flops["systems"].values()))
    titles = {m: declared["models"][m]["title"] for m in flops["systems"]}
    weights = "; ".join(f"{titles[m]} {_weights(runs, *place, m)}" for m in flops["systems"])
    batches = "; ".join(
        f"{titles[m]} " + ", ".join(f"{kinds['best']['batch']} ({precision})" for precision, kinds in timed.items())
        for m, timed in timing["systems"].items()
    )
    repeats = min(k["repeats"] for t in timing["systems"].values() for kinds in t.values() for k in kinds.values())
    return [
        f"{where[0]}, {where[1]}, ours: FLOPs are multiply-adds per sentence (unit: one multiply-add = 1), mean over "
        f"{counted['sentences']} of the {flops['of_sentences']} sentences of the {flops['split']} split at even steps "
        f"of length ({counted['word_pieces']:.1f} word pieces on average), counted by fvcore under eager attention, "
        "nothing padded.",
        f"{where[0]}, {where[1]}, ours: speed of inference, token ids to triples, over {timing['sentences']} of the "
        f"{timing['of_sentences']} sentences, sorted by length; median of {repeats} or more passes and "
        f"{timing['least_seconds']:g} s or more, order shuffled, "
        f"{timing['device_name']} ({timing['device']}, {timing['threads']} threads), alone on the machine. Inference "
        f"(s): median [quartiles] of one pass, float32, best batch. Best batches: {batches}."
        " Tokenising apart: at most "
        f"{1e3 * max(timing['tokenising_s'].values()) / timing['sentences']:.2f} ms a sentence."
        + (f" {timing['not_timed']}." if timing["not_timed"] else ""),
        f"{where[0]}, {where[1]}, weights: {weights}.",
    ]


# -- their parts ---------------------------------------------------------------------------------------------------


def mean_sd(values: Sequence[float]) -> str:
    """`mean ± standard deviation` over seeds; the mean alone for one seed."""
    mean = f"{statistics.fmean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.2f}"


def _cell(values: Sequence[float], missing: int) -> str:
    """A figure over seeds; where runs of it have no result, over how many of how many, or that none has one."""
    if not values:
        return FAILED if missing else NOT_RUN
    return mean_sd(values) + (f" (n={len(values)} of {len(values) + missing})" if missing else "")


def _weights(runs: list[dict], dataset: str, encoder: str, model: str) -> str:
    """Which run was counted and timed: the first seed of the grid."""
    run = next((r for r in runs if (r["dataset"], r["encoder"], r["model"]) == (dataset, encoder, model)), None)
    if run is None:
        return "of a run without a result"
    return f"of recipe {run['recipe']['name']}, seed {run['seed']}, epoch {run['selected_epoch']} ({run['selection']})"


def _column(dataset: str, declared: dict) -> tuple[str, str]:
    """Key and title of the column that a dataset's figures stand in."""
    described = declared["datasets"][dataset]
    key = described.get("published") or _whole_dataset(dataset, declared) + "*"
    return key, PUBLISHED_DATASETS.get(key, described["title"])


def _whole_dataset(dataset: str, declared: dict) -> str:
    """The dataset of which one is a fold, or the dataset itself."""
    return declared["datasets"][dataset].get("fold_of", dataset)


def _place(run: dict, encoder: str, declared: dict) -> tuple[str, str, str]:
    """Dataset with all its folds, encoder and recipe of a run: a column of the ablation table."""
    return _whole_dataset(run["dataset"], declared), encoder, run["recipe"]["name"]


def _group(run: dict, encoder: str) -> tuple[str, str, str]:
    return run["model"], encoder, run["recipe"]["name"]


def _grouped(runs: list[dict], missing: list[dict]) -> list[tuple[tuple[str, str, str], list[dict]]]:
    """Runs by model, encoder and recipe; a group of which no run has a result is empty."""
    groups: dict[tuple[str, str, str], list[dict]] = {}
    for run in runs:
        groups.setdefault(_group(run, run["encoder"]), []).append(run)
    for run in missing:
        groups.setdefault(_group(run, run["encoder"]["name"]), [])
    return list(groups.items())


def _measured(recipe: str, group: list[dict], declared: dict) -> str:
    """Recipe and number of runs behind a cell: seeds, times folds where a dataset has them."""
    per_dataset: dict[str, set] = {}
    for run in group:
        per_dataset.setdefault(_whole_dataset(run["dataset"], declared), set()).add((run["dataset"], run["seed"]))
    counts = sorted({len(runs) for runs in per_dataset.values()})
    return f"measured, {recipe}, n={'/'.join(map(str, counts)) or 0}"


def _protocol(runs: list[dict], declared: dict) -> list[str]:
    """What the measured figures were measured on, one line for each setting, and the runs left out.

    Systems of one recipe may train for different numbers of epochs: the line says which for how many.
    """
    seeds: dict[str, set[int]] = {}
    epochs: dict[str, dict[str, None]] = {}
    several = len({(run["recipe"]["epochs"], run["recipe"]["selection"]) for run in runs}) > 1
    for run in runs:
        recipe = run["recipe"]
        dataset, encoder = declared["datasets"][run["dataset"]]["title"], declared["encoders"][run["encoder"]]["title"]
        setting = (
            f"Ours on {dataset} with {encoder}: {run['split']} split ({run['test_sentences']} sentences), symmetric "
            f"types direction-free; recipe {recipe['name']} (EPOCHS); {run['device_name']} ({run['device']}, "
            f"{run['threads']} threads), {run['precision']}; mean ± standard deviation where n > 1; seeds "
        )
        seeds.setdefault(setting, set()).add(run["seed"])
        trained = f"{recipe['epochs']} epochs, selection {recipe['selection']}"
        if several:
            trained = f"{declared['models'][run['model']]['title']} {trained}"
        epochs.setdefault(setting, {})[trained] = None
    lines = [
        f"{setting.replace('EPOCHS', '; '.join(epochs[setting]))}{', '.join(map(str, sorted(used)))}."
        for setting, used in seeds.items()
    ]
    return lines + _remarks(declared)


def _remarks(declared: dict) -> list[str]:
    """The grid's own remark, the runs left out and those without a result, with their reasons."""
    lines = [declared["remark"]] if declared["remark"] else []
    lines += [f"Left out: {path}: {reason}." for path, reason in declared["left_out"]]
    for run in declared["missing"]:
        lines.append(
            f"No result: {run['dataset']}/{run['encoder']['name']}/{run['model']}/{run['seed']}: {run['reason']}."
        )
    return lines


def _tidy(
    source: str,
    system: str,
    encoder: str,
    dataset: str,
    figure: str,
    values: Sequence[float],
    seeds: Sequence[int] = (),
) -> dict:
    return {
        "source": source,
        "system": system,
        "encoder": encoder,
        "dataset": dataset,
        "figure": figure,
        "mean": round(statistics.fmean(values), 4),
        "sd": round(statistics.stdev(values), 4) if len(values) > 1 else None,
        "n": len(values),
        "values": " ".join(f"{v:.4f}" for v in values),
        "seeds": " ".join(map(str, seeds)),
    }


def _efficiency_row(system: str, dataset: str, encoder: str, source: str, figures: dict[str, str]) -> dict:
    row = {"System": system, "Dataset": dataset, "Encoder": encoder, "Source": source}
    absent = NOT_REPORTED if source == "published" else NO_FIGURE
    row |= {column: figures.get(column, absent) for column in EFFICIENCY_COLUMNS}
    return {("", key): value for key, value in row.items()}


def _frame(rows: list[dict]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    frame.columns = pd.MultiIndex.from_tuples(frame.columns)
    return frame


def markdown(table: Table) -> str:
    """The table as Markdown, its two header lines in one."""
    flat = table.frame.copy()
    flat.columns = [" ".join(part for part in column if part) for column in flat.columns]
    body = flat.to_markdown(index=False, disable_numparse=True)
    return f"# {table.title}\n\n{body}\n\n" + "".join(f"- {note}\n" for note in table.notes)


def latex(table: Table) -> str:
    r"""A `table*` float for `\input`; needs the packages booktabs and graphicx."""
    escaped = table.frame.map(_escape)
    escaped.columns = pd.MultiIndex.from_tuples([tuple(map(_escape, c)) for c in table.frame.columns])
    tabular = escaped.style.hide(axis="index").to_latex(
        hrules=True, multicol_align="c", column_format="l" * len(escaped.columns)
    )
    caption = " ".join([f"{table.title}.", *table.notes])
    return (
        "% needs booktabs and graphicx\n\\begin{table*}[t]\n\\centering\n\\resizebox{\\textwidth}{!}{%\n"
        + tabular.rstrip()
        + "}\n\\caption{"
        + _escape(caption)
        + "}\n\\label{tab:"
        + table.name
        + "}\n\\end{table*}\n"
    )


def _escape(text: str) -> str:
    replacements = {"\\": r"\textbackslash{}", "±": r"$\pm$", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(replacements.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text)
