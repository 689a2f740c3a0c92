"""The command line: help that explains, one line and a status for what a user got wrong."""

import json
import re

import pytest

from sinet.cli import build_parser, main
from tests.conftest import CORPUS, LABELS, tiny_plan

STEPS = sorted(build_parser()._subparsers._group_actions[0].choices)


@pytest.mark.parametrize("step", STEPS)
def test_each_step_explains_itself(step, capsys):
    with pytest.raises(SystemExit) as ended:
        main([step, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for option in build_parser()._subparsers._group_actions[0].choices[step]._actions:
        assert option.help, f"{step} {option.dest} has no help"
    assert re.search(r"usage: python -m sinet " + step, text)


def test_scores_print_as_json(tmp_path, capsys):
    (tmp_path / "labels.json").write_text(json.dumps(LABELS.to_json()))
    arguments = [
        "score",
        "--gold",
        str(CORPUS),
        "--predictions",
        str(CORPUS),
        "--labels",
        str(tmp_path / "labels.json"),
    ]
    assert main(arguments) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["symmetric"]["rel_plus"]["f1"] == scores["relaxed"]["rel_plus"]["partial"]["f1"] == 100


def test_scores_without_a_label_file_take_the_types_that_occur(tmp_path, capsys):
    written = '"type": "Compare", "head": 1, "tail": 0'
    reverse = CORPUS.read_text().replace(written, '"type": "Compare", "head": 0, "tail": 1')
    assert reverse != CORPUS.read_text()
    (tmp_path / "p.jsonl").write_text(reverse)
    arguments = ["score", "--gold", str(CORPUS), "--predictions", str(tmp_path / "p.jsonl")]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["symmetric"]["rel"]["f1"] < 100 and "every relation type counts as directed" in err
    assert main([*arguments, "--symmetric", "Compare"]) == 0
    assert json.loads(capsys.readouterr().out)["symmetric"]["rel"]["f1"] == 100


SCORE = ["score", "--gold", str(CORPUS), "--predictions", str(CORPUS), "--labels", "nowhere.json"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["score", "--gold", "nowhere.jsonl", "--predictions", "x"], "nowhere.jsonl: No such file"),
        (["prepare", "scirec", "--out", "x"], "'scirec': not declared, did you mean 'scierc'?"),
        (["train", "--plan", "nowhere.json", "--run", "d/e/m/0"], "nowhere.json: No such file"),
        (
            ["predict", "--run", "nowhere", "--input", "x", "--output", "y"],
            "--input x: should end in .txt (raw text) or .jsonl (JSON lines)",
        ),
        (["predict", "--run", "nowhere", "--input", "x.txt", "--output", "y"], "x.txt: No such file"),
        (["predict", "--run", "nowhere", "--text", "x"], "nowhere: no such folder of a run"),
        (["predict", "--run", "tests", "--text", "x"], "tests: no model.json, so no finished run"),
        (["check", "tests"], "tests: Is a directory"),
        (["check", str(CORPUS), "--labels", str(CORPUS)], "should hold {"),
        (["check", str(CORPUS), str(CORPUS)], "named 2 times; name each file once"),
        (["plan", "--config", "nowhere.yaml"], "nowhere.yaml: No such file"),
        (["predict", "--run", "x", "--text", "x", "--output", "x/training.json"], "is a file of --run x as well"),
        (["predict", "--run", "x", "--text", "x", "--output", "tests"], "--output tests: is a folder"),
        (SCORE, "nowhere.json does not exist; give the labels.json of the dataset, or --symmetric"),
        ([*SCORE, "--symmetric", "Compare"], "--symmetric: --labels says that already; give one of them"),
        ([*SCORE[:5], "--symmetric", "Comparee"], "'Comparee' is not a relation type of these files"),
    ],
)
def test_mistakes_are_one_line_and_status_2(arguments, message, capsys):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["bench", "--sentences", "-1"], "--sentences: '-1' should be a whole number of at least 0"),
        (["bench", "--stream", "²"], "--stream: '²' should be a whole number of at least 0"),
        (["plan", "--peak-tflops", "nan"], "--peak-tflops: 'nan' should be a number above 0"),
        (["plan", "--memory-gb", "-1"], "--memory-gb: '-1' should be a number above 0"),
        (
            ["compare", "--resamples", "0"],
            "--resamples: '0' should be a whole number of at least 1 and at most 1000000",
        ),
        (["compare", "--resamples", "9" * 5000], "999' should be a whole number of at least 1 and at most 1000000"),
        (["check", "x", "--limit", "0"], "--limit: '0' should be a whole number of at least 1"),
    ],
)
def test_numbers_of_things_are_whole(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2 and message in capsys.readouterr().err


def test_plan_prints_runs_and_what_is_skipped(capsys):
    assert main(["plan", "--config", "config/paper.yaml"]) == 0
    out, err = capsys.readouterr()
    assert all(json.loads(line)["recipe"]["name"] == "own" for line in out.splitlines())
    assert "skipped: ace04" in err


@pytest.mark.parametrize(
    "held, message", [("{", "broken JSON (Expecting"), ("{}", "'dataset' is missing"), ("5", "'dataset' is missing")]
)
def test_a_damaged_record_is_named(held, message, tmp_path, capsys):
    plan = tiny_plan(tmp_path, {"d/e/m/0": "r"})
    record = plan.file("d/e/m/0", "record.json")
    record.parent.mkdir(parents=True)
    record.write_text(held)
    assert main(["compare", "--plan", str(plan.write()), "--out", str(tmp_path / "o.json")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{record}: {message}" in line


@pytest.mark.parametrize("run", ["{}", "d/e/n/0", "d/e/m/1"])
def test_a_run_that_is_not_in_the_plan_is_one_line(run, tmp_path, capsys):
    plan = tiny_plan(tmp_path, {"d/e/m/0": "r"}).write()
    assert main(["train", "--plan", str(plan), "--run", run]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"run {run!r} is not in the grid, " in line and "d/e/m/0" in line
