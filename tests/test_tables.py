"""What the tables show of a small grid: means, differences, bold, cells without a result, sums."""

import csv
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt

from sinet import published
from sinet.data.sentence import Sentence, read_sentences
from sinet.errors import UserError
from sinet.evaluate.analyse import analyse
from sinet.evaluate.compare import Scored, compare, sentence_counts
from sinet.evaluate.metrics import score
from sinet.files import write_sealed
from sinet.grid.config import load_config
from sinet.grid.plan import resolve
from sinet.grid.recipes import selection
from sinet.report.ablation_table import ablation_table
from sinet.report.breakdown_tables import _classes, relaxed_table, slices_table
from sinet.report.frame import TYPE
from sinet.report.grid import METRICS, Grid, Place
from sinet.report.main_table import main_table
from sinet.report.published_table import published_table
from sinet.report.table import Table, frame, latex, markdown, mean_sd, number, tidy_line, write
from sinet.report.tables import write_tables
from sinet.schema import RunSpec
from tests.conftest import CORPUS, LABELS, ROOT, recorded_recipe

GOLD = read_sentences(CORPUS) * 20
NOT_COMPARED = compare([], {"datasets": {}, "models": {}, "skipped": [], "failed": []}, resamples=10)
MODELS = {
    "ours": {"title": "SINET", "published": "SINET", "setting": "Base+TAP+CTAM"},
    "pfn": {"title": "PFN", "published": "PFN"},
    "spert": {"title": "SpERT", "published": "SpERT"},
    "base": {"title": "SINET Base", "setting": "Base"},
}


def declared(runs: list[str], failed: list[list[str]], skipped: list[list[str]]) -> dict:
    return {
        "datasets": {
            "ten": {"title": "Ten", "published": "scierc"},
            "scierc": {"title": "First sentences"},
            "ace04": {"title": "ACE04", "published": "ace04"},
            **{f"folds-{i}": {"title": "Folds", "fold_of": "folds"} for i in range(2)},
        },
        "encoders": {"tiny": {"title": "Tiny", "published": "SciB"}},
        "models": MODELS,
        "reference": "ours",
        "remark": None,
        "published": [],
        "runs": dict.fromkeys(runs, "full"),
        "skipped": skipped,
        "failed": failed,
        "archived": [],
    }


def predict(model: str, seed: int) -> list[Sentence]:
    """`ours` finds everything but the relations of one sentence a seed; the others lose every third sentence."""
    lost = (lambda i: i == seed) if model == "ours" else (lambda i: i % 3 == seed % 3)
    return [s.with_labels((), ()) if lost(i) else s for i, s in enumerate(GOLD)]


RECIPE = recorded_recipe("full", epochs=2)


def record(model: str, seed: int, dataset: str = "ten") -> dict:
    predicted = predict(model, seed)
    return {
        **{"dataset": dataset, "encoder": "tiny", "model": model, "seed": seed, "split": "test"},
        **{"recipe": RECIPE, "selection": "last"},
        **{"scores": score(GOLD, predicted, LABELS), "test_sentences": len(GOLD), "train_sentences": 7},
        **{"dev": {"ent": 50.0 + seed, "rel": 40.0, "rel_plus": 30.0}, "dev_sentences": 9, "trained_on": "train"},
        **{"device": "cpu", "device_name": "a CPU", "threads": 1, "precision": "float32"},
    }


def write_grid(
    folder: Path,
    runs: list[tuple[str, int]],
    failed: list[list[str]],
    datasets: tuple[str, ...] = ("ten",),
    skipped: list[list[str]] = (),
) -> dict[str, str]:
    """Records, analyses and comparisons on disk, then all tables; the Markdown ones by name."""
    scored, records = [], []
    without = {path for path, _ in failed}
    for dataset, (model, seed) in itertools.product(datasets, runs):
        if f"{dataset}/tiny/{model}/{seed}" in without:
            continue
        run = folder / dataset / model / str(seed)
        run.mkdir(parents=True)
        made = record(model, seed, dataset)
        write_sealed(run / "record.json", made)
        write_sealed(run / "analysis.json", analyse(GOLD, predict(model, seed), LABELS))
        counts = sentence_counts(GOLD, predict(model, seed), LABELS.symmetric)
        scored.append(Scored(dataset, "tiny", "full", model, seed, counts, "sentence"))
        records.append(run / "record.json")
    planned = declared([f"{d}/tiny/{m}/{s}" for d, (m, s) in itertools.product(datasets, runs)], failed, skipped)
    write_sealed(folder / "comparisons.json", compare(scored, planned, resamples=1000))
    write_tables(records, folder / "comparisons.json", [], planned, folder / "tables")
    return {path.stem: path.read_text() for path in (folder / "tables").glob("*.md")}


THREE = [(m, s) for m in ("ours", "pfn", "base") for s in range(3)]


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("grid")
    write_grid(folder, THREE, [])
    return folder / "tables"


def rows(path: Path, **wanted: str) -> list[dict]:
    return [r for r in csv.DictReader(path.open()) if all(r[k] == v for k, v in wanted.items())]


def lines(path: Path, start: str) -> list[list[str]]:
    """Cells of the Markdown rows whose first cell is `start`."""
    split = [[c.strip() for c in line.strip("|").split("|")] for line in path.read_text().splitlines()]
    return [cells for cells in split if cells[0] == start]


def test_main_table_is_mean_and_deviation_over_the_seeds_given(tables):
    (row,) = rows(tables / "main.csv", system="PFN", source="measured, full, n=3, test of Ten", figure="Rel+")
    values = [record("pfn", s)["scores"]["symmetric"]["rel_plus"]["f1"] for s in range(3)]
    assert row["values"] == " ".join(f"{v:.4f}" for v in values) and row["seeds"] == "0 1 2" and row["n"] == "3"
    mean, deviation = np.mean(values), np.std(values, ddof=1)
    assert lines(tables / "main.md", "PFN (ours)")[0][-1] == f"{mean:.2f} ± {deviation:.2f}" and deviation > 0.01
    assert (float(row["mean"]), float(row["sd"])) == pytest.approx((mean, deviation), abs=1e-4)
    assert lines(tables / "main.md", "PFN (ours)")[0][3] == "not run", "ACE04"


