"""The efficiency table: what was counted and timed, trained and with random weights, beside the deck's figures."""

import json

import pytest

from sinet.paper.efficiency_table import efficiency_table, words_at
from sinet.paper.grid import Grid
from sinet.paper.table import markdown

DECLARED = {
    "datasets": {"mine": {"title": "Mine"}},
    "encoders": {"small": {"title": "Small"}, "scibert-sizes": {"title": "SciBERT (sizes only)"}},
    "models": {"sinet": {"title": "SINET", "published": "SINET"}, "slow": {"title": "Slow", "published": "Slow"}},
    "runs": {},
    "left_out": [],
    "failed": [],
    "kept": [],
    "remark": None,
}
DECK = {
    "scierc": [
        {"system": "SINET", "flops_m": 3.0, "inference_s": 11},
        {"system": "Slow", "flops_m": 5.0, "inference_s": 12},
    ]
}
BY_WORDS = {"16": 2e6, "32": 4e6}


def timed(seconds: float) -> dict:
    figures = {"batch": 1, "repeats": 5, "median_s": seconds, "quartiles_s": [seconds - 0.01, seconds + 0.01]}
    return figures | {"sentences_per_s": 10 / seconds}


def counted(total: float) -> dict:
    figures = {"encoder": 0.75 * total, "heads": 0.25 * total, "total": total, "sentences": 10, "word_pieces": 20.0}
    return figures | {"by_words": {"16": figures}, "formulations": {}}


@pytest.fixture
def folder(tmp_path):
    """Measured figures of a dataset and encoder: SINET, and a system of twice its operations and three times its
    time."""
    folder = tmp_path / "mine" / "small"
    folder.mkdir(parents=True)
    systems = {"sinet": 1e6, "slow": 2e6}
    flops = {"split": "test", "of_sentences": 30, "systems": {m: counted(n) for m, n in systems.items()}}
    by_words = {n: {"encoder": 0.9 * total, "heads": 0.1 * total, "total": total} for n, total in BY_WORDS.items()}
    slower = {"as published": {n: {part: 2 * v for part, v in c.items()} for n, c in by_words.items()}}
    flops["architectures"] = {
        "scibert-sizes": {
            "sinet": {"by_words": by_words, "formulations": {}},
            "slow": {"by_words": by_words, "formulations": slower},
        }
    }
    seconds = {"sinet": 0.1, "slow": 0.3}
    timing = {
        **{"sentences": 10, "of_sentences": 30, "least_seconds": 10, "not_timed": "bfloat16 not timed: emulated"},
        **{"device": "cpu", "device_name": "A CPU", "threads": 2, "tokenising_s": {"sinet": 0.01}},
        "other_work_cpus": 0.02,
        "systems": {m: {"float32": {"batch_1": timed(2 * s), "best": timed(s)}} for m, s in seconds.items()},
        "architectures": {"scibert-sizes": {"sentences": 4, "systems": {m: timed(4 * s) for m, s in seconds.items()}}},
    }
    (folder / "flops.json").write_text(json.dumps(flops))
    (folder / "timing.json").write_text(json.dumps(timing))
    return folder


def run(model: str) -> dict:
    return {
        **{"dataset": "mine", "encoder": "small", "model": model, "seed": 0, "selected_epoch": 3, "selection": "last"},
        "recipe": {"name": "short"},
    }


def test_trained_and_untrained_rows_stand_beside_the_published_ones(folder):
    grid = Grid([run("sinet"), run("slow")], DECLARED, {})
    table = efficiency_table(grid, DECK, [folder])
    rows = {(row["System"], row["Source"]): row for row in table.frame.droplevel(0, axis=1).to_dict("records")}
    assert rows["SINET", "published"]["Ours equals it at (words)"] == "24.0"
    assert rows["Slow", "published"]["Ours equals it at (words)"] == "20.0", "of the published form"
    counted = rows["Slow, as published (ours)", "random weights, 32 words"]
    assert [counted[c] for c in ("Encoder FLOPs (M)", "Head FLOPs (M)", "FLOPs / SINET's")] == ["7.2", "0.8", "2.00"]
    slow = rows["Slow (ours)", "measured"]
    assert (slow["FLOPs / SINET's"], slow["Time / SINET's"]) == ("2.00", "3.00")
    assert slow["Sentences/s, bfloat16, batch 1"] == "n/a" and slow["Inference (s)"] == "0.30 [0.29, 0.31]"
    random = rows["Slow (ours)", "random weights"]
    assert (random["Encoder"], random["Time / SINET's"]) == ("SciBERT (sizes only)", "3.00")
    assert random["Inference (s)"] == "1.20 [1.19, 1.21]" and random["Total FLOPs (M)"] == "n/a"
    text = markdown(table)
    assert "over a sample at even steps of length (SciBERT (sizes only) 4 sentences)" in text
    assert "bfloat16 not timed: emulated" in text and "over 10 of the 30 sentences" in text


def test_without_figures_the_systems_stand_there_with_the_reason(folder):
    runs = {f"{d}/small/{m}/0": "short" for d in ("mine", "other") for m in ("sinet", "slow")}
    declared = DECLARED | {"datasets": DECLARED["datasets"] | {"other": {"title": "Other"}}, "runs": runs}
    declared["failed"] = [["other/small/slow/0", "it ran out of memory"]]
    grid = Grid([run("sinet"), run("slow"), run("sinet") | {"dataset": "other"}], declared, {})
    table = efficiency_table(grid, DECK, [folder])
    rows = {
        row["System"]: row for row in table.frame.droplevel(0, axis=1).to_dict("records") if row["Dataset"] == "Other"
    }
    assert [(m, row["Total FLOPs (M)"], row["Inference (s)"]) for m, row in rows.items()] == [
        ("SINET (ours)", "not counted", "not timed"),
        ("Slow (ours)", "failed", "failed"),
    ]
    text = markdown(table)
    assert "Other, Small: all systems are counted and timed together; no result of other/small/slow/0." in text
    assert "No result: other/small/slow/0: it ran out of memory." in text
    text = markdown(efficiency_table(Grid(grid.runs, declared | {"failed": []}, {}), DECK, [folder]))
    assert "Other, Small: all systems are counted and timed together; counting or timing has not come" in text


def test_the_length_of_a_count_lies_between_those_counted():
    by_words = {"16": {"total": 100.0}, "32": {"total": 300.0}}
    assert words_at(by_words, 99.0) == "below 16" and words_at(by_words, 100.0) == "16.0"
    assert words_at(by_words, 200.0) == "24.0" and words_at(by_words, 301.0) == "beyond 32"
