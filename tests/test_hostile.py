"""Whatever a user or an attacker gives: exit status 2, one line that says what is wrong, nothing written, at once."""

import os
import re
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from sinet.cli import main
from sinet.errors import MESSAGE, UserError, printable, shown
from sinet.files import read_sealed, write_json, write_sealed
from sinet.grid.config import load_config
from sinet.grid.mistakes import validated
from sinet.grid.plan import resolve
from sinet.grid.site import load_site
from sinet.provenance import ROOT
from sinet.schema import RunSpec
from tests.conftest import CORPUS as TEN
from tests.conftest import command_parsers, tiny_plan
from tests.fuzz import fuzz

CORPUS = str(TEN.resolve())
STEPS = command_parsers()
SLOWEST = 20
"""Seconds of a refusal; the first that needs torch loads it."""
BAD_PATHS = {
    "pipe": "a pipe or device, not a file",
    "loop": "Too many levels of symbolic links",
    "nul\0": r"'nul\x00': a path cannot hold the character NUL",
    "two\nlines": r"'two\nlines': a path that holds a line break",
    "file/below": "Not a directory",
    "x" * 300: "File name too long",
}
BAD_FILES = {
    "folder": None,
    "empty": b"",
    "foreign": b'{"tokens": ["caf\xe9"]}\n',
    "deep": b"[" * 100_000,
    "deep-object": b'{"a":' * 100_000,
    "long-number": b'{"a": ' + b"9" * 5000 + b"}",
    "escapes": b'{"\x1b[31m": "\x1b[2J"}',
    "binary": bytes(range(256)),
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working folder that holds a file of every hostile kind."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    os.mkfifo("pipe")
    Path("loop").symlink_to("loop")
    Path("file").touch()
    for name, content in BAD_FILES.items():
        Path(name).mkdir() if content is None else Path(name).write_bytes(content)
    return folder


def refused(arguments: list[str], capsys) -> str:
    """The line that a command ends with, having written nothing."""
    before, began = sorted(Path().rglob("*")), time.process_time()
    assert main(arguments) == 2, arguments
    err = capsys.readouterr().err
    assert sorted(Path().rglob("*")) == before, f"{arguments}: something was written"
    assert time.process_time() - began < SLOWEST, arguments
    lines = err.splitlines() or [""]
    assert len(lines) == 1 or arguments[0] == "check", err[:3000]
    assert all(line.isprintable() and len(line) <= MESSAGE + 20 for line in lines), err[:3000]
    return lines[-1]


def calls(step: str, kinds: tuple[str, ...], given: str) -> list[list[str]]:
    """Calls of a step with an argument for each of its options of these kinds in turn, all else being `nowhere`."""
    made = []
    actions = [a for a in STEPS[step]._actions if a.dest not in ("help", "text")]
    wanted = [a for a in actions if a.metavar in kinds or (not a.option_strings and a.type is Path in kinds)]
    for varied in wanted:
        arguments = step.split()
        for action in actions:
            if action is varied or action.required or not action.option_strings:
                value = given if action is varied else "nowhere"
                arguments += [*action.option_strings[:1], value]
        made.append(arguments + ["--input", "nowhere.txt"] * (step == "predict" and "--input" not in arguments))
    return made


PATHS = ("FILE", "DIR", "PATH", "STEM")
READ = ("FILE",)


@pytest.mark.parametrize("step", STEPS)
def test_a_path_that_is_none_is_refused_by_every_option(step, capsys):
    for bad, told in BAD_PATHS.items():
        for arguments in calls(step, PATHS, bad):
            line = refused(arguments, capsys)
            assert told in line or any(other in line for other in ("nowhere", "--run")), line


@pytest.mark.parametrize("step", STEPS)
def test_a_file_of_another_kind_is_refused_by_every_option(step, capsys):
    for bad in BAD_FILES:
        for arguments in calls(step, READ, bad):
            refused(arguments, capsys)


def test_paths_of_named_options_are_judged_too(capsys):
    for step in ("in-triple-ner", "case-study"):
        assert "pipe: a pipe or device" in refused(["step", step, "--plan", "pipe", "--out", "o"], capsys)


# -- YAML ----------------------------------------------------------------------------------------------------------

LAUGHS = "a: &a [x]\n" + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefghi"))
YAML = {
    LAUGHS: ":5: broken YAML: more than 20,000 values with aliases expanded",
    "a: &a [*a]": ":1: broken YAML: the alias 'a' contains itself",
    "a: &a {<<: *a}": ":1: broken YAML: the alias 'a' contains itself",
    "a: " + "[" * 100_000: ":1: broken YAML: more than 30 levels",
    "a: 2024-13-45": ":1: a: '2024-13-45' is a date in YAML; write it in quotes",
    "remark: 12:30": ":1: remark: 12:30 is read by YAML as 750; write a plain number, or text in quotes",
    "seeds: [0, 010]": ":1: seeds[1]: 010 is read by YAML as a different number than it looks",
    "seeds: [1_000]": ":1: seeds[0]: 1_000 is read by YAML as a different number",
    "seeds: [" + "9" * 5000 + "]": "is a number of 5,000 digits",
    "seeds: [" + "1" * 16 + "]": "is a number of 16 digits",
    "1: x": ":1: a mapping: a key should be text; write it in quotes",
    "models: {no: x}": ":1: models: a key should be text",
    "? [a]\n: b": ":1: a mapping: a key should be text",
    "a: !!python/object/apply:os.system [x]": "which is not supported here",
    "a: !!int [1]": "a: has the YAML tag 'int'",
    "a: !!bool maybe": "a: 'maybe' should be true or false",
    'results: "a\\e[31m"': r"results: 'a\x1b[31m' holds '\x1b'; write text of one line",
    'models: {"m\\n": {system: sinet, title: M}}': r"models: the key 'm\n' should be text of one line",
    "results: " + "x" * 5000: "has 5,000 characters; at most 1,000 are allowed",
    "efficiency: {timed_seconds: 1.0e+300}": "efficiency.timed_seconds: 1e+300 is too large",
    "models: {sinet: {settings: {dropout: .nan}}}": "settings.dropout: nan is not a finite number",
    "encoders: {mine: {title: M, hub: a/b, revision: abc, cased: true}}": "revision: 'abc' is not valid, expected: 40",
    "encoders: {minilm: {sha256: {model.safetensors: abc}}}": "'abc' is not valid, expected: 64 hexadecimal digits",
    "datasets: {scierc: {title: ''}}": "datasets.scierc.title: the text is empty",
    "remark: caf\xe9": "not Unicode; save it as UTF-8",
}


@pytest.mark.parametrize("text", YAML, ids=[str(n) for n, _ in enumerate(YAML)])
def test_yaml_means_what_it_looks_like_or_is_refused(text, capsys, here):
    Path("c.yaml").write_bytes(text.encode("latin-1"))
    assert YAML[text] in refused(["plan", "--config", "c.yaml"], capsys)


@pytest.mark.parametrize(
    "value",
    [10**30, -(10**400), 10**5000, 1e308, float("inf"), "x" * 10**6, {"a": [[[]]]}, [None], {1: 2}, "\ud800"],
    ids=lambda value: type(value).__name__,
)
def test_a_hostile_value_of_any_key_is_refused_in_short_lines(value):
    config = load_config()
    for key in config:
        with pytest.raises(UserError) as caught:
            resolve(config | {key: value})
        assert all(len(line) < MESSAGE and line.isprintable() for line in str(caught.value).split("\n"))


def test_a_time_of_day_is_no_number_of_minutes(here):
    Path("site.yaml").write_text("limits:\n  runtime: 24:00:00\n")
    told = r"site.yaml:2: limits.runtime: 24:00:00 is read by YAML as 86400; write the number of minutes: 1440$"
    with pytest.raises(UserError, match=told):
        load_site(Path("site.yaml"))


@pytest.mark.parametrize("folder", [".", "/", ".."])
def test_a_folder_in_place_of_a_file_to_write_is_refused(folder, capsys, here):
    with pytest.raises(UserError, match=f"{re.escape(folder)}: is a folder; name a file in it"):
        write_sealed(Path(folder), {})
    assert f"{folder}: Is a directory" in refused(["score", "--gold", CORPUS, "--predictions", folder], capsys)


# -- JSON that one step leaves for another ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, told",
    [
        ({"config": 5}, "should be a mapping"),
        ({"runs": 5}, "runs: 5 is a number, should be a mapping"),
        ({"runs": {"d/e/m/0": "none"}}, "recipe 'none' is not declared"),
        ({"runs": {"d/e/m": "r"}}, "'d/e/m' should be DATASET/ENCODER/MODEL/SEED"),
        ({"runs": {"d/e/n/0": "r"}}, "'d/e/n/0' names an undeclared dataset, encoder or model"),
    ],
)
def test_a_plan_of_another_form_is_refused(change, told, capsys, here):
    path = tiny_plan(here / "results", {"d/e/m/0": "r"}).write()
    write_sealed(path, read_sealed(path) | change)
    assert told in refused(["train", "d/e/m/0", "--plan", str(path)], capsys)


