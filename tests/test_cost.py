"""What trainings cost: counts against torch's own of the whole model, steps against the trainer's, hours against the
trainings that were made."""

import copy
import json
import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sinet import systems
from sinet.cli import main
from sinet.data.prepare import declared_labels
from sinet.data.sentence import read_sentences
from sinet.efficiency import cost
from sinet.encoders.encoder import Encoder
from sinet.grid.config import load_config, read_config
from sinet.grid.plan import resolve
from sinet.provenance import ROOT
from sinet.schema import RunSpec
from sinet.train.steps import Training, batch_parts, train_step
from sinet.train.trainer import Data
from tests.conftest import CORPUS, DATASETS, LABELS, dataset, spec, tiny_run

SHOWN = ROOT / "results" / "archive" / "shown"
SYSTEMS = sorted(systems.sources())


def without_data(encoder: Encoder) -> Encoder:
    return Encoder(copy.deepcopy(encoder.model).to("meta"), encoder.tokenizer)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_step_is_counted_as_torch_counts_the_whole_model(system, tiny_encoder):
    run = tiny_run({}, 0, epochs=1) | {"system": system, "settings": dict(systems.load(system).test_settings)}
    if "gold_decay" in systems.settings(system).model_fields:
        run["settings"]["gold_decay"] = 1e12  # else what random weights predict is paired as well
    sentences, recipe = read_sentences(CORPUS)[:4], spec(run).recipe
    counted = cost.Counted(spec(run), LABELS, without_data(tiny_encoder))
    torch.manual_seed(0)
    work, saved = counted.step(counted.model.training_items(sentences), recipe)
    model = systems.load(system)(LABELS, tiny_encoder, **run["settings"]).train()
    training = Training(model, model.training_items(sentences), recipe, 0, cost.CPU, "float32")
    torch.manual_seed(0)
    parts = batch_parts(model, training.items, recipe)
    with FlopCounterMode(display=False) as whole:
        train_step(model, parts, training.optimizer, training.schedule, recipe, cost.CPU, "float32")
    assert work.flops == pytest.approx(whole.get_total_flops(), rel=0.01)
    assert work.operators > 100 and saved > 0


def test_a_batch_in_parts_needs_the_memory_of_a_part(tiny_encoder):
    def needed(micro: int | None) -> float:
        run = spec(tiny_run(dict(systems.load("sinet").test_settings), 0, epochs=1, micro_batch_size=micro))
        model = cost.Counted(run, LABELS, without_data(tiny_encoder))
        return model.step(read_sentences(CORPUS)[:4], run.recipe)[1]

    assert 0.15 < needed(1) / needed(None) < 0.5


@pytest.mark.parametrize(
    "recipe",
    [
        {"epochs": 3, "batch_size": 4},
        {"epochs": 3, "batch_size": 4, "drop_last": True},
        {"epochs": None, "steps": 7, "batch_size": 3, "evaluate_every": 2, "selection": "dev_rel"},
        {"epochs": 2, "batch_size": "document", "selection": "dev_rel"},
    ],
)
def test_steps_are_those_of_the_trainer(recipe, tiny_encoder):
    run = tiny_run(dict(systems.load("sinet").test_settings), 0, **recipe)
    sentences = read_sentences(CORPUS)
    named = [cost._relabelled(s, LABELS, LABELS, f"{i // 3}") for i, s in enumerate(sentences)]
    data = Data(LABELS, named, sentences)
    model = systems.load("sinet")(LABELS, tiny_encoder, **run["settings"])
    training = Training(model, named, spec(run).recipe, 0, cost.CPU, "float32")
    counted = cost.run_cost(spec(run), data, without_data(tiny_encoder))
    assert (
        counted.steps
        == training.steps
        == {4: 9 - 3 * recipe.get("drop_last", False), 3: 7}.get(recipe["batch_size"], 8)
    )
    weights = sum(p.numel() for p in model.parameters())
    assert counted.disk == 4 * weights and counted.state == 4 * (3 * 3 * weights + weights)
    assert counted.memory > 16 * weights
    without_looks = cost.run_cost(spec(run), Data(LABELS, named, []), without_data(tiny_encoder))
    assert counted.work.flops > without_looks.work.flops


def test_a_fit_finds_the_device_that_the_seconds_are_of():
    works = [cost.Work(1e12, 1e5), cost.Work(1e13, 2e5), cost.Work(2e12, 9e6)]
    device = cost.Device("", 2e11, 3e-5)
    found = cost.fit("here", works, [device.seconds(work) for work in works])
    assert (found.flops_per_s, found.operator_s) == pytest.approx((2e11, 3e-5), rel=1e-6)


