"""`make bench` on a tiny trained run: its keys, its ratios, what it says is missing, and memory over a stream."""

import json
import subprocess
from dataclasses import replace

import pytest
import torch

from sinet.data.sentence import read_sentences
from sinet.efficiency import bench, exactness
from sinet.encoders.fast import PackedLinear
from sinet.errors import UserError
from sinet.infer.predict import load_run
from sinet.model.sinet import System
from sinet.train.trainer import train_run
from tests.conftest import CORPUS, LABELS, SMALL, spec, tiny_plan, tiny_run


@pytest.fixture(scope="module")
def finished(tiny_mirror, prepared, tmp_path_factory):
    """One finished run of a plan of two."""
    folder = tmp_path_factory.mktemp("bench")
    run = spec(tiny_run(dict(System.test_settings), 0, epochs=60, batch_size=5, weight_decay=0.0, selection="last"))
    results = folder / "results"
    (results / "data").mkdir(parents=True)
    (results / "data" / "ten").symlink_to(prepared)
    plan = tiny_plan(results, {"ten/tiny/sinet/0": "tiny", "ten/tiny/other/0": "tiny"}, mirrors=[tiny_mirror])
    train_run(run, prepared, plan.file(run.path, ""), folder / "state", [tiny_mirror])
    return plan


def test_the_figures_are_there_and_fit_together(finished, tmp_path):
    out = tmp_path / "bench.json"
    text = bench.bench(finished, out, None, 0, seconds=0.05)
    written = json.loads(out.read_text())
    assert written["complete"]
    run = finished.file("ten/tiny/sinet/0", "")
    encoder = load_run(run, torch.device("cpu"))[0].encoder
    pieces = encoder.collate(read_sentences(CORPUS)).attention_mask.sum(1).tolist()  # [CLS] and [SEP] among them
    layers, d, inner = (SMALL[k] for k in ("num_hidden_layers", "hidden_size", "intermediate_size"))
    products = [layers * (4 * n * d * d + 2 * n * d * inner + 2 * n * n * d) for n in pieces]
    assert written["encoder_multiply_adds"] == pytest.approx(sum(products) / len(products))
    assert written["missing"] == ["ten/tiny/other/0"] and "Not trained, so not measured: ten/tiny/other/0" in text
    sinet = written["systems"]["sinet"]
    for precision, peak in written["matmul_peak_gflops"].items():
        best = written["encoder_best"][precision]
        assert peak > 0 and best["peak_share"] > 0
        assert f"its linear maps by themselves reach {best['maps_peak_share']:.2f}." in text
        for kind in ("batch_1", "best"):
            figures = sinet[precision][kind]
            assert figures["ratio"] == pytest.approx(figures["sentences_per_s"] / figures["encoder_sentences_per_s"])
            share = 2e-9 * written["encoder_multiply_adds"] * figures["encoder_sentences_per_s"] / peak
            assert figures["peak_share"] == pytest.approx(share) and figures["repeats"] >= 5
        assert sinet[precision]["batch_1"]["batch"] == 1
    for key, batch in (("training", 5), ("training_batch_4", 4)):
        trained = sinet[key]
        assert trained["batch"] == batch
        assert trained["ratio"] == pytest.approx(trained["sentences_per_s"] / trained["encoder_sentences_per_s"])
    exact = sinet["exactness"]
    assert exact["float32_same"] and exact["float32_states"] < 1e-5 and 0 < exact["float32_logits"] < 1e-5
    assert exact["f1"]["float32"]["ent"] > 0
    assert text.count("| yes |") + text.count("| NO |") == 1
    f1 = {"float32": {"ent": 60.0}, "bfloat16": {"ent": 60.2}}
    assert exactness.verdict(exact | {"f1": f1}) == "yes"
    assert exactness.verdict(exact | {"f1": f1 | {"bfloat16": {"ent": 60.4}}}) == "NO"
    assert exactness.verdict(exact | {"f1": f1, "float32_logits": None}) == "NO"
    assert exactness.verdict(exact | {"f1": f1, "float32_states": float("nan")}) == "NO"
    assert all(f"| sinet | {p} | " in text for p in written["matmul_peak_gflops"])
    streamed = {"sentences": 9000, "sentences_per_s": 8.2, "peak_resident_mib": {"4096": 500.0, "9000": 560.2}}
    for grown, shown in ((False, "560 MiB after 9,000: bounded."), (True, "9,000: IT GROWS with the stream.")):
        assert shown in bench.table(written | {"stream": streamed | {"bounded": not grown}})
    failed = bench.table(written | {"stream": {"sentences": 9000, "failed": "exit status -9: "}})
    assert "The stream of 9,000 sentences failed: exit status -9" in failed


def test_inexact_arithmetic_is_noticed(finished, monkeypatch):
    cpu, sentences = torch.device("cpu"), read_sentences(CORPUS)
    model, _ = load_run(finished.file("ten/tiny/sinet/0", ""), cpu)
    exact = exactness.exactness(model, sentences, LABELS, cpu, ["float32"])
    product = PackedLinear.__call__
    monkeypatch.setattr(PackedLinear, "__call__", lambda self, rows: product(self, rows) * 1.0003)
    inexact = exactness.exactness(model, sentences, LABELS, cpu, ["float32"])
    assert exact["float32_same"] and inexact["float32_same"], "too little to be seen in the predictions"
    assert exact["float32_logits"] < 1e-5 < 1e-4 < inexact["float32_logits"]
    assert [exactness.verdict(e) for e in (exact, inexact)] == ["yes", "NO"]


def test_without_a_trained_run_it_says_what_to_do(finished, tmp_path):
    with pytest.raises(UserError, match="holds no trained run of this grid; train it first: make tables"):
        bench.bench(replace(finished, results=tmp_path), tmp_path / "b.json", None, 0)


def test_a_stream_is_predicted_in_a_process_of_its_own(finished):
    run = finished.file("ten/tiny/sinet/0", "")
    streamed = bench.streaming(run, read_sentences(CORPUS), 300, chunk=50)
    assert list(streamed["peak_resident_mib"]) == ["50", "300"]
    assert streamed["peak_resident_mib"]["300"] >= streamed["peak_resident_mib"]["50"] > 50


def test_a_stream_that_fails_says_why_and_loses_nothing(finished, tmp_path):
    streamed = bench.streaming(tmp_path, read_sentences(CORPUS), 10)
    assert set(streamed) == {"sentences", "failed"} and "no model.json, so no finished run" in streamed["failed"]


@pytest.mark.parametrize(("last", "bounded"), [(560.0, True), (564.1, False)])
def test_memory_that_grows_is_told(last, bounded, finished, monkeypatch):
    def predicted(*arguments, **options):
        return subprocess.CompletedProcess(arguments, 0, json.dumps({10: 500.0, 100: last}), "")

    monkeypatch.setattr(subprocess, "run", predicted)
    streamed = bench.streaming(finished.results, read_sentences(CORPUS), 100)
    assert streamed["bounded"] is bounded
    assert list(streamed["peak_resident_mib"].values()) == [500.0, last]