def test_a_run_is_held_against_its_form():
    run = resolve(load_config()).specs()[0].model_dump()
    for change, told in (
        ({"seed": -1}, "seed: -1 should be at least 0"),
        ({"seed": 10**30}, "seed: 1000000000000000000000000000000 is too large"),
        ({"recipe": run["recipe"] | {"epochs": "3"}}, "recipe.epochs: '3' is text, should be a whole number or null"),
        ({"settings": 0}, "settings: 0 is a number, should be a mapping"),
        ({"system": ["sinet"]}, "system: ['sinet'] is a list, should be text"),
    ):
        with pytest.raises(UserError, match=re.escape(told)):
            validated(RunSpec, run | change)


# -- what is printed, what is left --------------------------------------------------------------------------------


def test_values_are_shown_short_and_escaped():
    assert shown("a\x1b[31m\n") == r"'a\x1b[31m\n'" and len(shown("x" * 10**6)) < 210
    assert shown(10**5000) == "a number of about 4,983 digits" and len(shown([["x" * 99] * 9] * 9)) < 210
    assert printable("a\x1b\udcff\tb\nc") == "a\\x1b\\udcff\\tb\nc" and len(printable("x" * 5000)) == MESSAGE + 3


def test_a_log_line_steers_no_terminal(capsys, here):
    assert "check: --encoder 'a\\x1b[2J'" in refused(["check", CORPUS, "--encoder", "a\x1b[2J"], capsys)
    assert r"\x1b[2J: No such file" in refused(["plan", "--config", "\x1b[2J"], capsys)