def test_relations_of_gold_entities_have_a_column_where_some_run_has_them(tables):
    assert "gold entities" not in (tables / "main.md").read_text()
    runs = [(m, s) for m in ("ours", "spert", "pfn") for s in range(2)]
    made = [record(*run) for run in runs]
    for i, f1 in enumerate((80.0, 82.0, 70.0)):  # both of ours, one of SpERT's
        of = made[i]["scores"]["symmetric"]
        of["rel_gold_entities"] = of["rel_plus"] | {"f1": f1}
    grid = Grid(made, declared([f"ten/tiny/{m}/{s}" for m, s in runs], [], []), NOT_COMPARED)
    table = main_table(grid, [], [])
    shown = dict(zip(table.frame["", "System"], table.frame["SciERC", "Rel, gold entities"], strict=True))
    assert {k: str(v) for k, v in shown.items()} == {
        "SINET (ours)": "81.00 ± 1.41",
        "SpERT (ours)": "\u2013",
        "PFN (ours)": "\u2013",
    }
    (note,) = [note for note in table.notes if "\u2013" in note]
    assert note.startswith("Rel, gold entities: "), "a dash is not said to be a dataset without relation types"
    assert set(table.tidy["figure"]) == {*METRICS.values(), "Rel, gold entities"}


def test_deviations_are_those_of_a_sample():
    assert mean_sd([60, 62, 64]).text == "62.00 ± 2.00" and mean_sd([61.25]).text == "61.25"
    spread, alone = (tidy_line("s", "PFN", "e", "d", "Ent", values)["sd"] for values in ([60, 62, 64], [61.25]))
    assert spread == 2 and alone is None


@pytest.mark.parametrize(
    ("ours_pfn", "ours_spert", "pfn_spert", "bold"),
    [
        (1, 1, 0, "SINET"),
        (1, 0, 1, None),
        (0, 1, -1, None),
        (1, -1, -1, "SpERT"),
        (-1, 1, 1, "PFN"),
        (1, None, 0, None),
    ],
)
def test_bold_is_the_system_that_beats_all_others(ours_pfn, ours_spert, pfn_spert, bold):
    """Significantly better (1), worse (-1), neither (0), or not compared (None)."""
    runs = [(m, s) for m in ("ours", "pfn", "spert") for s in range(3)]
    place = {
        "dataset": "ten",
        "encoder": "tiny",
        "recipe": "full",
        "kind": "system",
        "metric": "ent",
        "detectable": 2.5,
    }
    pairs = {("ours", "pfn"): ours_pfn, ("ours", "spert"): ours_spert, ("pfn", "spert"): pfn_spert}
    made = [
        place | {"system": one, "other": other, "difference": 3.0 * (sign or 1), "p_holm": 0.01 if sign else 0.2}
        for (one, other), sign in pairs.items()
        if sign is not None
    ]
    planned = declared([f"ten/tiny/{m}/{s}" for m, s in runs], [], [])
    compared = NOT_COMPARED | {"comparisons": made, "units": {"ten": "document"}}
    made = main_table(Grid([record(*run) for run in runs], planned, compared), [], [])
    cells = zip(made.frame["", "System"], made.frame["SciERC", "Ent"], strict=True)
    assert [name.removesuffix(" (ours)") for name, cell in cells if cell.bold] == ([bold] if bold else [])
    assert not any(cell.bold for cell in made.frame["SciERC", "Rel"])
    assert "have 80 % power for Ten, Tiny, full: Ent 2.5." in made.notes[1]
    assert "bootstrap over the documents of Ten, 1" in made.notes[1]


def test_bold_is_what_is_significant(tables):
    (ours,), (pfn,) = lines(tables / "main.md", "SINET (ours)"), lines(tables / "main.md", "PFN (ours)")
    assert all(cell.startswith("**") for cell in ours[-3:]) and not any("**" in cell for cell in pfn)
    assert "Bold: a system that is significantly better than every other" in (tables / "main.md").read_text()
    found = rows(tables / "significance.csv", other="PFN")
    assert len(found) == 3 and all(float(r["p_holm"]) < 0.05 for r in found)
    assert [r[16] for r in lines(tables / "significance.md", "Ten")] == [
        f"{float(r['detectable']):.2f}" for r in rows(tables / "significance.csv")
    ]
    same = rows(tables / "ablation.csv", system="Base", source="measured, full, n=3, test")
    assert [r["figure"] for r in same] == ["Ent", "Rel", "Rel+"]
    steps = lines(tables / "ablation.md", "Ten")
    (full, full_on_dev), (base, _) = ([s for s in steps if s[3] == name] for name in ("Base+TAP+CTAM", "Base"))
    (against,) = rows(tables / "significance.csv", system="SINET", other="SINET Base", figure="Rel+")
    assert full[-1].startswith("**+") and full[-1].endswith(f" ({float(against['detectable']):.1f})**")
    assert base[-1] == "0.00" and full_on_dev[-2:] == ["30.00 ± 0.00", "0.00"]
    assert [s[2] for s in steps if s[3] == "Base+TAP"] == ["not run"] * 2
    assert all(s[4:] == ["not run"] * 6 for s in steps if s[3] == "Base+TAP")
    assert "\\textbf{\\num{" in (tables / "main.tex").read_text()


def test_nothing_is_bold_between_equals(tmp_path):
    made = write_grid(tmp_path, [("pfn", 0), ("base", 0)], [])
    assert "no two systems to compare" in made["significance"]
    assert not any("**" in text for text in made.values())


def test_nothing_is_bold_of_a_single_run(tmp_path):
    made = write_grid(tmp_path, [("ours", 0), *((m, s) for m in ("pfn", "base") for s in range(3))], [])
    assert not any("**" in text for text in made.values())
    (row, *_) = lines(tmp_path / "tables" / "significance.md", "Ten")
    assert float(row[12].replace("< ", "")) < 0.05 and row[13] == row[16] == "n < 3", "p of these runs, no test"
    assert "comparisons of fewer runs are not tested" in made["main"] and "No comparison is tested." in made["main"]


