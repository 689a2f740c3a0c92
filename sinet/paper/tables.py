"""The tables: published rows as printed in the papers beside measured rows, told apart, each as csv, md and tex.

The csv files are tidy (one figure a line, per-seed values kept); md and tex are for reading. Rebuilt from the same
records they are the same bytes: no date, no order that depends on a directory listing.
"""

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
NOT_REPORTED, NOT_RUN = "n.r.", "not run"


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
        declared: `datasets`, `encoders`, `models` as configured, the grid's `remark`, and `left_out` runs with reasons.
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
    for (model, encoder, recipe), group in _grouped(runs):
        title, encoder_title = declared["models"][model]["title"], declared["encoders"][encoder]["title"]
        cells = {("", "System"): f"{title} (ours)", ("", "Encoder"): encoder_title, ("", "Source"): _measured(group)}
        for dataset, dataset_title in datasets.items():
            chosen = [r for r in group if _column(r["dataset"], declared)[0] == dataset]
            for metric, name in METRICS.items():
                values = [r["scores"]["symmetric"][metric]["f1"] for r in chosen]
                cells[(dataset_title, name)] = mean_sd(values) if values else NOT_RUN
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
        measured.setdefault((run["dataset"], run["encoder"], run["recipe"]["name"]), {}).setdefault(
            run["model"], []
        ).append(run)
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
        for (dataset, encoder, recipe), models in measured.items():
            group = models.get(settings.get(setting), [])
            titles = declared["datasets"][dataset]["title"], declared["encoders"][encoder]["title"]
            for metric, name in METRICS.items():
                values = [r["scores"]["symmetric"][metric]["f1"] for r in group]
                cells[(f"{titles[0]}, {titles[1]}, ours ({recipe})", name)] = mean_sd(values) if values else NOT_RUN
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
    """Multiply-adds and time of inference; the deck states neither input, batch nor device for its figures."""
    rows, tidy, notes = [], [], []
    columns = ("Encoder FLOPs (M)", "Head FLOPs (M)", "Total FLOPs (M)", "Inference (s)", "Sentences/s")
    encoders = {"scierc": "SciBERT", "ace05": "ALBERT"}
    for dataset, entries in published.items():
        for entry in entries:
            values = (None, None, entry["flops_m"], entry["inference_s"], None)
            texts = [NOT_REPORTED if v is None else f"{v:,}" for v in values]
            where = PUBLISHED_DATASETS[dataset], encoders[dataset]
            rows.append(_efficiency_row(entry["system"], *where, "published", dict(zip(columns, texts, strict=True))))
            tidy += [
                _tidy("published", entry["system"], where[1], where[0], c, [v])
                for c, v in zip(columns, values, strict=True)
                if v is not None
            ]
    for folder in sorted(folders):
        dataset, encoder = folder.parts[-2:]
        where = declared["datasets"][dataset]["title"], declared["encoders"][encoder]["title"]
        flops = json.loads((folder / "flops.json").read_text(encoding="utf-8"))
        timing = json.loads((folder / "timing.json").read_text(encoding="utf-8"))
        for model, counted in flops["systems"].items():
            timed = timing["systems"][model]
            values = (
                counted["encoder"] / 1e6,
                counted["heads"] / 1e6,
                counted["total"] / 1e6,
                timed["median_s"],
                timed["sentences_per_s"],
            )
            low, high = timed["quartiles_s"]
            texts = (*(f"{v:,.1f}" for v in values[:3]), f"{values[3]:.2f} [{low:.2f}, {high:.2f}]", f"{values[4]:.0f}")
            title = declared["models"][model]["title"]
            rows.append(_efficiency_row(f"{title} (ours)", *where, "measured", dict(zip(columns, texts, strict=True))))
            tidy += [_tidy("measured", title, where[1], where[0], c, [v]) for c, v in zip(columns, values, strict=True)]
            pieces = counted["word_pieces"]
        weights = "; ".join(
            f"{declared['models'][m]['title']} {_weights(runs, dataset, encoder, m)}" for m in flops["systems"]
        )
        repeats = min(t["repeats"] for t in timing["systems"].values())
        notes.append(
            f"{where[0]}, {where[1]}, ours: FLOPs are multiply-adds per sentence, mean over the {flops['split']} split "
            f"({counted['sentences']} sentences, {pieces:.1f} word pieces on average), counted by fvcore under eager "
            f"attention, in batches of equal length in pieces. Inference: median [quartiles] of {repeats} or more "
            "passes over the "
            f"{timing['sentences']} sentences of the {timing['split']} split, token ids to triples, batch "
            f"{timing['batch_size']} sorted by length, {timing['precision']}, {timing['device_name']} "
            f"({timing['device']}, {timing['threads']} threads), alone on the machine. Weights: {weights}."
        )
    notes.insert(
        0,
        f"Published: the deck states no unit, input, batch size or device. {NOT_REPORTED}: not reported there.",
    )
    return Table("efficiency", "Efficiency", _frame(rows), pd.DataFrame(tidy), (*notes, *_remarks(declared)))


# -- their parts ---------------------------------------------------------------------------------------------------


def mean_sd(values: Sequence[float]) -> str:
    """`mean ± standard deviation` over seeds; the mean alone for one seed."""
    mean = f"{statistics.fmean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.2f}"


def _weights(runs: list[dict], dataset: str, encoder: str, model: str) -> str:
    """Which run was counted and timed: the first seed of the grid."""
    run = next(r for r in runs if (r["dataset"], r["encoder"], r["model"]) == (dataset, encoder, model))
    return f"of recipe {run['recipe']['name']}, seed {run['seed']}, epoch {run['selected_epoch']} ({run['selection']})"


def _column(dataset: str, declared: dict) -> tuple[str, str]:
    """Key and title of the column that a dataset's figures stand in."""
    described = declared["datasets"][dataset]
    key = described.get("published") or dataset + "*"
    return key, PUBLISHED_DATASETS.get(key, described["title"])


def _grouped(runs: list[dict]) -> list[tuple[tuple[str, str, str], list[dict]]]:
    groups: dict[tuple[str, str, str], list[dict]] = {}
    for run in runs:
        groups.setdefault((run["model"], run["encoder"], run["recipe"]["name"]), []).append(run)
    return list(groups.items())


def _measured(group: list[dict]) -> str:
    per_dataset = {}
    for run in group:
        per_dataset.setdefault(run["dataset"], set()).add(run["seed"])
    counts = sorted({len(seeds) for seeds in per_dataset.values()})
    return f"measured, {group[0]['recipe']['name']}, n={'/'.join(map(str, counts))}"


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
    """The grid's own remark, and the runs left out with their reasons."""
    remark = [declared["remark"]] if declared["remark"] else []
    return remark + [f"Left out: {path}: {reason}." for path, reason in declared["left_out"]]


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
    row = {"System": system, "Dataset": dataset, "Encoder": encoder, "Source": source} | figures
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