def test_what_a_killed_process_left_is_removed_by_the_next_write(here):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for process in (ended.pid, os.getppid()):
        Path(f".a.json.{process}.part").touch()
    Path(f".ab.json.{ended.pid}.part").touch()
    write_json(Path("a.json"), 1)
    left = {path.name for path in Path().glob(".*.part")}
    assert left == {f".a.json.{os.getppid()}.part", f".ab.json.{ended.pid}.part"}, (
        "of a living process, of another file"
    )


def test_a_make_of_a_configuration_that_is_not_there_is_one_line():
    makefile = (ROOT / "Makefile").read_text()
    assert "tables: setup\n\t@python -m sinet plan --config $(CONFIG) > /dev/null\n" in makefile
    call = [sys.executable, "-m", "sinet", "plan", "--config", "config/nosuch.yaml"]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and line.endswith("sinet plan: config/nosuch.yaml: No such file or directory")
    for mistake, said in (("table", "table is no target; there are: tables "), ("CONFIG=", "CONFIG is empty; ")):
        done = subprocess.run(
            ["make", "--no-print-directory", "--dry-run", mistake], cwd=ROOT, capture_output=True, text=True
        )
        (line,) = done.stderr.splitlines()
        assert done.returncode == 2 and said in line and done.stdout == ""


# -- whatever a generator makes -----------------------------------------------------------------------------------


def test_random_inputs_are_taken_or_refused_in_clear_lines():
    ends, others = fuzz(320, seed=1)
    assert not others, "\n".join(others)
    assert all(counted["refused"] for counted in ends.values()), "each reader refuses something"
    assert sum(counted["taken"] for counted in ends.values()) > 50
