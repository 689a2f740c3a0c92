"""Figures of all systems: what they draw from records, the same bytes again, what they say where there is nothing."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sinet.captions import measured_on
from sinet.data.sentence import read_sentences, write_sentences
from sinet.evaluate.analyse import analyse
from sinet.evaluate.compare import compare, read_runs
from sinet.evaluate.metrics import score
from sinet.files import write_sealed
from sinet.grid.config import load_config
from sinet.provenance import ROOT
from sinet.report import figures
from sinet.report.figures import draw_flops, draw_results, draw_speed
from sinet.report.grid import Grid
from sinet.report.style import looks
from tests.conftest import CORPUS, LABELS, recorded_recipe

RECIPE = recorded_recipe("short", epochs=2)
MODELS = {
    "sinet": {"title": "SINET", "system": "sinet", "published": "SINET", "setting": "Base+TAP+CTAM"},
    "spert": {"title": "SpERT", "system": "spert", "published": "SpERT"},
    "sinet-base": {"title": "SINET Base", "system": "sinet", "setting": "Base"},
}
MEASURED_ON = (
    "test split (40 sentences), symmetric types direction-free; recipe short (2 epochs, selection last); "
    "CPU (cpu, 2 threads), float32"
)
DECLARED = {
    "models": MODELS,
    "datasets": {"ten": {"title": "Ten"}},
    "encoders": {"tiny": {"title": "Tiny"}},
    **{"reference": "sinet", "skipped": [], "failed": []},
}


@pytest.fixture(scope="module")
def grid(tmp_path_factory) -> tuple[list[Path], Path, Path]:
    """Records of three models with three seeds, right in everything, in entities, in nothing; timing; comparisons."""
    folder = tmp_path_factory.mktemp("grid")
    gold = [s for s in read_sentences(CORPUS) for _ in range(4)]
    (folder / "data" / "ten").mkdir(parents=True)
    write_sentences(folder / "data" / "ten" / "test.jsonl", gold)
    (folder / "data" / "ten" / "labels.json").write_text(json.dumps(LABELS.to_json()))
    predictions = {
        "sinet": gold,
        "spert": [s.with_labels(s.entities, ()) for s in gold],
        "sinet-base": [s.without_labels() for s in gold],
    }
    records = []
    for model, predicted in predictions.items():
        for seed in range(3):
            run = folder / "runs" / "ten" / "tiny" / model / str(seed)
            run.mkdir(parents=True)
            write_sentences(run / "predictions.jsonl", predicted)
            write_sealed(run / "analysis.json", analyse(gold, predicted, LABELS))
            first = "1.0" if model == "sinet" else ""
            log = f"stage,epoch,loss,dev_rel_plus\n,1,4.0,{first}\n,2,{2 + seed}.0,{10 + seed}\n"
            (run / "log.csv").write_text(log)
            record = {
                **{"dataset": "ten", "encoder": "tiny", "model": model, "seed": seed, "split": "test"},
                **{"recipe": RECIPE, "selection": "last", "dev": {}, "scores": score(gold, predicted, LABELS)},
                **{"test_sentences": 40, "precision": "float32", "device": "cpu", "device_name": "CPU", "threads": 2},
            }
            write_sealed(run / "record.json", record)
            records.append(run / "record.json")
    timed = {m: {"float32": {"best": {"sentences_per_s": 20.0 + 30 * i}}} for i, m in enumerate(("sinet", "spert"))}
    timing = {
        "systems": timed,
        "sentences": 10,
        "of_sentences": 40,
        "device": "cpu",
        "device_name": "CPU",
        "threads": 2,
    }
    write_sealed(folder / "timing.json", timing)
    made = compare(read_runs(records, folder / "data", DECLARED["datasets"]), DECLARED, resamples=2000)
    write_sealed(folder / "comparisons.json", made)
    return records, folder / "timing.json", folder / "comparisons.json"


def test_all_are_drawn_and_drawn_the_same_again(grid, tmp_path):
    for out in (tmp_path / "a", tmp_path / "b"):
        draw_results(grid[0], grid[2], DECLARED, out)
        draw_speed(*grid[:2], DECLARED, out / "speed")
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in "ab")
    assert first == second
    assert sorted(first) == sorted(
        f"{name}.{ending}" for name in ("curves", "speed", "lengths", "significance") for ending in ("pdf", "png", "md")
    )
    caption = first["curves.md"].decode()
    assert caption.startswith("Ten, Tiny. Learning curves. Left:")
    assert caption.endswith(f" Runs: {MEASURED_ON}; seeds 0, 1, 2.\n")


def test_what_is_over_all_folds_says_so(grid, tmp_path):
    made = json.loads(grid[2].read_text())
    made["comparisons"] = [c | {"dataset": "tens"} for c in made["comparisons"]]
    write_sealed(tmp_path / "comparisons.json", made)
    folds = DECLARED | {"datasets": {"ten": {"title": "Ten", "fold_of": "tens"}}}
    draw_results(grid[0], tmp_path / "comparisons.json", folds, tmp_path / "out")
    said = {n: (tmp_path / "out" / f"{n}.md").read_text() for n in ("lengths", "significance")}
    assert {n: "Over all folds" in text for n, text in said.items()} == {"lengths": False, "significance": True}
    assert said["lengths"].startswith("Ten, fold ten, Tiny.") and "fold ten alone" in said["lengths"]


def test_lines_are_the_runs_figures(grid):
    runs = Grid.read(grid[0], DECLARED)
    figure, caption = figures._curves(runs)
    left, right = figure.axes
    assert [line.get_ydata().tolist() for line in left.lines] == [[1.0, 0.75]] * 3, "mean of 2/4, 3/4 and 4/4"
    assert [line.get_ydata().tolist() for line in right.lines] == [[1.0, 11.0]] and not right.texts
    assert caption.endswith("Dev was evaluated only once, which makes no curve: SpERT, SINET Base.")
    right = figures._curves(Grid.read([r for r in grid[0] if "spert" in r.parts], DECLARED))[0].axes[1]
    assert not right.lines and [t.get_text() for t in right.texts] == ["n/a: dev was evaluated once in each run"]
    ent, rel = figures._lengths(runs)[0].axes
    assert [set(line.get_ydata()) for line in ent.lines] == [{100.0}, {100.0}, {0.0}]
    assert [max(line.get_ydata()) for line in rel.lines] == [100.0, 0.0, 0.0]
    speed, _ = figures._speed(runs, json.loads(grid[1].read_text()))[0].axes
    assert [c[0].get_xdata().tolist() for c in speed.containers] == [[20.0], [50.0]], "the ablation is not timed"


def test_significant_differences_are_marked(grid):
    figure, caption = figures._significance(Grid.read(grid[0], DECLARED, grid[2]))
    texts = {t.get_text(): t.get_fontweight() for t in figure.axes[0].texts}
    assert texts == {"0.00": "normal", "+100.00*": "bold"}
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["SINET vs SpERT", "SINET vs SINET Base"]
    assert "over the 6 comparisons" in caption and "bootstrap over the sentences of" in caption
    assert "which have 80 % power for" in caption


def test_a_caption_says_which_models_have_which_seeds(grid):
    runs = Grid.read([r for r in grid[0] if "spert" not in r.parts or r.parent.name == "1"], DECLARED).runs
    (said,) = measured_on(runs, {name: m["title"] for name, m in MODELS.items()}, "ten")
    assert said == f"{MEASURED_ON}; seeds 0, 1, 2 for SINET, SINET Base; 1 for SpERT"
    longer = [run | {"recipe": RECIPE | {"epochs": 9}} if run["model"] == "spert" else run for run in runs]
    (said,) = measured_on(longer, {name: m["title"] for name, m in MODELS.items()}, "ten")
    assert "(2 epochs, selection last for SINET, SINET Base; 9 epochs, selection last for SpERT)" in said


def test_what_is_not_tested_is_not_marked(grid):
    runs = Grid.read(grid[0], DECLARED, grid[2])
    made = runs.comparisons["comparisons"]
    some = [c | ({"p_holm": None, "detectable": None, "tested": False} if c["difference"] else {}) for c in made]
    figure, _ = figures._significance(replace(runs, comparisons=runs.comparisons | {"comparisons": some}))
    assert {t.get_text() for t in figure.axes[0].texts} == {"0.00", "+100.00"}
    assert (
        0 < len([p for p in figure.axes[0].patches if p.get_hatch()]) == sum(not c["tested"] for c in some) < len(made)
    )
    figure, _ = figures._significance(runs)
    assert not figure.axes[0].patches


def test_where_there_is_nothing_to_compare_it_says_so(grid):
    runs = Grid.read(grid[0], DECLARED, grid[2])
    none = replace(runs, comparisons=runs.comparisons | {"comparisons": []})
    assert figures._significance(none)[1].startswith("n/a: this grid has no two systems")


def test_a_system_looks_the_same_in_every_grid():
    systems = {name: m["system"] for name, m in MODELS.items()}
    styles = looks(systems)
    assert styles["sinet"]["color"] == styles["sinet-base"]["color"] != styles["spert"]["color"]
    assert styles["sinet"]["linestyle"] != styles["sinet-base"]["linestyle"]
    assert len({s["marker"] for s in styles.values()}) == 3
    every = load_config(ROOT / "config.yaml")["models"]
    styles = looks({name: model["system"] for name, model in every.items()})
    assert len({s["color"] for s in styles.values()}) == len({model["system"] for model in every.values()}) > 10


@pytest.mark.parametrize("counts, said", [([4, 4], "4 sentences of"), ([1, 4], "1 to 4 sentences of"), ([], "no sent")])
def test_flops_say_how_many_sentences_stand_for_a_length(grid, counts, said, tmp_path):
    by_words = {str(16 * 2**i): {"total": 2e6, "heads": 1e6, "sentences": n} for i, n in enumerate(counts)}
    counted = {"systems": {"sinet": {"released_form": None, "ours": {"by_words": by_words}}}}
    write_sealed(tmp_path / "flops.json", counted)
    draw_flops(tmp_path / "flops.json", grid[0][:2], DECLARED, tmp_path / "flops")
    caption = (tmp_path / "flops.md").read_text()
    assert said in caption and f" Runs: {MEASURED_ON}; seeds 0, 1." in caption
    counted["systems"] |= {"spert": {"not_counted": "why"}}
    write_sealed(tmp_path / "flops.json", counted)
    draw_flops(tmp_path / "flops.json", grid[0][:2], DECLARED, tmp_path / "flops")
    assert "Not counted, for the reasons under the table of efficiency: SpERT." in (tmp_path / "flops.md").read_text()


@pytest.mark.parametrize(
    "log, losses",
    [
        ("stage,epoch,loss\nentity,1,4.0\nentity,2,3.0\nrelation,1,2.0\nrelation,2,1.0\n", [2.0, 1.0]),
        ("stage,epoch,loss\n,1,4.0\n,2,3.0\n", [4.0, 3.0]),
        ("epoch,loss\n1,4.0\n2,3.0\n", [4.0, 3.0]),
    ],
    ids=["parts", "one model", "archived"],
)
def test_a_curve_is_of_the_part_that_was_trained_last(tmp_path, log, losses):
    (tmp_path / "log.csv").write_text(log)
    assert figures._log(tmp_path / "log.csv")["loss"].tolist() == losses
