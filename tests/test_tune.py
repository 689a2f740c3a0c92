"""Trials of a recipe: the same number for every model, checked before any runs, kept as data."""

import csv
import json
from collections import Counter

import pytest
import yaml

from sinet.cli import main
from sinet.errors import UserError
from sinet.files import write_sealed
from sinet.grid.config import load_config, read_config
from sinet.grid.recipes import spell_out
from sinet.provenance import ROOT
from sinet.schema import Trials
from sinet.train import tune
from sinet.train.tune import trial_runs


def spelled_out(system: str) -> tuple[dict, dict]:
    """The recipe `full` of a system, and its settings."""
    recipe, settings = spell_out(read_config(), "full", system, "scierc")
    return recipe.model_dump(exclude={"name", "stages"}), settings


DECLARED = {
    "dataset": "scierc",
    "encoder": "minilm",
    "seeds": [0, 1],
    "start": {system: spelled_out(system)[0] | {"settings": spelled_out(system)[1]} for system in ("sinet", "pfn")}
    | {"span_multihead": spelled_out("span_multihead")[0]},
    "trials": {
        "sinet": {"1": {}, "2": {"epochs": 3, "settings": {"dropout": 0.4}}},
        "span-multihead": {"1": {}, "2": {"head_lr": 2.0e-3}},
    },
}


def train(run, data, out, state, mirrors):
    """In place of a training: dev scores of epochs and seed."""
    out.mkdir(parents=True)
    scores = {m: 10.0 * run.recipe.epochs + run.seed for m in ("ent", "rel", "rel_plus")}
    write_sealed(
        out / "training.json",
        {"run": run.model_dump(), "dev": scores, "device_name": "abacus", "threads": 1, "precision": "float32"},
    )


def test_a_trial_is_the_recipe_with_its_changes():
    config = load_config()
    runs = list(trial_runs(config, Trials.model_validate(DECLARED)))
    assert [(model, trial, run.seed) for model, trial, run in runs] == [
        (m, t, s) for m in ("sinet", "span-multihead") for t in ("1", "2") for s in (0, 1)
    ]
    (full, settings), changed = spelled_out("sinet"), runs[2][2]
    assert changed.recipe.epochs == 3 != full["epochs"]
    assert changed.settings == settings | {"dropout": 0.4}
    assert changed.recipe.head_lr == full["head_lr"]


@pytest.mark.parametrize(
    "trials, message",
    [
        ({"sinet": {"1": {}, "2": {}}, "pfn": {"1": {}}}, "the same number of trials"),
        ({"sient": {"1": {}}}, "'sient' is not declared, did you mean 'sinet'"),
        ({"sinet": {"1": {"epoch": 3}}}, "epoch: unknown key, did you mean 'epochs'"),
        ({"sinet": {"1": {"head_lr": "1e-3"}}}, "YAML reads 1e-3 as text"),
    ],
)
def test_mistakes_are_refused_before_any_trial(trials, message):
    with pytest.raises(UserError, match=message):
        list(trial_runs(load_config(), Trials.model_validate(DECLARED | {"trials": trials})))


def test_trials_are_kept_as_data_once_all_their_seeds_are_there(tmp_path, monkeypatch):
    monkeypatch.setattr(tune, "train_run", train)
    declared = DECLARED | {"trials": {"sinet": {"1": {"epochs": 1}, "2": {"epochs": 3}}, "pfn": {"1": {}, "2": {}}}}
    (tmp_path / "trials.yaml").write_text(yaml.safe_dump(declared))
    table = tmp_path / "trials.csv"
    tune.tune(load_config(), tmp_path / "trials.yaml", ["sinet"], tmp_path, tmp_path / "out", tmp_path, table)
    rows = list(csv.DictReader(table.open()))
    assert [(r["model"], r["trial"], r["dev_rel_plus"], r["seeds"]) for r in rows] == [
        ("sinet", "1", "10.50", "0 1"),
        ("sinet", "2", "30.50", "0 1"),
    ]
    declared["trials"]["sinet"]["2"]["epochs"] = 4  # what is declared no longer is what was run
    (tmp_path / "trials.yaml").write_text(yaml.safe_dump(declared))
    tune.tune(load_config(), tmp_path / "trials.yaml", ["pfn"], tmp_path, tmp_path / "elsewhere", tmp_path, table)
    rows = list(csv.DictReader(table.open()))
    assert {(r["model"], r["trial"]) for r in rows} == {("sinet", "1"), ("pfn", "1"), ("pfn", "2")}


def test_trials_on_a_dataset_of_a_file_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setattr(tune, "train_run", train)
    mine = {"datasets": {"mine": load_config()["datasets"]["scierc"] | {"published": None, "title": "Mine"}}}
    declared = DECLARED | {"dataset": "mine", "trials": {"sinet": {"1": {"epochs": 1}}}}
    for name, text in (("mine", mine), ("trials", declared)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(text))
    monkeypatch.chdir(tmp_path)
    arguments = "tune --config mine.yaml --data data --trials trials.yaml --out out --table trials.csv"
    assert main(arguments.split()) == 0
    (row,) = csv.DictReader((tmp_path / "trials.csv").open())
    assert (row["dataset"], row["dev_rel_plus"]) == ("mine", "10.50")


def test_the_trials_of_the_project_can_be_run():
    declared = yaml.safe_load((ROOT / "config" / "trials" / "trials.yaml").read_text(encoding="utf-8"))
    assert list(trial_runs(load_config(), Trials.model_validate(declared)))


def test_the_recipe_full_is_the_best_of_each_models_trials():
    config = load_config()
    with open(ROOT / "config" / "trials" / "trials.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    counts = Counter(row["model"] for row in rows)
    assert (
        set(counts) == {n for n, m in config["models"].items() if "published" in m} and len(set(counts.values())) == 1
    )
    for model in counts:
        best = max((r for r in rows if r["model"] == model), key=lambda r: float(r["dev_rel_plus"]))
        tried, (recipe, settings) = json.loads(best["recipe"]), spelled_out(config["models"][model]["system"])
        assert tried["settings"] == config["models"][model].get("settings", {}) | settings, model
        assert {k: v for k, v in tried["recipe"].items() if k not in ("name", "stages")} == recipe, model