def test_published_and_measured(tables):
    (row,) = rows(tables / "published_vs_measured.csv", system="PFN", figure="Rel+")
    mean = float(row["mean"])
    assert float(row["published"]) == 38.4 and float(row["difference"]) == pytest.approx(mean - 38.4, abs=1e-3)
    assert "encoder: SciBERT / Tiny" in row["differs"] and "selection: best of 100 epochs on dev" in row["differs"]
    text = (tables / "published_vs_measured.md").read_text()
    assert "- Published, no such system here: SPTree with BERT (ACE04, ACE05); " in text
    assert "SpERT with SciBERT (SciERC)" in text[text.index("- Published, not run: ") :]
    (pfn,) = lines(tables / "published_vs_measured.md", "PFN")
    assert pfn[:8] == ["PFN", "SciBERT", "SciERC", "full", "test", "3", "66.80", mean_sd(ent_of_pfn()).text]
    assert [row[4] for row in lines(tables / "published_vs_measured.md", "Ablation, Base")] == ["test", "dev"]


def ent_of_pfn() -> list[float]:
    return [record("pfn", s)["scores"]["symmetric"]["ent"]["f1"] for s in range(3)]


def test_a_difference_is_set_against_the_spread_that_the_source_reports_and_no_other():
    printed = published.tables()
    figures = next(r for r in printed["main"] if (r["system"], r["encoder"]) == ("PFN", "SciB"))["scierc"]
    assert figures["sd"] == {"ent": 0.67, "rel_strict": 1.06}
    runs = [record("pfn", s) for s in range(3)]
    grid = Grid(runs, declared([f"ten/tiny/pfn/{s}" for s in range(3)], [], []), NOT_COMPARED)
    table = published_table(grid, printed)
    assert [c[0] for c in table.frame.columns if c[1] == "in published sd"] == ["Ent", "Rel+"]
    apart = (sum(ent_of_pfn()) / 3 - 66.8) / 0.67
    assert table.frame[("Ent", "in published sd")].map(str).tolist() == [f"{apart:+.1f}"]
    assert table.tidy["difference_in_published_sd"].dropna().tolist()[0] == pytest.approx(apart, abs=1e-3)
    assert "over the standard deviation that its source reports" in table.notes[0]
    del figures["sd"]
    table = published_table(grid, printed)
    assert "sd" not in "".join(f"{a} {b}" for a, b in table.frame.columns) and "published_sd" not in table.tidy


def test_classes_and_kinds_add_up_to_the_scores(tables):
    scores = record("pfn", 0)["scores"]["symmetric"]
    types = [line for line in lines(tables / "types.md", "Ten") if line[2] == "Ent"]
    assert sum(int(line[4]) for line in types) == scores["ent"]["gold"]
    missed = scores["ent"]["gold"] - scores["ent"]["correct"]
    (row,) = rows(tables / "errors.csv", system="PFN", figure="missing entity")
    assert float(row["values"].split()[0]) == missed
    (row,) = rows(tables / "errors.csv", system="PFN", figure="all errors of entities")
    assert float(row["values"].split()[0]) == missed
    assert "- Seeds on Ten, Tiny, full: n=3." in (tables / "types.md").read_text()
    lengths = [r for r in lines(tables / "slices.md", "Ten") if r[2:4] == ["Ent", "Words of the sentence"]]
    assert sum(int(r[5]) for r in lengths) == len(GOLD)


def test_relaxed_matching_stands_under_the_strict_one(tables):
    shown = [line for line in lines(tables / "relaxed.md", "Ten") if line[2] == "Ent"]
    (main,) = lines(tables / "main.md", "PFN (ours)")
    assert [line[3] for line in shown] == ["strict", "exact", "partial", "type"] and shown[0][6] == main[-3]
    (row,) = rows(tables / "relaxed.csv", system="PFN", figure="Rel+, partial")
    values = [analyse(GOLD, predict("pfn", s), LABELS)["relaxed"]["rel_plus"]["partial"]["f1"] for s in range(3)]
    assert row["values"] == " ".join(f"{v:.4f}" for v in values)


def analysed(counts: dict[str, tuple[list[int], dict]]) -> Grid:
    """Runs of one seed by model: of each fold the sentences without gold relations, the relations predicted there and
    the sentences that have one; and what else its analysis holds."""
    made = []
    for model, (folds, more) in counts.items():
        for fold, of in enumerate(folds):
            found = dict(zip(("sentences", "relations", "predicted_in"), of, strict=True))
            analysis = analyse(GOLD, GOLD, LABELS) | {"without_gold_relations": found} | more
            made.append(record(model, 0, f"folds-{fold}") | {"analysis": analysis})
    paths = [f"{run['dataset']}/tiny/{run['model']}/0" for run in made]
    return Grid(made, declared(paths, [], []), NOT_COMPARED)


def test_what_is_predicted_without_gold_relations_is_shown_by_hand():
    grid = analysed({"ours": ([(3, 6, 2), (1, 0, 0)], {}), "pfn": ([(3, 0, 0), (1, 1, 1)], {})})
    table = slices_table(grid)
    shown = table.frame.map(str)[-2:]
    assert shown[("", "Figure")].tolist() == ["Relations predicted", "Share with a relation"]
    assert shown[("System", "SINET")].tolist() == ["1.500", "0.500"]
    assert shown[("System", "PFN")].tolist() == ["0.250", "0.250"]
    assert shown[("", "Sentences")].tolist() == ["4", "4"] and shown[("", "Class")].tolist() == ["0", "0"]
    assert table.tidy[table.tidy["figure"] == "Relations predicted"]["mean"].tolist() == [1.5, 0.25]
    everywhere = slices_table(analysed({"ours": ([(0, 0, 0)] * 2, {})}))
    assert "Relations predicted" not in set(everywhere.frame[("", "Figure")])


