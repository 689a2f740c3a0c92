"""A published run: loadable, and its card says what its record does."""

import re

import pytest
import yaml

import sinet
from sinet.cli import main
from sinet.data.sentence import read_sentences
from sinet.evaluate.metrics import score
from sinet.files import write_sealed
from sinet.model.sinet import System
from tests.conftest import CORPUS, LABELS, recorded_recipe, tiny_plan
from tests.test_released import write_run

GOLD = read_sentences(CORPUS)


@pytest.fixture
def run(tiny_encoder, tmp_path):
    """A finished run in the results of its grid."""
    plan = tiny_plan(tmp_path / "results", {"ten/tiny/sinet/0": "short"}, {"ten": "Ten sentences"})
    plan.write()
    settings = dict(System.test_settings)
    folder = write_run(plan.file("ten/tiny/sinet/0", ""), "sinet", System(LABELS, tiny_encoder, **settings), settings)
    halves = [s.with_labels(s.entities[:1], ()) for s in GOLD]
    record = {
        **{"dataset": "ten", "encoder": "tiny", "model": "sinet", "system": "sinet", "seed": 0, "settings": settings},
        **{"recipe": recorded_recipe("short", epochs=7), "split": "test", "selection": "last"},
        **{"scores": score(GOLD, halves, LABELS), "test_sentences": 10, "citation": "Luo et al., 2024"},
        **{"encoder_source": {"source": "hub", "revision": "0" * 40}, "selected_epoch": 7, "dev": {"ent": 1.0}},
        **{"trained_on": "train", "train_sentences": 30, "dev_sentences": 20, "truncated_words": 0, "parameters": 9},
        **{"seconds": {"train": 1.0}, "sentences_per_s": 1.0, "peak_memory_mib": {"process": 1.0}},
        **{"git_commit": "a" * 40, "device": "cpu", "device_name": "A machine", "threads": 2},
        **{"precision": "float32", "versions": {"python": "3.12"}},
    }
    write_sealed(folder / "record.json", record)
    return folder


def publish(run, out, *more: str) -> int:
    return main(["publish", "--run", str(run), "--out", str(out), "--licence", "cc-by-4.0", *more])


def test_a_published_run_loads_and_its_card_says_what_the_record_does(run, tmp_path, capsys):
    out = tmp_path / "published"
    assert publish(run, out, "--language", "de") == 0
    assert f"nothing was uploaded; where a hub can be reached: hf upload USER/NAME {out}" in capsys.readouterr().out
    text = [" ".join(s.tokens) for s in GOLD]
    assert sinet.load(out).predict(text) == sinet.load(run).predict(text)
    _, front, body = (out / "README.md").read_text().split("---\n", 2)
    said = yaml.safe_load(front)
    assert (said["language"], said["license"], said["datasets"]) == (["de"], "cc-by-4.0", ["ten"])
    assert "relation-extraction" in said["tags"] and "f1" in said["metrics"]
    ent = score(GOLD, [s.with_labels(s.entities[:1], ()) for s in GOLD], LABELS)["symmetric"]["ent"]
    assert f"| Ent | symmetric | 100.00 | {ent['recall']:.2f} | {ent['f1']:.2f} |" in body
    for part in (
        "recipe short: 7 epochs, selection last",
        "a machine (cpu, 2 threads), float32",
        "at commit aaaaaaaaaaaa",
    ):
        assert part in " ".join(body.split()).lower(), part
    for part in ("test (10 sentences), seed 0, cpu", "30 sentences trained on (train)", "without direction: Compare"):
        assert part in " ".join(body.split()), part
    assert not re.search(r"{\w+}", body)


def test_what_cannot_be_published_is_said(run, tmp_path, capsys):
    def refused(*arguments) -> str:
        assert publish(*arguments) == 2
        return capsys.readouterr().err

    assert "no model.json, so no finished run" in refused(tmp_path, tmp_path / "new")
    assert "is there already and not empty" in refused(run, run)
    (tmp_path / "copied").symlink_to(run)
    assert not publish(tmp_path / "copied", tmp_path / "of-link"), "a link to a run is that run"
    weights = (run / "model.safetensors").read_bytes()
    (run / "model.safetensors").unlink()
    (run / "model.safetensors").write_bytes(weights[:-1] + b"x")
    assert "model.safetensors: not as it was trained" in refused(run, tmp_path / "changed")
    (run / "model.safetensors").write_bytes(weights)
    (run / "record.json").unlink()
    assert "publish a run of a finished grid" in refused(run, tmp_path / "unscored")
    assert not (tmp_path / "unscored").exists()
