"""`make test-gpu`, rehearsed on the CPU with a tiny encoder; and its refusal without a GPU."""

import json

import pytest
import torch
import yaml

from sinet.efficiency import bench, timing
from tests import gpu
from tests.conftest import tiny_grid


@pytest.fixture
def rehearsed(tiny_mirror, tmp_path, monkeypatch):
    """How to rehearse on the hand-made corpus; the device's tests have a file of their own."""
    monkeypatch.setattr(timing, "PEAK_SIZES", (8,))
    monkeypatch.setattr(bench, "TRAINING_REPEATS", 1)
    monkeypatch.setattr(gpu, "run_tests", lambda chosen: {"exit_status": 0, "said": "1 passed", "failed": []})
    recipe = {"epochs": 40, "batch_size": 5, "weight_decay": 0.0, "selection": "last", "precision": "auto"}
    models = {name: recipe for name in ("sinet", "spert")}
    config = tiny_grid(tmp_path / "mirror", tiny_mirror, models)
    config["grid"] = [{"datasets": ["ten"], "encoders": ["tiny"], "models": list(models), "recipe": "tiny"}]
    config["efficiency"] |= {"timed_seconds": 0.01}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config))
    arguments = ["--device", "cpu", "--config", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "out")]
    return lambda: (gpu.main(arguments), json.loads(next((tmp_path / "out").iterdir()).read_text()))


def test_everything_is_measured_and_within_the_tolerances(rehearsed, capsys):
    status, found = rehearsed()
    assert status == 0 and found["complete"] and found["failures"] == []
    assert "passed on " in capsys.readouterr().out and found["device"] == "cpu"
    for model in ("sinet", "spert"):
        assert found["trained"][model]["float32"]["sentences_per_s"] > 0
        compared = found["against_the_cpu"][model]
        assert compared["found"] > 0 and len(compared["curves"]["cpu"]) == gpu.STEPS
        best = found["bench"]["systems"][model]["float32"]["best"]
        assert best["sentences_per_s"] > 0 and best["ratio"] > 0
        assert found["bench"]["systems"][model]["training"]["sentences_per_s"] > 0
    assert set(found["training_sentences_per_s"]["sinet"]) == {"prepared_ahead", "one_after_another"}


def test_figures_that_are_not_the_cpus_fail(rehearsed, monkeypatch, capsys):
    curve = iter(range(1, 100))
    monkeypatch.setattr(gpu, "losses", lambda *run: [float(next(curve))] * gpu.STEPS)
    monkeypatch.setattr(bench, "bench", lambda *given: given[1].write_text("{}") and "")
    status, found = rehearsed()
    assert status == 1 and found["failures"][0].startswith("sinet: losses differ by 1, more than 0.001")
    assert "FAILED on" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line(capsys):
    assert gpu.main([]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "sees no GPU; name a Python whose torch does: make test-gpu PYTHON=" in said