def test_figures_without_sentences_of_train_stand_under_the_main_table():
    def unseen(seen: int, *f1: float) -> dict:
        counts = {"gold": 9, "predicted": 9, "correct": 9}
        return {"without_seen": {"seen": seen} | {m: {"f1": f} | counts for m, f in zip(METRICS, f1, strict=True)}}

    two = [(0, 0, 0)] * 2
    grid = analysed(
        {"ours": (two, unseen(8, 70, 60, 50.5)), "pfn": (two, unseen(8, 40, 30, 20)), "base": (two, unseen(8, 1, 1, 1))}
    )
    notes = main_table(grid, [], []).notes
    assert (
        "Folds, Tiny, full: 16 of 400 test sentences also stand in train, with the same words but for capitals; "
        "without them Ent / Rel / Rel+: SINET 70.00 / 60.00 / 50.50; PFN 40.00 / 30.00 / 20.00."
    ) in notes, "steps of the ablation have no row"
    (note,) = [n for n in main_table(analysed({"pfn": (two, unseen(200, 0, 0, 0))}), [], []).notes if "in train" in n]
    assert note.endswith("400 of 400 test sentences also stand in train, with the same words but for capitals.")
    assert not any("in train" in n for n in main_table(analysed({"pfn": (two, unseen(0, 1, 1, 1))}), [], []).notes)


def test_an_analysis_of_an_earlier_version_leaves_out_what_it_lacks(tmp_path):
    runs = [record(model, 0) | {"analysis": analyse(GOLD, GOLD, LABELS)} for model in ("ours", "pfn")]
    for key in ("relaxed", "symmetric_twice", "without_gold_relations"):
        del runs[0]["analysis"][key]
    grid = Grid(runs, declared([f"ten/tiny/{m}/0" for m in ("ours", "pfn")], [], []), NOT_COMPARED)
    table = relaxed_table(grid)
    assert table.frame.empty and any(note.startswith("Empty: ") for note in table.notes)
    write(table, tmp_path)
    slices = slices_table(grid).frame
    assert "Relations predicted" not in set(slices[("", "Figure")]) and len(slices) > 10
    assert not any("in train" in note for note in main_table(grid, [], []).notes)


def test_every_system_has_examples_of_its_errors(tables):
    shown = lines(tables / "error_examples.md", "Ten")
    kinds = {system: [row[3] for row in shown if row[2] == system] for system in ("SINET", "PFN", "SINET Base")}
    assert kinds["PFN"] == kinds["SINET Base"] == ["missing entity", "missing argument"]
    first = rows(tables / "error_examples.csv", system="PFN", error="missing entity")
    assert (
        len(first) == 3 and first[0]["predicted"] == "nothing" and first[0]["gold"].split(" [")[0] in first[0]["words"]
    )


def test_words_of_examples_stand_for_themselves():
    cells = {"Gold": "<b> *a* `b` a_b|c [T]", "F1": number(1, bold=True)}
    text = markdown(Table("t", "T", frame([cells]), frame([cells]), (), prose=("Gold",)))
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert "&lt;b&gt; *a* `b` a_b|c [T]</td>" in html and "<strong>1.00</strong>" in html


def test_data_without_relations_are_shown_alike_in_all_tables(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "GOLD", [s.with_labels(s.entities, ()) for s in GOLD])
    write_grid(tmp_path, THREE, [])
    made = tmp_path / "tables"
    for model in ("SINET (ours)", "PFN (ours)"):
        (row,) = lines(made / "main.md", model)
        assert row[-2:] == ["no gold"] * 2 and float(row[-3].strip("*").split()[0]) > 0
    (full,) = [s for s in lines(made / "ablation.md", "Ten") if s[3] == "Base+TAP+CTAM" and "test" in s[2]]
    assert full[-4:] == ["no gold"] * 4
    compared = [cells for cells in lines(made / "significance.md", "Ten") if cells[5] != "Ent"]
    assert compared and all(cells[6] == cells[8] == "no gold" and set(cells[10:]) == {"n/a"} for cells in compared)
    (sinet, *_) = (cells for cells in lines(made / "published_vs_measured.md", "SINET") if cells[4] == "test")
    assert sinet.count("no gold") == 2
    assert any("no gold" in path.read_text() for path in made.glob("*types*.md"))


def test_a_missing_run_is_an_error(tables):
    folder = tables.parent
    planned = declared([f"ten/tiny/{m}/{s}" for m, s in THREE], [], [])
    given = [folder / "ten" / m / str(s) / "record.json" for m, s in THREE[:-1]]
    with pytest.raises(UserError, match="no record of ten/tiny/base/2"):
        write_tables(given, folder / "comparisons.json", [], planned, folder / "again")
    with pytest.raises(UserError, match="not in the grid: ten/tiny/pfn/0"):
        write_tables(given[3:4], folder / "comparisons.json", [], declared([], [], []), folder / "again")


def test_a_failed_run_leaves_no_mean(tmp_path):
    failed = [["ten/tiny/base/2", "it ran out of memory"], ["ten/tiny/spert/0", "it diverged"]]
    made = write_grid(tmp_path, [*THREE, ("spert", 0)], failed)
    for name in ("ablation", "types", "slices", "errors"):
        assert "failed (n=2 of 3)" in made[name].split("\n- ")[0], name
        assert "- No result: ten/tiny/base/2: it ran out of memory." in made[name]
    assert lines(tmp_path / "tables" / "ablation.md", "Ten")[0][3:] == ["Base", *["failed (n=2 of 3)"] * 6]
    (row,) = lines(tmp_path / "tables" / "main.md", "SpERT (ours)")
    assert row[2] == "measured, full, n=0" and row[-3:] == ["failed (n=0 of 1)"] * 3
    assert "Not compared on Ten, Tiny, full: SINET with SINET Base: runs of base have no result" in made["significance"]


def test_a_run_skipped_by_the_plan_leaves_no_mean(tmp_path):
    write_grid(tmp_path, THREE, [], skipped=[["ten/tiny/base/3", "no licence"]])
    assert lines(tmp_path / "tables" / "ablation.md", "Ten")[0][3:] == ["Base", *["skipped"] * 6]