def test_hours_are_those_of_trainings_made_here():
    """Fitted to three systems on SciERC with MiniLM, of four on another dataset, and with an encoder of five times the
    size, within a factor of 1.5 of the pace of their fastest epoch: the machine was shared, and by the clock the same
    training takes up to twice as long."""
    material = cost.Material(read_config().model_copy(update={"mirrors": [str(DATASETS)], "results": "nowhere"}))
    lines = map(json.loads, (ROOT / "tests" / "data" / "trainings.jsonl").read_text(encoding="utf-8").splitlines())
    learnt, others = [], []
    for of in lines:
        finished = cost.Finished(**of | {"run": RunSpec.model_validate(of["run"])})
        here = (finished.run.dataset, finished.run.encoder_name) == ("scierc", "minilm")
        (learnt if here else others).append((cost.measured_work(finished.run, material), finished.undisturbed))
    device = cost.fit("here", *zip(*learnt, strict=True))
    ratios = [device.seconds(work) / took for work, took in others]
    assert (len(learnt), len(ratios)) == (3, 8)
    assert [r for r in ratios if not 1 / 1.5 < r < 1.5] == []


def test_what_is_not_here_is_counted_by_its_declared_size(tmp_path, capsys):
    material = cost.Material(read_config().model_copy(update={"mirrors": [str(DATASETS)], "results": str(tmp_path)}))
    data = material.data("ace05")
    assert (len(data.train), len(data.dev)) == (10051, 2420)
    assert data.labels == declared_labels(material.config.datasets["ace05"])
    assert {e.type for s in data.train for e in s.entities} <= set(data.labels.entity_types)
    assert len({s.document for s in data.train}) == 351, "of the list of its documents, which is here"
    assert "those of scierc" in material.remarks["ace05"]
    encoder = material.encoder("albert-xxlarge")
    assert encoder.hidden_size == 4096 and encoder.model.device.type == "meta"
    assert "sizes of albert-xxlarge-sizes" in material.remarks["albert-xxlarge"]
    unknown = {"title": "X", "format": "jsonl", "files": {s: {"path": "x"} for s in ("train", "dev", "test")}}
    material.config.datasets["x"] = dataset(unknown | {"entity_types": ["A"], "relation_types": ["B"]})
    assert material.data("x") is None and "unknown until prepared" in material.remarks["x"]


def test_the_sum_says_of_how_many_runs_nothing_is_known():
    run = resolve(load_config()).specs()[0]
    made = cost.Cost(10, 5, cost.Work(1e15, 0), 1e9, 1e9, 1e9)
    told = cost.table([([run, run], made), ([run] * 3, None)], cost.Device("", 1e12, 0.0), None)
    assert "In all, 2 runs: 2.0 PFLOP" in told and told.endswith("Not among them, as unknown: 3 runs.")
    assert "unknown" not in cost.table([([run], made)], cost.Device("", 1e12, 0.0), None)


def test_the_command_prints_a_table_and_what_it_rests_on(tmp_path, capsys, monkeypatch):
    overlay = tmp_path / "grid.yaml"
    grid = [{"datasets": ["conll04"], "encoders": ["minilm"], "models": ["spert"], "seeds": [0, 1], "recipe": "short"}]
    config = {
        "results": str(tmp_path / "r"),
        "grid": grid,
        "mirrors": [str(tmp_path)],
        "case_study": {"model": "spert"},
    }
    (tmp_path / "conll04").symlink_to((DATASETS / "conll04").resolve())
    overlay.write_text(json.dumps(config))
    given = ["plan", "--cost", "--config", str(overlay)]
    assert main([*given, "--peak-tflops", "20", "--memory-gb", "0.1"]) == 0
    out = capsys.readouterr().out
    (line,) = [line.split() for line in out.splitlines() if line.startswith("conll04")]
    assert line[:6] == ["conll04", "minilm", "spert", "2", "2,384", "300"] and "!" in line
    assert math.isclose(float(line[6]), 0.0057, rel_tol=0.15)
    assert "In all, 2 runs" in out and "20 TFLOP/s x 0.3" in out
    assert main([*given, "--records", str(tmp_path)]) == 2
    assert f"here below {tmp_path} to calibrate on; state the device" in capsys.readouterr().err
    made = SHOWN / "scierc" / "minilm" / "spert" / "1"
    assert main([*given, "--records", str(made)]) == 0
    (remark,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("- ")]
    assert remark.startswith("- scierc is not here: ")
    assert remark.endswith(" (of the trainings that the device is fitted to)")
    monkeypatch.setattr(cost, "encoder_at_hand", lambda config, name: name != "minilm")
    assert main([*given, "--records", str(made)]) == 2, "an encoder that is not here is not asked for"
    assert f"here below {made} to calibrate on" in capsys.readouterr().err
