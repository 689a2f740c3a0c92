"""A random search for a recipe: the same draws for every system, judged on dev, kept as data, written as a recipe."""

import csv
import json
import subprocess
from pathlib import Path

import pytest
import yaml

from sinet.cli import main
from sinet.errors import UserError
from sinet.files import read_sealed, write_sealed
from sinet.grid import search as S
from sinet.grid.config import lay_over, load_config, read_config
from sinet.grid.plan import Plan, resolve
from sinet.grid.recipes import spell_out
from sinet.infer.choose import choose
from sinet.provenance import ROOT
from sinet.schema import Search
from tests.conftest import copy_project, tiny_grid

DECLARED = {
    "recipe": "equal",
    "encoder": "minilm",
    "datasets": ["scierc", "conll04"],
    "models": ["spert", "dygiepp", "table-sequence"],
    "trials": 3,
    "seed": 1,
    "seeds": [0, 1],
    "space": {
        "encoder_lr": {"least": 1e-5, "most": 1e-3},
        "head_lr": {"least": 1e-4, "most": 1e-2},
        "settings.dropout": [0.1, 0.3],
        "steps": [500, 1000],
    },
}


def declared(**changes) -> Search:
    return Search.model_validate(DECLARED | changes)


def laid_over(*parts: dict) -> dict:
    whole = load_config()
    for part in parts:
        lay_over(whole, json.loads(json.dumps(part)))
    return whole


def test_draws_stay_in_their_space_and_more_trials_leave_the_first_as_they_were():
    drawn = S.draw(declared(trials=400))
    assert drawn[:3] == S.draw(declared()) != S.draw(declared(seed=2))
    rates = sorted(d["encoder_lr"] for d in drawn)
    assert 1e-5 <= rates[0] < 1.2e-5 and 0.8e-3 < rates[-1] <= 1e-3
    assert 0.7e-4 < rates[200] < 1.4e-4, "the middle of a range of rates is that of their logarithms"
    assert {(d["steps"], d["settings.dropout"]) for d in drawn} == {(s, p) for s in (500, 1000) for p in (0.1, 0.3)}
    fewer = S.draw(declared(space={key: of for key, of in DECLARED["space"].items() if key != "encoder_lr"}))
    assert fewer == [{key: d[key] for key in fewer[0]} for d in drawn[:3]], "each value is drawn by itself"


def test_a_trial_is_the_recipe_with_the_same_draws_for_every_system():
    search = declared()
    before = {"recipes": {"equal": {"spert": {"clip": 0.5, "datasets": {"scierc": {"clip": 9.0}}}}}}
    plan = resolve(laid_over(before, S.trials_grid(search, laid_over(before), "results/search")), offline=False)
    assert len(plan.runs) == 2 * 3 * 3 * 2 and plan.config.efficiency is None and plan.case_study is None
    for run in plan.specs():
        model, _, trial = run.model.partition(".trial-")
        changes = S.draw(search)[int(trial)]
        assert (run.recipe.steps, run.recipe.head_lr) == (changes["steps"], changes["head_lr"])
        assert run.settings["dropout"] == changes["settings.dropout"]
        assert run.recipe.encoder_lr == (None if model == "table-sequence" else changes["encoder_lr"])
        assert run.recipe.clip == (0.5 if model == "spert" else 1.0), "what an earlier search chose is no part of it"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"models": ["sient"]}, "'sient' is none of the models, did you mean 'sinet'"),
        ({"recipe": "equla"}, "'equla' is none of the recipes, did you mean 'equal'"),
        ({"datasets": ["sceirc"]}, "sceirc"),
        ({"space": {"step": [1]}}, "step: unknown key, did you mean 'steps'"),
        ({"space": {"settings.drop": [0.1]}}, "drop: unknown key, did you mean 'dropout'"),
    ],
)
def test_mistakes_are_refused_before_any_trial(changes, message):
    with pytest.raises(UserError, match=message):
        S.trials_grid(declared(**changes), load_config(), "results/search")