def test_folds_are_one_dataset(tmp_path):
    write_grid(tmp_path, [("ours", 0), ("pfn", 0)], [], datasets=("folds-0", "folds-1"))
    tables = tmp_path / "tables"
    (row,) = rows(tables / "main.csv", system="PFN", source="measured, full, n=1, test", figure="Ent")
    assert (row["dataset"], row["n"], row["seeds"]) == ("Folds", "1", "0")
    assert "measured, full, n=1, test" in lines(tables / "main.md", "PFN (ours)")[0]
    assert "(200 sentences), mean over the 2 folds of each seed" in (tables / "main.md").read_text()
    write_grid(tmp_path / "one", [("ours", 0)], [], datasets=("folds-0",))
    assert "(200 sentences), fold 0 alone, symmetric" in (tmp_path / "one" / "tables" / "main.md").read_text()
    assert len(rows(tables / "significance.csv", dataset="Folds")) == 3
    (row,) = rows(tables / "errors.csv", system="PFN", figure="missing entity")
    ent = record("pfn", 0)["scores"]["symmetric"]["ent"]
    assert float(row["values"]) == 2 * (ent["gold"] - ent["correct"]), "counts are sums over the folds"
    gold = sum(int(line[4]) for line in lines(tables / "types.md", "Folds") if line[2] == "Ent")
    assert gold == 2 * record("pfn", 0)["scores"]["symmetric"]["ent"]["gold"]


def test_seeds_are_over_the_means_of_their_folds(tmp_path):
    folds, seeds = ("folds-0", "folds-1"), range(3)
    declared_ = declared([f"{d}/tiny/pfn/{s}" for d in folds for s in seeds], [], [])
    runs = [record("pfn", s, d) for d in folds for s in seeds]
    for i, run in enumerate(runs):
        run["scores"]["symmetric"]["ent"] |= {
            "f1": [10, 20, 60, 30, 50, 70][i],
            "correct": i,
            "predicted": 9,
            "gold": 9,
        }
        run["scores"]["symmetric"]["ent"]["types"] = {"Task": {"f1": 1.0, "correct": i, "predicted": 9, "gold": 9}}
    place, grid = Place("folds", "tiny", "full"), Grid(runs, declared_, {})
    assert grid.f1(place, "pfn", "ent") == [20, 35, 65]
    (*_, support, f1), *_ = _classes(grid, [TYPE])
    assert f1 == {"pfn": [pytest.approx(200 * c / 36) for c in (0 + 3, 1 + 4, 2 + 5)]} and support["gold"] == 18
    assert Grid(runs[:-1], declared_, {}).f1(place, "pfn", "ent").text == "failed (n=2 of 3)"
    assert [Grid(runs, declared_, {}).title("datasets", d) for d in ("folds", "folds-1")] == ["Folds", "Folds, fold 1"]


def test_a_dataset_that_only_shares_a_published_name_has_a_column_of_its_own(tmp_path):
    write_grid(tmp_path, [("ours", 0), ("pfn", 0)], [], datasets=("scierc", "ten"))
    measured = lines(tmp_path / "tables" / "main.md", "PFN (ours)")[0]
    assert measured[3:9] == ["not run"] * 6 and "not run" not in measured[9:]
    assert {row["dataset"] for row in rows(tmp_path / "tables" / "published_vs_measured.csv")} == {"SciERC"}


def test_the_tables_of_own_data_hold_nothing_of_the_paper(tmp_path):
    made = write_grid(tmp_path, [("ours", 0), ("pfn", 0), ("base", 0)], [], datasets=("scierc",))
    tables = tmp_path / "tables"
    assert [row[0] for row in body(tables / "main.md")] == ["SINET (ours)", "PFN (ours)"]
    assert len(body(tables / "main.md")[0]) == 6 and [row[3] for row in body(tables / "ablation.md")] == [
        *["Base+TAP+CTAM", "Base"] * 2
    ]
    assert body(tables / "published_vs_measured.md") == [] and rows(tables / "published_vs_measured.csv") == []
    assert not any("n.r." in text or "Wadden" in text for text in made.values())
    made = write_grid(tmp_path / "alone", [("pfn", 0)], [], datasets=("scierc",))
    assert body(tmp_path / "alone" / "tables" / "ablation.md") == []


def test_mge_is_held_against_no_published_figure(tmp_path):
    """It is a reconstruction from an abstract: in every shipped configuration, its row stands by itself."""
    for overlay in (ROOT / "config").glob("*.yaml"):
        models = load_config(overlay)["models"]
        of_mge = {n: m for n, m in models.items() if m.get("settings", {}).get("interaction") == "mge"}
        assert of_mge == {"mge": of_mge["mge"]} and of_mge["mge"]["title"] == "MGE, reconstructed from its abstract"
        assert "published" not in of_mge["mge"] and not any(m.get("published") == "MGE" for m in models.values())
    planned = declared(["ten/tiny/mge/0", "ten/tiny/pfn/0"], [], [])
    planned["models"] = MODELS | {"mge": of_mge["mge"]}
    grid = Grid([record("pfn", 0), record("pfn", 0) | {"model": "mge"}], planned, NOT_COMPARED)
    pairs = published_table(grid, published.tables())
    assert pairs.frame[("", "System")].map(str).tolist() == ["PFN"] and set(pairs.tidy["system"]) == {"PFN"}
    shown = main_table(grid, published.tables()["main"], []).frame.map(str)
    sources = dict(zip(shown[("", "System")], shown[("", "Source")], strict=True))
    assert {source for name, source in sources.items() if name.startswith("MGE (")} == {"published; no MGE here"}
    assert list(sources)[-1] == "MGE, reconstructed from its abstract (ours)"


