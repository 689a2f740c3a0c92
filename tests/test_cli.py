"""The command line: help that explains, one line and a status for what a user got wrong."""

import json
import re
import shlex

import pytest

from sinet.cli import USERS, build_parser, main
from tests.conftest import CORPUS, LABELS, command_parsers, tiny_plan

PARSERS = command_parsers()


def ended(arguments: list[str], capsys) -> tuple[int, str, str]:
    """The status of a call that argparse ends, and what it printed."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return end.value.code, *capsys.readouterr()


@pytest.mark.parametrize("step", PARSERS)
def test_each_command_explains_itself(step, capsys):
    status, text, _ = ended([*step.split(), "--help"], capsys)
    assert status == 0 and text.startswith(f"usage: sinet {step} ")
    for option in PARSERS[step]._actions:
        assert option.help, f"{step} {option.dest} has no help"
    if step in USERS:
        (example,) = re.findall(r"^example: sinet (.+)$", text, re.M)
        assert build_parser().parse_args(shlex.split(example)).command == step


def test_the_first_help_lists_what_users_call_in_their_order_and_one_line_of_steps(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["sinet"])
    status, text, _ = ended(None, capsys)
    assert status == 0 and tuple(re.findall(r"^    ([a-z-]+)", text, re.M)) == (*USERS, "step")
    assert "step      the workflow's steps; see sinet step --help" in text


def test_an_option_means_the_same_everywhere():
    """Of one name: a value of one kind; what is written is --out, and no command has two names for a thing."""
    kinds: dict[str, set] = {}
    for parser in PARSERS.values():
        for option in parser._actions:
            kinds.setdefault(option.option_strings[0] if option.option_strings else "", set()).add(option.metavar)
    several = {name for name, metavars in kinds.items() if name and len(metavars) > 1}
    assert several == {"--out"}, "a file, a folder or a stem"
    assert not kinds.keys() & {"--output", "--runs", "--configs", "--test"}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["chekc", "x"], "sinet: 'chekc' is unknown, did you mean 'check'?"),
        (["flops", "--plan", "x"], "sinet: 'flops' is unknown, write `sinet step flops`"),
        (["step", "flopz"], "sinet step: 'flopz' is unknown, did you mean 'flops'?"),
        (["step", "check"], "sinet step: 'check' is unknown, write `sinet check`"),
        (["score", "--glod", "x"], "sinet score: '--glod' is unknown, did you mean '--gold'?"),
        (["score", "--glod=x"], "sinet score: '--glod' is unknown, did you mean '--gold'?"),
        (["--hepl"], "sinet: '--hepl' is unknown, did you mean '--help'?"),
        (["predict", "--thresh", "0.5"], "sinet predict: '--thresh' is unknown, did you mean '--threshold'?"),
        (["score", "--gold", "x"], "sinet score: the following arguments are required: --predictions"),
        (["check", "x", "--limit", "\x1b\n"], "sinet check: argument --limit: '\\x1b\\n' should be a whole number"),
    ],
)
def test_a_mistyped_word_is_one_line_with_the_nearest_right_one(arguments, message, capsys):
    status, _, (*line, end) = ended(arguments, capsys)
    assert status == 2 and "".join(line).startswith(message) and end == "\n" and "\n" not in line


@pytest.mark.parametrize(
    "arguments, right",
    [
        (["check", "glod.jsonl"], "gold.jsonl"),
        (["plan", "--config", "mime.yaml"], "mine.yaml"),
        (["compare", "--plan", "reslts/mien/plan.json", "--out", "x"], "results/mine/plan.json"),
        (["predict", "--run", "results/mien", "--text", "x"], "results/mine"),
    ],
)
def test_a_mistyped_path_is_one_line_with_the_nearest_right_one(arguments, right, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results" / "mine").mkdir(parents=True)
    for name in ("gold.jsonl", "mine.yaml", "results/mine/plan.json"):
        (tmp_path / name).touch()
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f", did you mean {right!r}?")


def test_an_option_after_two_dashes_is_a_value(capsys):
    assert main(["check", "--", "--glod"]) == 2 and "--glod: No such file" in capsys.readouterr().err


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
        (["step", "prepare", "scirec", "--out", "x"], "'scirec': not declared, did you mean 'scierc'?"),
        (["train", "d/e/m/0", "--plan", "nowhere.json"], "nowhere.json: No such file"),
        (
            ["predict", "--run", "nowhere", "--input", "x", "--out", "y"],
            "--input x: should end in .txt (raw text) or .jsonl (JSON lines)",
        ),
        (["predict", "--run", "nowhere", "--input", "x.txt", "--out", "y"], "x.txt: No such file"),
        (["predict", "--run", "nowhere", "--text", "x"], "nowhere: no such folder of a run"),
        (["predict", "--run", "tests", "--text", "x"], "tests: no model.json, so no finished run"),
        (["check", "tests"], "tests: Is a directory"),
        (["check", str(CORPUS), "--labels", str(CORPUS)], "should hold {"),
        (["check", str(CORPUS), str(CORPUS)], "named 2 times; name each file once"),
        (["plan", "--config", "nowhere.yaml"], "nowhere.yaml: No such file"),
        (["predict", "--run", "x", "--text", "x", "--out", "x/training.json"], "is a file of --run x as well"),
        (["predict", "--run", "x", "--text", "x", "--out", "tests"], "--out tests: is a folder"),
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
    status, _, err = ended(arguments, capsys)
    assert status == 2 and message in err


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
    assert main(["train", run, "--plan", str(plan)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"run {run!r} is not in the grid, " in line and "d/e/m/0" in line
