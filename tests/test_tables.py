"""What the tables show of a small grid: means, differences, bold, cells without a result, sums."""

import csv
import itertools
import json
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from sinet.data.sentence import Sentence, read_sentences
from sinet.errors import UserError
from sinet.paper.breakdown_tables import _pooled_f1
from sinet.paper.grid import Grid, Place, f1_of
from sinet.paper.table import Table, frame, latex, markdown, mean_sd, signed
from sinet.paper.tables import write_tables
from sinet.score.analyse import analyse
from sinet.score.compare import Scored, compare, sentence_counts
from sinet.score.metrics import score
from tests.conftest import CORPUS, LABELS

GOLD = read_sentences(CORPUS) * 20
MODELS = {
    "ours": {"title": "SINET", "published": "SINET", "setting": "Base+TAP+CTAM"},
    "pfn": {"title": "PFN", "published": "PFN"},
    "spert": {"title": "SpERT", "published": "SpERT"},
    "base": {"title": "SINET Base", "setting": "Base"},
}


def declared(runs: list[str], failed: list[list[str]], left_out: list[list[str]]) -> dict:
    return {
        "datasets": {
            "ten": {"title": "Ten", "published": "scierc"},
            "scierc": {"title": "First sentences"},
            "ace04": {"title": "ACE04", "published": "ace04"},
            **{f"folds-{i}": {"title": "Folds", "fold_of": "folds"} for i in range(2)},
        },
        "encoders": {"tiny": {"title": "Tiny"}},
        "models": MODELS,
        "remark": None,
        "runs": dict.fromkeys(runs, "full"),
        "left_out": left_out,
        "failed": failed,
        "kept": [],
    }


def predict(model: str, seed: int) -> list[Sentence]:
    """`ours` finds everything but the relations of one sentence a seed; the others lose every third sentence."""
    lost = (lambda i: i == seed) if model == "ours" else (lambda i: i % 3 == seed % 3)
    return [s.with_labels((), ()) if lost(i) else s for i, s in enumerate(GOLD)]


def record(model: str, seed: int, dataset: str = "ten") -> dict:
    predicted = predict(model, seed)
    return {
        **{"dataset": dataset, "encoder": "tiny", "model": model, "seed": seed, "split": "test"},
        **{"recipe": {"name": "full", "epochs": 2, "selection": "last"}, "selection": "last"},
        **{"scores": score(GOLD, predicted, LABELS), "test_sentences": len(GOLD), "train_sentences": 7},
        **{"device": "cpu", "device_name": "a CPU", "threads": 1, "precision": "float32"},
    }