def test_published_rows_of_ones_own_stand_in_the_main_table(tmp_path):
    """Of own data and of the paper's columns, under a title of their own; ours of that name stands beneath."""
    (tmp_path / "rows.yaml").write_text(
        "main:\n"
        '  - {system: Theirs, cite: "Someone, 2026", encoder: RoBERTa, own: {ent: 91.25}, ace05: {ent: 80.0}}\n'
        '  - {system: PFN, cite: "Others, 2026", encoder: SciB, own: {rel_strict: 12.5}}\n'
    )
    planned = declared(["own/tiny/pfn/0"], [], [])
    planned["datasets"]["own"] = {"title": "Own data"}
    grid = Grid([], planned | {"published": published.own_rows(tmp_path / "rows.yaml")}, NOT_COMPARED)
    table = main_table(grid, [], grid.declared["published"])
    shown = table.frame.map(str)
    assert shown[("", "System")].tolist() == ["Theirs (Someone, 2026)", "PFN (Others, 2026)", "PFN (ours)"]
    assert shown[("", "Encoder")].tolist() == ["RoBERTa", "SciBERT", "Tiny"]
    assert shown[("Own data", "Ent")].tolist()[:2] == ["91.25", "n.r."] and shown[("ACE05", "Ent")][0] == "80.00"
    assert shown[("Own data", "Rel+")][1] == "12.50" and "SciERC" not in shown
    assert "Published elsewhere: Theirs (Someone, 2026); PFN (Others, 2026)." in table.notes
    (line,) = [
        line for line in table.tidy.to_dict("records") if line["system"] == "Theirs" and line["dataset"] == "ACE05"
    ]
    assert (line["source"], line["mean"]) == ("published; no Theirs here", 80.0)


def test_what_was_skipped_altogether_has_its_row_and_column(tmp_path):
    absent = [["ace04/tiny/ours/0", "no corpus"], ["ten/tiny/spert/0", "no memory"]]
    made = write_grid(tmp_path, [("ours", 0), ("pfn", 0)], [], skipped=absent)
    tables = tmp_path / "tables"
    assert lines(tables / "main.md", "SINET (ours)")[0][3:6] == ["skipped"] * 3
    assert lines(tables / "main.md", "PFN (ours)")[0][3:6] == ["not run"] * 3
    spert = lines(tables / "main.md", "SpERT (ours)")[0]
    assert spert[2] == "skipped: no memory" and spert[-3:] == ["skipped"] * 3
    assert "F1 SpERT" in made["types"] and "- Skipped, 1 run on ten/tiny (spert): no memory." in made["main"]
    assert "- Published, skipped (no memory): SpERT with SciBERT (SciERC)." in made["published_vs_measured"]
    (row,) = rows(tables / "main.csv", system="SpERT", source="skipped: no memory", figure="Ent")
    assert (row["dataset"], row["mean"], row["n"]) == ("SciERC", "", "0")
    assert "Not compared on Ten, Tiny, full: SINET with SpERT: runs of spert have no result." in made["significance"]


def test_texts_of_cells():
    signed = [number(*of, sign=True).text for of in ((0.004,), (-0.001,), (-0.5,), (1.25, 1), (1234,))]
    assert signed == ["0.00", "0.00", "-0.50", "+1.2", "+1,234.00"]
    cells = [{"a|b": "x | y_1", "c": number(1.2, sd=0.3, sign=True, bold=True)}]
    table = Table("t", "T", frame(cells), frame(cells), ("50 % of \u03b3 and é.",))
    assert "x \\| y_1" in markdown(table) and "**+1.20 ± 0.30**" in markdown(table)
    made = latex(table)
    assert r"x $|$ y\_1" in made and r"\textbf{\num{+1.20 \pm 0.30}}" in made and r"50 \% of ? and e." in made


# -- the paper's grid ----------------------------------------------------------------------------------------------


def f1_on(split: str, metric: str, dataset: str, seed: int) -> float:
    """A figure that tells where it comes from."""
    return {"test": 60, "dev": 70}[split] + 2 * seed + int(dataset[-1] if "-" in dataset[-2:] else 0) + len(metric) / 10


def of_paper(run: RunSpec) -> dict:
    """A record of a planned run; without figures of dev where its recipe trains on dev."""
    recipe, on = run.recipe, (run.dataset, run.seed)
    trained_on = recipe.trainings[0][1].train_on
    counts = {"gold": 1, "predicted": 1, "correct": 1, "types": {}}
    return {
        **{"dataset": run.dataset, "encoder": run.encoder_name, "model": run.model, "seed": run.seed, "split": "test"},
        **{"recipe": recipe.model_dump(), "selection": selection(recipe), "trained_on": trained_on},
        **{"scores": {"symmetric": {m: {"f1": f1_on("test", m, *on)} | counts for m in METRICS}}},
        **{"dev": {m: f1_on("dev", m, *on) for m in METRICS} if trained_on == "train" else {}},
        **{"test_sentences": 551, "train_sentences": 1861, "dev_sentences": 275},
        **{"device": "cuda", "device_name": "a GPU", "threads": 1, "precision": "float32", "git_commit": "0" * 40},
    }


@pytest.fixture(scope="module")
def paper(tmp_path_factory) -> tuple[Path, Callable[..., Grid]]:
    """The tables of config/paper.yaml when all was run but ACE05 with BERT; and what makes such a grid."""

    def grid(lacking: Callable[[RunSpec], bool], change: Callable[[dict], dict] = lambda record: record) -> Grid:
        plan = resolve(load_config(ROOT / "config" / "paper.yaml"), offline=False)
        runs = plan.runs | plan.skipped_recipes
        out = {run for run in runs if lacking(plan.spec(run))}
        plan = replace(
            plan,
            runs={run: recipe for run, recipe in runs.items() if run not in out},
            skipped=dict.fromkeys(sorted(out, key=list(runs).index), "weights absent: BERT: in no mirror"),
            skipped_recipes={run: runs[run] for run in out},
        )
        return Grid([change(of_paper(run)) for run in plan.specs()], plan.declared, NOT_COMPARED)

    folder = tmp_path_factory.mktemp("paper")
    of = grid(lambda run: (run.dataset, run.encoder_name) == ("ace05", "bert-base-cased"))
    printed = published.tables()
    for table in (main_table(of, printed["main"], []), ablation_table(of, printed), published_table(of, printed)):
        write(table, folder)
    return folder, grid


def body(path: Path) -> list[list[str]]:
    """Cells of all rows of a Markdown table but its head."""
    split = [
        [c.strip() for c in line.strip("|").split("|")] for line in path.read_text().splitlines() if line[:1] == "|"
    ]
    return split[2:]


ABSENT = "skipped: weights absent"
OWN = "measured, own, n=3, test"


