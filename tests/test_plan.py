"""The plan as a file: what steps find by it, how long commands are, and grids without a part of the usual ones."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from sinet.cli import main
from sinet.data.sentence import read_sentences, write_sentences
from sinet.errors import UserError
from sinet.evaluate.analyse import analyse
from sinet.evaluate.metrics import score
from sinet.files import SEAL, read_sealed, write_sealed, write_sum
from sinet.grid.config import load_config
from sinet.grid.plan import Plan, resolve
from sinet.provenance import ROOT, digest_of
from tests.conftest import CORPUS, LABELS, copy_project, recorded_recipe, tiny_grid, tiny_plan

AGGREGATING = (
    "compare",
    "tabulate",
    "draw_results",
    "find_cases",
    "measure_attention_mass",
    "score_in_triple_ner",
    "draw_attention_mass",
)
AGGREGATING += ("draw_attention", "draw_flops", "draw_speed", "report_page", "all")
RECIPE = {"epochs": 1, "batch_size": 4, "weight_decay": 0.01, "selection": "last"}
DATASETS = [f"ten_{letter}" for letter in "abcde"]


def snakemake(project: Path, *arguments: str, **options: object) -> str:
    call = ["snakemake", "--configfile", "tiny.yaml", "--cores", "1", *arguments]
    done = subprocess.run(call, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def write_runs(plan: Plan) -> None:
    """A result for each run of a plan: of the first system right, of the others without relations."""
    gold = read_sentences(CORPUS)
    made = {}
    for name, predicted in (("right", gold), ("half", [s.with_labels(s.entities, ()) for s in gold])):
        folder = plan.results / name
        folder.mkdir(parents=True)
        write_sentences(folder / "predictions.jsonl", predicted)
        write_sealed(folder / "analysis.json", analyse(gold, predicted, LABELS))
        (folder / "log.csv").write_text("epoch,loss,dev_rel_plus\n1,4.0,10\n")
        (folder / "attention.json").write_text("{}")
        write_sum(folder / "log.csv")
        made[name] = score(gold, predicted, LABELS)
    for path, recipe in plan.runs.items():
        dataset, encoder, model, seed = path.split("/")
        kind = "right" if model == "sinet" else "half"
        plan.file(path, "").mkdir(parents=True)
        for name in ("predictions.jsonl", "analysis.json", "log.csv", "log.csv.sha256", "attention.json"):
            os.link(plan.results / kind / name, plan.file(path, name))
        record = {
            **{"dataset": dataset, "encoder": encoder, "model": model, "seed": int(seed), "split": "test"},
            **{"recipe": recorded_recipe(recipe, **RECIPE), "selection": "last"},
            **{"scores": made[kind], "test_sentences": 10, "train_sentences": 10, "trained_on": "train"},
            **{"dev": {"ent": 50.0, "rel": 40.0, "rel_plus": 30.0}, "dev_sentences": 10, "settings": {}},
            **{"device": "cpu", "device_name": "a CPU", "threads": 1, "precision": "float32"},
        }
        # as `write_sealed` does, which waits for the disk each time
        plan.file(path, "record.json").write_text(json.dumps(record | {SEAL: digest_of(record)}))
    for dataset in DATASETS:
        data = plan.results / "data" / dataset
        data.mkdir(parents=True)
        for split in ("train", "dev", "test"):
            (data / f"{split}.jsonl").write_bytes(CORPUS.read_bytes())
        (data / "labels.json").write_text(json.dumps(LABELS.to_json()))
        (data / "card.md").write_text("# Ten\n")
        (measured := plan.results / "efficiency" / dataset / "tiny").mkdir(parents=True)
        for name in ("flops", "timing"):
            (measured / f"{name}.json").touch()


def test_no_command_grows_with_the_number_of_runs_and_steps_take_5000(tiny_mirror, tmp_path, monkeypatch):
    project = copy_project(tmp_path / "project")
    monkeypatch.chdir(project)
    grid = tiny_grid(tmp_path / "mirror", tiny_mirror, {"sinet": RECIPE, "spert": RECIPE})
    ten = grid["datasets"]["ten"] | {"folder": "ten"}
    grid["datasets"] = {name: ten | {"title": name} for name in DATASETS}
    block = {"datasets": DATASETS, "encoders": ["tiny"], "models": ["sinet", "spert"], "seeds": list(range(500))}
    grid["grid"] = [block | {"recipe": "tiny"}]
    Path("tiny.yaml").write_text(yaml.safe_dump(grid))
    planned = resolve(load_config("tiny.yaml"), offline=False)
    assert planned.case_study and planned.case_study.systems == {m: f"ten_a/tiny/{m}/0" for m in ("sinet", "spert")}
    # nothing was counted or timed of what stands for results below
    planned = replace(planned, config=planned.config.model_copy(update={"efficiency": None}))
    assert len(planned.at()) == 5000 and planned.write().stat().st_size > 131_072
    write_runs(planned)
    for run in planned.case_study.systems.values():  # of the others no weights are asked for
        planned.file(run, "model.safetensors").touch()

    said = snakemake(project, "-n", "-p", "all", "report_page", "--allowed-rules", *AGGREGATING)
    commands = [line for line in said.splitlines() if "python -m sinet" in line]
    assert {c.split("python -m sinet ")[1].removeprefix("step ").split()[0] for c in commands} >= {
        *("compare", "tables", "plot-results", "plot-flops", "plot-speed", "case-study", "attention-mass"),
        *("in-triple-ner", "plot-attention-mass", "report"),
    }
    assert max(map(len, commands)) < 1000

    given, results = ["--plan", "results/tiny/plan.json"], planned.results
    compared = ["--comparisons", f"{results}/comparisons.json"]
    assert main(["compare", *given, "--resamples", "10", "--out", compared[1]]) == 0
    (ent, *_, rel_plus) = json.loads(Path(compared[1]).read_text())["comparisons"][:3]
    assert len(ent["seeds"]) == 500 and ent["difference"] == 0 and rel_plus["difference"] == 100
    assert main(["step", "tables", *given, *compared, "--out", f"{results}/tables"]) == 0
    assert "measured, tiny, n=500" in (results / "tables" / "main.md").read_text()
    at = ["--dataset", DATASETS[1], "--encoder", "tiny", "--out", f"{results}/figures"]
    assert main(["step", "plot-results", *given, *at]) == 0
    assert (results / "figures" / "curves.png").stat().st_size > 10_000


def test_a_plan_is_written_when_it_changed_and_keeps_its_order(tmp_path):
    def written(runs: list[str]) -> tuple[int, list[str]]:
        path = tiny_plan(tmp_path / "new", dict.fromkeys(runs, "r")).write()
        return path.stat().st_mtime_ns, Plan.read(path).at()

    first = written(["d/e/m/0", "d/e/m2/0", "d2/e/m/0"])
    assert written(["d/e/m/0", "d/e/m2/0", "d2/e/m/0"]) == first, "the same is not written again"
    assert written(["d/e/m2/0", "d/e/m/0"])[1] == ["d/e/m2/0", "d/e/m/0"], "the order is that of the grid"
    plan = replace(tiny_plan(tmp_path, dict.fromkeys(first[1], "r")), failed={"d/e/m/0": "no memory"})
    assert plan.at("d", "e") == ["d/e/m2/0"] and plan.at("d", "e", "m") == []
    assert Plan.read(plan.write()) == plan
    with pytest.raises(UserError, match="this grid has no case study"):
        tiny_plan(tmp_path, {"d/e/m/0": "r"}, case_study=None).studied()


@pytest.fixture
def underscored(tiny_mirror, tmp_path):
    """A project with the tiny grid, whose names hold underscores."""
    project = copy_project(tmp_path / "project")
    grid = tiny_grid(tmp_path / "mirror", tiny_mirror, {"sinet": RECIPE, "spert": RECIPE, "pfn": RECIPE})
    grid["datasets"] = {"ten_ten": grid["datasets"]["ten"] | {"folder": "ten"}}
    encoder = Path(tiny_mirror) / "encoders" / "tiny"
    grid["encoders"] = {"mini_lm": {"title": "Mini", "cased": False, "path": str(encoder.resolve())}}
    grid["models"] = {"my_sinet": {"title": "Mine", "system": "sinet"}}
    block = {"datasets": ["ten_ten"], "encoders": ["mini_lm"], "seeds": [0], "recipe": "tiny"}

    def write(models: list[str], **changes: object) -> Path:
        text = yaml.safe_dump(grid | {"grid": [block | {"models": models}]} | changes)
        (project / "tiny.yaml").write_text(text)
        return project

    return write


def test_names_hold_underscores_and_the_plan_names_what_is_made(underscored, warm):
    project = underscored(["my_sinet", "spert"], reference="spert", case_study={"model": "my_sinet"})
    results = project / "results" / "tiny"
    snakemake(project, "all", "report_page", env=warm)
    assert {p.name for p in (results / "figures/ten_ten/mini_lm").glob("*.pdf")} == {
        f"{name}.pdf" for name in ("curves", "lengths", "significance", "flops", "speed")
    }
    declared = Plan.read(results / "plan.json").declared
    assert {
        p.relative_to(results / "figures").with_suffix("").as_posix() for p in results.rglob("figures/**/*.png")
    } == {*declared["figures"]}
    assert declared["case_study"]["systems"] == {m: f"ten_ten/mini_lm/{m}/0" for m in ("my_sinet", "spert")}
    compared = read_sealed(results / "comparisons.json")["comparisons"]
    assert {(c["system"], c["other"]) for c in compared} == {("spert", "my_sinet")}
    assert "/ SpERT's" in (results / "tables/efficiency.md").read_text()
    assert "nothing to be done" in snakemake(project, "-n").lower()


@pytest.mark.parametrize("null", [["case_study", "efficiency"], []], ids=["null", "models that are not in the grid"])
def test_a_grid_without_case_study_efficiency_or_reference(underscored, null, warm):
    project = underscored(["pfn", "spert"], **dict.fromkeys(null))
    results = project / "results" / "tiny"
    planned = snakemake(project, "-n")
    assert not any(word in planned for word in ("attend", "find_cases", "localrules"))
    assert ("count_flops" in planned) == (not null)
    if not null:
        return
    snakemake(project, "all", "report_page", env=warm)
    assert len(read_sealed(results / "comparisons.json")["comparisons"]) == 3
    made = "".join(path.read_text() for path in results.rglob("tables/*.md"))
    assert "fficiency" not in made and "FLOPs" not in made
    assert not list(results.rglob("*flops*")) and not list(results.rglob("*speed*"))
    assert "SpERT" in made and "nothing to be done" in snakemake(project, "-n").lower()


MODULE = """
configfile: "tiny.yaml"


module sinet:
    snakefile: "{root}/Snakefile"
    config: config


use rule * from sinet as sinet_*
"""


@pytest.mark.parametrize("module", [False, True], ids=["another folder", "a module"])
def test_the_workflow_runs_in_another_folder_and_as_a_module(module, tiny_mirror, tmp_path, warm):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    grid = tiny_grid(tmp_path / "mirror", tiny_mirror, {"sinet": RECIPE})
    grid["grid"] = [{"datasets": ["ten"], "encoders": ["tiny"], "models": ["sinet"], "seeds": [0], "recipe": "tiny"}]
    (elsewhere / "tiny.yaml").write_text(yaml.safe_dump(grid))
    (elsewhere / "Snakefile").write_text(MODULE.format(root=ROOT))
    wanted = "results/tiny/runs/ten/tiny/sinet/0/predictions.jsonl"
    snakefile = [] if module else ["--snakefile", str(ROOT / "Snakefile")]
    # in another folder steps have to find the package
    snakemake(elsewhere, *snakefile, "--", wanted, env=warm if module else None)
    assert len((elsewhere / wanted).read_text().splitlines()) == 10