def write_grid(
    folder: Path,
    runs: list[tuple[str, int]],
    failed: list[list[str]],
    datasets: tuple[str, ...] = ("ten",),
    left_out: list[list[str]] = (),
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
        (run / "record.json").write_text(json.dumps(made))
        (run / "analysis.json").write_text(json.dumps(analyse(GOLD, predict(model, seed), LABELS)))
        counts = sentence_counts(GOLD, predict(model, seed), LABELS.symmetric)
        scored.append(Scored(dataset, "tiny", "full", model, seed, counts))
        records.append(run / "record.json")
    planned = declared([f"{d}/tiny/{m}/{s}" for d, (m, s) in itertools.product(datasets, runs)], failed, left_out)
    (folder / "comparisons.json").write_text(json.dumps(compare(scored, planned, resamples=1000)))
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
    (row,) = rows(tables / "main.csv", system="PFN", source="measured, recipe full", figure="Rel+")
    values = [record("pfn", s)["scores"]["symmetric"]["rel_plus"]["f1"] for s in range(3)]
    assert row["values"] == " ".join(f"{v:.4f}" for v in values) and row["seeds"] == "0 1 2" and row["n"] == "3"
    assert lines(tables / "main.md", "PFN (ours)")[0][-1] == mean_sd(values)
    assert lines(tables / "main.md", "PFN (ours)")[0][3] == "not run", "ACE04"


def test_bold_is_what_is_significant(tables):
    (ours,), (pfn,) = lines(tables / "main.md", "SINET (ours)"), lines(tables / "main.md", "PFN (ours)")
    assert all(cell.startswith("**") for cell in ours[-3:]) and not any("**" in cell for cell in pfn)
    assert "Bold: SINET where it is significantly better" in (tables / "main.md").read_text()
    found = rows(tables / "significance.csv", other="PFN")
    assert len(found) == 3 and all(float(r["p_holm"]) < 0.05 for r in found)
    same = rows(tables / "ablation.csv", system="Base", source="measured, recipe full")
    assert [r["figure"] for r in same] == ["Ent", "Rel", "Rel+"]
    full, base = lines(tables / "ablation.md", "Base+TAP+CTAM")[0], lines(tables / "ablation.md", "Base")[0]
    assert full[-1].startswith("**+") and base[-1] == "0.00"
    assert lines(tables / "ablation.md", "Base+TAP")[0][-2:] == ["not run", "not run"]
    assert "\\textbf{\\num{" in (tables / "main.tex").read_text()


def test_nothing_is_bold_between_equals(tmp_path):
    made = write_grid(tmp_path, [("pfn", 0), ("base", 0)], [])
    assert "no two systems to compare" in made["significance"]
    assert not any("**" in text for text in made.values())


def test_nothing_is_bold_of_a_single_run(tmp_path):
    made = write_grid(tmp_path, [("ours", 0), *((m, s) for m in ("pfn", "base") for s in range(3))], [])
    assert not any("**" in text for text in made.values())
    (row, *_) = lines(tmp_path / "tables" / "significance.md", "Ten")
    assert float(row[12].replace("< ", "")) < 0.05 and row[13] == "n < 3", "p of these runs, no test"
    assert "comparisons of fewer runs are not tested" in made["main"]


def test_published_and_measured(tables):
    (row,) = rows(tables / "published_vs_measured.csv", system="PFN (SciBERT)", figure="Rel+")
    mean, sd = float(row["mean"]), float(row["sd"])
    assert float(row["published"]) == 38.4 and float(row["difference"]) == pytest.approx(mean - 38.4, abs=1e-3)
    assert float(row["difference_in_sd"]) == pytest.approx((mean - 38.4) / sd, rel=1e-3)
    assert "encoder: SciBERT / Tiny" in row["differs"] and "selection: best epoch on dev" in row["differs"]
    assert "no code" in lines(tables / "published_vs_measured.md", "MGE (SciBERT)")[0]
    assert "not run" in lines(tables / "published_vs_measured.md", "SpERT (SciBERT)")[0]


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


def test_every_system_has_examples_of_its_errors(tables):
    shown = lines(tables / "error_examples.md", "Ten")
    kinds = {system: [row[3] for row in shown if row[2] == system] for system in ("SINET", "PFN", "SINET Base")}
    assert kinds["PFN"] == kinds["SINET Base"] == ["missing entity", "missing argument"]
    first = rows(tables / "error_examples.csv", system="PFN", error="missing entity")
    assert (
        len(first) == 3 and first[0]["predicted"] == "nothing" and first[0]["gold"].split(" [")[0] in first[0]["words"]
    )


def test_words_of_examples_stand_for_themselves():
    cells = {("", "Gold"): "<b> *a* `b` a_b|c [T]", ("", "F1"): "**1.00**"}
    text = markdown(Table("t", "T", frame([cells]), frame([cells]), (), prose=("Gold",)))
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert "&lt;b&gt; *a* `b` a_b|c [T]</td>" in html and "<strong>1.00</strong>" in html


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
    assert lines(tmp_path / "tables" / "ablation.md", "Base")[0][-2:] == ["failed (n=2 of 3)"] * 2
    (row,) = lines(tmp_path / "tables" / "main.md", "SpERT (ours)")
    assert row[2] == "measured, full, n=0" and row[-3:] == ["failed (n=0 of 1)"] * 3
    assert "Not compared on Ten, Tiny, full: SINET with SINET Base: runs of base have no result" in made["significance"]


def test_a_run_left_out_of_the_plan_leaves_no_mean(tmp_path):
    write_grid(tmp_path, THREE, [], left_out=[["ten/tiny/base/3", "no licence"]])
    assert lines(tmp_path / "tables" / "ablation.md", "Base")[0][-2:] == ["left out", "left out"]


def test_folds_are_one_dataset(tmp_path):
    write_grid(tmp_path, [("ours", 0), ("pfn", 0)], [], datasets=("folds-0", "folds-1"))
    tables = tmp_path / "tables"
    (row,) = rows(tables / "main.csv", system="PFN", source="measured, recipe full", figure="Ent")
    assert (row["dataset"], row["n"], row["seeds"]) == ("Folds", "1", "0")
    assert "measured, full, n=1" in lines(tables / "main.md", "PFN (ours)")[0]
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
    place = Place("folds", "tiny", "full")
    assert Grid(runs, declared_, {}).values(place, "pfn", f1_of("ent")) == [20, 35, 65]
    counts = Grid(runs, declared_, {}).values(place, "pfn", lambda r: r["scores"]["symmetric"]["ent"], _pooled_f1)
    assert counts == [pytest.approx(200 * c / 36) for c in (0 + 3, 1 + 4, 2 + 5)]
    assert Grid(runs[:-1], declared_, {}).values(place, "pfn", f1_of("ent")) == "failed (n=2 of 3)"
    assert [Grid(runs, declared_, {}).title("datasets", d) for d in ("folds", "folds-1")] == ["Folds", "Folds, fold 1"]


def test_a_dataset_that_only_shares_a_published_name_has_a_column_of_its_own(tmp_path):
    write_grid(tmp_path, [("ours", 0), ("pfn", 0)], [], datasets=("scierc",))
    measured = lines(tmp_path / "tables" / "main.md", "PFN (ours)")[0]
    assert measured[3:12] == ["not run"] * 9 and "not run" not in measured[12:]
    assert rows(tmp_path / "tables" / "published_vs_measured.csv") == []


def test_what_was_left_out_altogether_has_its_row_and_column(tmp_path):
    absent = [["ace04/tiny/ours/0", "no corpus"], ["ten/tiny/spert/0", "no memory"]]
    made = write_grid(tmp_path, [("ours", 0), ("pfn", 0)], [], left_out=absent)
    tables = tmp_path / "tables"
    assert lines(tables / "main.md", "SINET (ours)")[0][3:6] == ["left out"] * 3
    assert lines(tables / "main.md", "PFN (ours)")[0][3:6] == ["not run"] * 3
    spert = lines(tables / "main.md", "SpERT (ours)")[0]
    assert spert[2] == "left out" and spert[-3:] == ["left out"] * 3
    assert "F1 SpERT" in made["types"] and "ten/tiny/spert/0: no memory" in made["main"]
    assert lines(tables / "published_vs_measured.md", "SINET (ALBERT)")[0][3] == "left out"
    assert "Not compared on Ten, Tiny, full: SINET with SpERT: runs of spert have no result." in made["significance"]


def test_texts_of_cells():
    assert (signed(0.004), signed(-0.5), signed(1.25, 1)) == ("0.00", "-0.50", "+1.2")
    cells = [{("", "a|b"): "x | y_1", ("", "c"): "**+1.20 ± 0.30**"}]
    table = Table("t", "T", frame(cells), frame(cells), ("50 % of \u03b3 and é.",))
    assert "x \\| y_1" in markdown(table)
    made = latex(table)
    assert r"x $|$ y\_1" in made and r"\textbf{\num{+1.20 \pm 0.30}}" in made and r"50 \% of ? and e." in made