def test_ours_stand_directly_under_the_published_row_of_their_system_and_encoder(paper):
    rows_ = [
        (row[0].split(" (")[0] + " (ours)" * ("(ours)" in row[0]), *row[1:3]) for row in body(paper[0] / "main.md")
    ]
    assert rows_ == [
        ("SPTree", "BERT", "published"),
        ("SPTree (ours)", "BERT", f"{OWN}; {ABSENT}"),
        ("SciIE", "SciBERT", "published"),
        ("SciIE (ours)", "SciBERT", f"{OWN} of SciERC, documents"),
        ("DyIE", "BERT", "published"),
        ("DyGIE (ours)", "BERT", OWN),
        ("DyIE++", "BERT", "published"),
        ("DyGIE++ (ours)", "BERT", ABSENT),
        ("DyIE++", "SciBERT", "published"),
        ("DyGIE++ (ours)", "SciBERT", f"{OWN} of SciERC, documents"),
        ("Multi-turn QA", "BERT", "published"),
        ("Multi-turn QA (ours)", "BERT", f"{OWN}; {ABSENT}"),
        ("Two are Better than One", "ALBERT", "published"),
        ("Two are Better than One (ours)", "ALBERT", OWN),
        ("SPE", "SciBERT", "published"),
        ("SPE, no pre-training (ours)", "SciBERT", OWN),
        ("SpERT", "SciBERT", "published"),
        ("SpERT (ours)", "SciBERT", OWN),
        ("SPAN Multi-Head", "BERT", "published"),
        ("SPAN Multi-Head (ours)", "BERT", ABSENT),
        ("PURE", "ALBERT", "published"),
        ("PURE (ours)", "ALBERT", OWN),
        ("PURE", "SciBERT", "published"),
        ("PURE (ours)", "SciBERT (uncased)", OWN),
        ("PFN", "ALBERT", "published"),
        ("PFN (ours)", "ALBERT", OWN),
        ("PFN", "SciBERT", "published"),
        ("PFN (ours)", "SciBERT (uncased)", OWN),
        ("MGE", "ALBERT", "published; no MGE here"),
        ("MGE", "SciBERT", "published; no MGE here"),
        ("SINET", "BERT", "published"),
        ("SINET (ours)", "BERT", f"{OWN}; {ABSENT}"),
        ("SINET", "SciBERT", "published"),
        ("SINET (ours)", "SciBERT", OWN),
        ("SINET", "ALBERT", "published"),
        ("SINET (ours)", "ALBERT", OWN),
        ("SPAN Multi-Head (ours)", "SciBERT", OWN),
        ("MGE, reconstructed from its abstract (ours)", "SciBERT (uncased)", OWN),
        ("MGE, reconstructed from its abstract (ours)", "ALBERT", OWN),
        ("DyGIE++ with coreference (ours)", "SciBERT", f"{OWN} of SciERC, documents"),
        ("SciIE with coreference (ours)", "SciBERT", f"{OWN} of SciERC, documents"),
    ]
    in_csv = dict.fromkeys(
        (r["system"], r["encoder"], r["source"]) for r in csv.DictReader((paper[0] / "main.csv").open())
    )
    on_dev = [line for line in in_csv if ", dev" in line[2]]
    assert [(s.removesuffix(" (ours)"), *of) for s, *of in rows_] == [line for line in in_csv if line not in on_dev]
    measured = [(s.removesuffix(" (ours)"), encoder) for s, encoder, of in rows_ if of.startswith("measured")]
    on_train_and_dev = {("SPTree", "BERT"), ("SpERT", "SciBERT")}
    assert [line[:2] for line in on_dev] == [of for of in measured if of not in on_train_and_dev], "figures on dev, too"
    assert {of for *_, of in on_dev} == {
        *("measured, own, n=3, dev", "measured, own, n=3, dev, directed"),
        "measured, own, n=3, dev, directed of SciERC, documents",
    }
    tex = (paper[0] / "main.tex").read_text()
    assert "published; no MGE here" in tex and tex.index(f"{OWN} of SciERC, documents") < tex.index("Multi-turn QA")


def test_a_column_has_every_dataset_that_is_published_under_it(paper):
    ours = [row for row in body(paper[0] / "main.md") if row[0] == "DyGIE++ (ours)"]
    assert [row[9] for row in ours] == ["not run", mean_sd([60.3, 62.3, 64.3]).text]
    sinet = {row[1]: row for row in body(paper[0] / "main.md") if row[0] == "SINET (ours)"}
    of_folds = mean_sd([62.3, 64.3, 66.3]).text
    assert [sinet["BERT"][c] for c in (3, 6, 9)] == [of_folds, "skipped", "not run"], "ACE04 over five folds"
    assert [sinet["ALBERT"][c] for c in (3, 6, 9)] == [of_folds, mean_sd([60.3, 62.3, 64.3]).text, "not run"]
    assert "- Skipped, 27 runs on ace05/bert-base-cased (sinet, sinet-base, " in (paper[0] / "main.md").read_text()


def test_the_ablation_is_of_test_and_of_dev(paper):
    blocks = dict.fromkeys(tuple(row[:3]) for row in body(paper[0] / "ablation.md"))
    assert list(blocks) == [
        ("SciERC", "SciBERT", "published, split not stated"),
        ("SciERC", "SciBERT", OWN),
        ("SciERC", "SciBERT", OWN.replace("test", "dev")),
        ("ACE05", "BERT or ALBERT", "published, split not stated"),
        ("ACE05", "BERT", ABSENT),
    ], "nothing where SINET alone is planned"
    for split in ("test", "dev"):
        of_split = [r for r in body(paper[0] / "ablation.md") if r[2] == OWN.replace("test", split)]
        ent = mean_sd([f1_on(split, "ent", "scierc", seed) for seed in range(3)]).text
        assert [row[3:6] for row in of_split] == [
            [s, ent, "0.00"] for s in ("Base", *(f"Base+TAP{step}" for step in ("", "+CTAM_NER", "+CTAM_RE", "+CTAM")))
        ]
        lines_ = rows(paper[0] / "ablation.csv", source=OWN.replace("test", split), system="Base", figure="Ent")
        assert [float(r["mean"]) for r in lines_] == [f1_on(split, "ent", "scierc", 1)]
        assert OWN.replace("test", split) in (paper[0] / "ablation.tex").read_text()
    note = (
        "Ours on dev of SciERC with SciBERT: 275 sentences, at the weights that the recipe selects, matching symmetric"
    )
    assert note in (paper[0] / "ablation.md").read_text()