def test_a_search_is_held_against_its_form(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(yaml.safe_dump(DECLARED | {"space": {"steps": {"least": 9, "most": 2}}}))
    assert main(["search", "--search", "s.yaml"]) == 2
    assert "s.yaml: space.steps" in (told := capsys.readouterr().err) and "least and a greater most" in told
    assert not Path("results").exists()


@pytest.fixture
def trained(tmp_path):
    """A plan of the trials, and a function that gives the runs of a trial a record with some Rel+ on dev a seed;
    None: it diverged."""
    grid = S.trials_grid(declared(), load_config(), str(tmp_path))
    plan = resolve(laid_over(grid), offline=False)

    def finish(dataset: str, model: str, trial: int, *rel_plus: float | None, **changes: object) -> None:
        for seed, figure in enumerate(rel_plus):
            run = f"{dataset}/minilm/{model}.trial-{trial}/{seed}"
            place = plan.file(run, "diverged.json" if figure is None else "training.json")
            place.parent.mkdir(parents=True)
            dev = {} if figure is None else {"dev": {"ent": 60.0, "rel": 40.0, "rel_plus": figure}}
            made = {"device_name": "abacus", "precision": "float32", "git_commit": "0123456789abcdef"}
            write_sealed(place, {"run": plan.spec(run).model_dump() | changes} | dev | made)

    return plan, finish


def test_the_best_on_dev_is_chosen_of_finished_searches_alone(trained, tmp_path):
    plan, finish = trained
    for trial, figures in enumerate([(30.0, 10.0), (25.0, 25.0), (25.0, 25.0)]):
        finish("scierc", "dygiepp", trial, *figures)
    finish("scierc", "table-sequence", 0, 10.0, 10.0)
    finish("scierc", "table-sequence", 1, 10.0, 10.0, seed=7)  # trained otherwise than planned
    table, out = tmp_path / "trials.csv", tmp_path / "chosen.yaml"
    lacking = choose(declared(), plan, table, out)
    assert "table-sequence on scierc: 1 of 3 trials are finished" in lacking and len(lacking) == 5
    rows = list(csv.DictReader(table.open()))
    assert [(r["model"], r["trial"], r["dev_rel_plus"], r["chosen"]) for r in rows] == [
        *(("dygiepp", "0", "20.00", ""), ("dygiepp", "1", "25.00", "yes"), ("dygiepp", "2", "25.00", "")),
        ("table-sequence", "0", "10.00", ""),
    ]
    chosen = read_config(out)
    drawn = S.draw(declared())[1]
    recipe, settings = spell_out(chosen, "equal", "dygiepp", "scierc")
    assert (recipe.encoder_lr, recipe.steps) == (drawn["encoder_lr"], drawn["steps"])
    assert settings == {"dropout": drawn["settings.dropout"]}
    assert spell_out(chosen, "equal", "dygiepp", "ade-0") == spell_out(read_config(), "equal", "dygiepp", "ade-0")
    (in_epochs := tmp_path / "epochs.yaml").write_text(
        "recipes: {equal: {defaults: {steps: null, epochs: 9, evaluate_every: 1}}}"
    )
    longer = read_config(out, in_epochs)
    assert spell_out(longer, "equal", "dygiepp", "scierc") == (recipe, settings), "its length stays as chosen"
    assert spell_out(longer, "equal", "dygiepp", "ade-0")[0].epochs == 9

    # a further search elsewhere: the trials that the table has stay known, as long as they are those declared
    elsewhere = Plan(plan.config, tmp_path / "elsewhere", plan.runs)
    choose(declared(), elsewhere, table, out)
    assert list(csv.DictReader(table.open())) == rows
    with pytest.raises(UserError, match="dygiepp on scierc: 0 of 3 trials"):
        choose(declared(seed=5), elsewhere, table, out)
    with pytest.raises(UserError, match="elsewhere: planned with fewer than 4 trials"):
        choose(declared(trials=4), elsewhere, table, out)


def test_a_trial_that_diverged_counts_without_figures_and_is_never_the_best(trained, tmp_path):
    plan, finish = trained
    for trial, figures in enumerate([(None, None), (90.0, None), (0.0, 0.0)]):
        finish("scierc", "dygiepp", trial, *figures)
        finish("scierc", "table-sequence", trial, None, 50.0)
    table, out = tmp_path / "trials.csv", tmp_path / "chosen.yaml"
    assert "table-sequence on scierc: all 3 trials diverged" in choose(declared(), plan, table, out)
    rows = list(csv.DictReader(table.open()))[:3]
    assert [(r["dev_ent"], r["dev_rel_plus"], r["dev_rel_plus_per_seed"], r["chosen"]) for r in rows] == [
        *(("", "", "diverged diverged", ""), ("", "", "90.00 diverged", "")),
        ("60.00", "0.00", "0.00 0.00", "yes"),
    ]
    # as a further search elsewhere reads them again
    choose(declared(), Plan(plan.config, tmp_path / "elsewhere", plan.runs), table, out)
    assert list(csv.DictReader(table.open()))[:3] == rows


def test_the_search_of_the_project_is_a_grid():
    search = S.read_search(ROOT / "config" / "search" / "search.yaml")
    assert search.trials >= 6 and len(search.models) == len({read_config().models[m].system for m in search.models})
    assert resolve(laid_over(S.trials_grid(search, load_config(), "results/search")), offline=False).runs


def test_trials_are_trained_by_the_workflow_and_their_outcome_is_a_recipe(
    tiny_mirror, tmp_path, monkeypatch, capsys, warm
):
    project = copy_project(tmp_path / "project")
    monkeypatch.chdir(project)
    rates = {"batch_size": 4, "weight_decay": 0.01, "warmup": 0.1, "epochs": 9, "selection": "dev_rel_plus"}
    grid = tiny_grid(tmp_path / "mirror", tiny_mirror, {"spert": rates, "dygiepp": rates})
    block = {"datasets": ["ten"], "encoders": ["tiny"], "models": ["spert"], "seeds": [0], "recipe": "tiny"}
    Path("mine.yaml").write_text(yaml.safe_dump(grid | {"grid": [block], "reference": None}))
    space = {"head_lr": [3e-3], "encoder_lr": [3e-3], "epochs": [30, 60]}
    of = {"recipe": "tiny", "encoder": "tiny", "datasets": ["ten"], "models": ["spert", "dygiepp"], "space": space}
    Path("search.yaml").write_text(yaml.safe_dump(DECLARED | of | {"trials": 2, "seeds": [0], "seed": 3}))
    options = ["--search", "search.yaml"]
    assert main(["search", *options, "--config", "mine.yaml", "--out", "results/search"]) == 0
    call = ["snakemake", "trained", "--cores", "2", "--configfile", "mine.yaml", "results/search/grid.yaml"]
    done = subprocess.run(call, env=warm, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(Path("results/search").rglob("*predictions*")), "no split is predicted"
    assert main(["choose", *options, "--table", "trials.csv", "--out", "chosen.yaml"]) == 0
    rows = list(csv.DictReader(Path("trials.csv").read_text().splitlines()))
    of_spert = [row for row in rows if row["model"] == "spert"]
    best = max(of_spert, key=lambda row: float(row["dev_rel_plus"]))
    assert best["chosen"] == "yes" and 0 < float(best["threshold"]) < 1 and len(rows) == 4
    assert {row["threshold"] for row in rows if row["model"] == "dygiepp"} == {""}
    recipe, settings = spell_out(read_config("mine.yaml", "chosen.yaml"), "tiny", "spert", "ten")
    assert recipe.epochs == json.loads(best["drawn"])["epochs"]
    assert settings["threshold"] == float(best["threshold"])
    run = Path(f"results/search/runs/ten/tiny/spert.trial-{best['trial']}/0")
    assert main(["thresholds", "--run", str(run), "--data", "results/search/data/ten"]) == 0
    assert float(best["dev_rel_plus"]) == pytest.approx(read_sealed(run / "training.json")["dev"]["rel_plus"], abs=0.01)