def test_the_ablation_says_how_dev_was_matched_and_where_it_was_trained_on(paper):
    printed, all_there = published.tables(), lambda run: False

    def directed(run: dict) -> dict:
        return run | {"recipe": run["recipe"] | {"matching": "directed"}}

    def on_dev(run: dict) -> dict:
        return run | {"dev": {}, "trained_on": "train+dev"}

    table = ablation_table(paper[1](all_there, directed), printed)
    assert f"{OWN.replace('test', 'dev')}, directed" in set(table.frame[("", "Source")])
    assert any("matching directed" in note for note in table.notes)
    texts = ablation_table(paper[1](all_there, on_dev), printed).frame
    without = texts[texts[("", "Source")] == "measured, own, n=3, no dev figure: trained on train+dev"]
    assert len(without) == 10 and (without.iloc[:, 4:].map(str) == "n/a").all(axis=None)


def test_only_the_same_system_encoder_and_dataset_are_set_against_published_figures(paper):
    text = (paper[0] / "published_vs_measured.md").read_text()
    of_ablation = {tuple(row[2:5]) for row in body(paper[0] / "published_vs_measured.md") if row[0][:8] == "Ablation"}
    assert of_ablation == {("SciERC", "own", "test"), ("SciERC", "own", "dev")}, (
        "SINET alone with ALBERT is no ablation"
    )
    compared = [tuple(row[:6]) for row in body(paper[0] / "published_vs_measured.md") if row[0][:8] != "Ablation"]
    assert compared == [
        (system, encoder, dataset, "own", "test", "3")
        for system, encoder, *datasets in (
            ("SPTree", "BERT", "ACE04"),
            ("SciIE", "SciBERT", "SciERC"),
            ("DyIE", "BERT", "ACE04"),
            ("DyIE++", "SciBERT", "SciERC"),
            ("Multi-turn QA", "BERT", "ACE04"),
            ("Two are Better than One", "ALBERT", "ACE04", "ACE05"),
            ("SPE", "SciBERT", "SciERC"),
            ("SpERT", "SciBERT", "SciERC"),
            ("PURE", "ALBERT", "ACE04", "ACE05"),
            ("PURE", "SciBERT", "SciERC"),
            ("PFN", "ALBERT", "ACE04", "ACE05"),
            ("PFN", "SciBERT", "SciERC"),
            ("SINET", "BERT", "ACE04"),
            ("SINET", "SciBERT", "SciERC"),
            ("SINET", "ALBERT", "ACE04", "ACE05"),
        )
        for dataset in datasets
    ]
    assert "- Published, skipped (weights absent): SPTree with BERT (ACE05); DyIE++ with BERT (ACE05); " in text
    assert (
        "- Measured, and not published: SciERC with SciBERT (SPAN Multi-Head); SciERC with SciBERT (uncased) (MGE, "
        in text
    )
    (line,) = rows(paper[0] / "published_vs_measured.csv", system="DyIE++", figure="Rel")
    assert (
        float(line["difference"]) == pytest.approx(62.3 - 48.4)
        and "dataset: SciERC / SciERC, documents" in line["differs"]
    )


def test_the_papers_tables_say_what_they_do_not_show_and_what_was_chosen(paper):
    for name in ("main", "ablation", "published_vs_measured"):
        said = (paper[0] / f"{name}.md").read_text()
        assert "comparisons between systems rest on config/equal.yaml" in said and "PER-SOC, our choice" in said


def test_what_the_released_code_does_and_ours_too_is_no_difference(paper):
    made = paper[0] / "published_vs_measured.csv"
    differs = {line["system"]: line["differs"] for line in rows(made, dataset="SciERC")}
    assert differs["SINET"] == differs["PFN"].removeprefix("encoder: SciBERT / SciBERT (uncased); ")
    assert differs["SINET"] == "runs: one, seed 0 / n=3" and differs["SpERT"] == "runs: mean of five / n=3"
    assert differs["PURE"] == "encoder: SciBERT / SciBERT (uncased); runs: not stated in the paper / n=3"
    assert differs["DyIE++"] == "dataset: SciERC / SciERC, documents; runs: not stated in the paper / n=3"
    (two,) = rows(made, system="Two are Better than One", dataset="ACE05", figure="Ent")
    of_paper, ours = "best of 20,000 steps on dev by (Ent + Rel+) / 2", "best of 20,000 steps on dev by Ent + Rel"
    assert f"selection: {of_paper} / {ours}; " in two["differs"]
    printed = published.tables()
    on_all = published_table(paper[1](lambda run: False, lambda run: run | {"trained_on": "train+dev"}), printed)
    assert "training: train / train + dev" in on_all.frame[on_all.frame[("", "System")] == "PFN"].iloc[0, -1]


def test_other_encoders_stand_after_all_published_rows(tmp_path):
    planned = declared(["ten/tiny/pfn/0"], [], [])
    planned["encoders"]["tiny"].pop("published")
    grid = Grid([record("pfn", 0)], planned, NOT_COMPARED)
    printed = published.tables()
    sources = main_table(grid, printed["main"], []).frame[("", "Source")].tolist()
    assert sources[18:] == ["published; not run", "measured, full, n=1, test of Ten"] and len(sources) == 20
    table = published_table(grid, printed)
    assert table.frame.empty and table.tidy.empty and "Measured, and not published: Ten with Tiny (PFN)." in table.notes
    write(table, tmp_path)


def test_notes_too_long_for_a_caption_stand_behind_the_table():
    one = frame([{"System": name, "F1": number(i, 1)} for i, name in enumerate("ab")])
    short, long = (latex(Table("x", "Title", one, pd.DataFrame(), ("Words. " * n,))) for n in (10, 500))
    assert "\\caption{Title. Words." in short and short.endswith("\\end{table*}\n")
    assert "\\caption{Title.}" in long and "\\end{table*}\n\\noindent{\\footnotesize Words." in long
