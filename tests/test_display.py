"""What a grid shows while it runs: one display on a terminal, a line an event elsewhere, and how Ctrl-C ends it."""

import contextlib
import fcntl
import logging
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from snakemake.exceptions import MissingRuleException
from snakemake_interface_logger_plugins.common import LogEvent

from sinet.provenance import ROOT
from snakemake_logger_plugin_sinet import SNAKEMAKE, Job, LogHandler, Progress, progress
from tests.conftest import copy_project, tiny_grid

NO_RULE = str(MissingRuleException("reportpage"))
CALL = ["python", "-m", "sinet.grid", "--cores", "2", "--configfile", "tiny.yaml"]
RECIPE = {"batch_size": 4, "weight_decay": 0.01, "selection": "dev_rel_plus", "encoder_lr": 3e-3, "head_lr": 3e-3}


@pytest.fixture(autouse=True)
def excepthook(monkeypatch):
    """A display replaces it; put back afterwards."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


@pytest.fixture
def project(tiny_mirror, tmp_path) -> Path:
    """A project with a grid of SINET's, which trains for long, and SpERT's, which diverges."""
    folder = copy_project(tmp_path / "project")
    recipes = {"sinet": RECIPE | {"epochs": 3000}, "spert": RECIPE | {"epochs": 3, "head_lr": 1e30, "warmup": 0.0}}
    grid = tiny_grid(tmp_path / "mirror", tiny_mirror, recipes)
    cells = {"datasets": ["ten"], "encoders": ["tiny"], "seeds": [0], "recipe": "tiny"}
    grid |= {"grid": [cells | {"models": ["sinet", "spert"]}], "case_study": None, "efficiency": None}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(grid))
    return folder


def on_a_terminal(folder: Path, interrupt: Callable[[str], bool]) -> tuple[int, str]:
    """The exit status and all that the grid has written to a terminal of 100 columns, on which Ctrl-C is typed as soon
    as `interrupt`, given what has been written, says so."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(folder)
        inherited = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
        os.execvpe(CALL[0], CALL, inherited | {"TERM": "xterm"})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    written, typed = b"", False
    with contextlib.suppress(OSError):  # raised when the last process that writes to it has ended
        while chunk := os.read(terminal, 1 << 16):
            written += chunk
            if not typed and interrupt(written.decode(errors="replace")):
                os.write(terminal, b"\x03")
                typed = True
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), written.decode()


def test_a_terminal_shows_the_runs_and_ctrl_c_ends_them_saved(project):
    """One run fails, the other is interrupted after its tenth epoch."""

    def well_on(written: str) -> bool:
        return "failed train" in written and re.search(r"epoch \d\d+ of 3000 ", written) is not None

    status, written = on_a_terminal(project, well_on)
    assert status != 0
    seen = [line for line in re.split(r"(?:\r|\n|\x1b\[[?\d]*[A-Za-z])+", written) if line.strip()]
    (failed,) = [line for line in seen if "failed train" in line]
    log = "results/tiny/logs/train/ten/tiny/spert/0.log"
    assert re.search(rf"failed train ten/tiny/spert/0: epoch 1, step .* it diverged; .* \({log}\)$", failed)
    training = r"ten/tiny/sinet/0  epoch \d+ of 3000  [\d.]+ sent/s  \d:\d\d:\d\d left  dev Ent [\d.]+ Rel\+ [\d.]+"
    shown = [line for line in seen if re.fullmatch(training, line.strip())]
    about = r"runs: 0 done, 1 running, 0 queued, 1 failed, 2 of 11 steps; \d:\d\d:\d\d, about \d:\d\d:\d\d left"
    assert shown and any(re.fullmatch(about, line.strip()) for line in seen), written[-3000:]
    assert all(len(line) <= 100 for line in seen if "left" in line)

    (state,) = (path for path in project.glob("state/*") if any(path.glob("state-*.pt")))
    step = max(int(path.stem.rpartition("-")[2]) for path in state.glob("state-*.pt"))
    saved = f"epoch {step / 3:.4g} (results/tiny/runs/ten/tiny/sinet/0)"
    assert seen[-1].endswith(f"Interrupted. Saved up to {saved}; the same command continues.")
    assert not re.search("Traceback|Error|non-zero|allow_missing", written), written[-3000:]
    assert "step 3 of 9000" not in written, "what trainings say goes to their logs"


def handled(capsys, *told: dict) -> str:
    """What the display writes where there is no terminal about what Snakemake tells."""
    handler = LogHandler(common_settings=None, settings=None)  # type: ignore[arg-type]
    for about in told:
        record = logging.LogRecord(
            "snakemake", about.get("level", logging.INFO), about.get("file", SNAKEMAKE), 1, "", (), None
        )
        record.__dict__.update(about)
        handler.emit(record)
    handler.close()
    written = capsys.readouterr()
    assert written.out == "" and not re.search(r"[^\n\x20-\x7e]", written.err), "no control characters"
    return re.sub(r"^[\d:]{8} ", "", written.err, flags=re.MULTILINE)


def test_without_a_terminal_each_event_is_a_line(tmp_path, capsys):
    log = tmp_path / "0.log"
    log.write_text("10:00:00 step 3 of 9: epoch 1\n10:00:01 sinet train failed\nTraceback ...\nValueError: a\x1b[2Jb\n")
    jobs = [
        {
            "event": LogEvent.JOB_INFO,
            "jobid": n,
            "rule_name": "train",
            "log": [str(log)],
            "wildcards": {"a": "d", "b": f"{n}"},
        }
        for n in (1, 2)
    ]
    written = handled(
        capsys,
        {"event": LogEvent.RUN_INFO, "stats": {"train": 2, "total": 2}},
        *jobs,
        {"msg": "Select jobs to execute..."},
        {"event": LogEvent.JOB_FINISHED, "job_id": 1},
        {"event": LogEvent.ERROR, "exception": "RuleException", "msg": "RuleException:\nCalledProcessError in file"},
        {"event": LogEvent.JOB_ERROR, "jobid": 2},
        {
            "event": LogEvent.ERROR,
            "exception": "LockException",
            "msg": 'LockException:\nError: locked\n  File "S", line 1',
        },
        {"msg": "skipped: x", "level": logging.WARNING, "pathname": "/workflow/rules/common.smk"},
        {"event": LogEvent.JOB_INFO, "jobid": 3, "rule_name": "compare", "log": [str(log)], "wildcards": {}},
        {"event": LogEvent.ERROR, "exception": "MissingRuleException", "msg": NO_RULE},
    )
    assert written.splitlines() == [
        "started train d/1",
        "started train d/2",
        "finished train d/1 in 0:00:00, 1 of 2 steps",
        rf"failed train d/2: a fault of ours in train: ValueError: a\x1b[2Jb; its log: {log}",
        "Error: locked",
        "skipped: x",
        "started compare",
        "'reportpage' is no rule, nor a file of one, did you mean 'report_page'?",
    ]


def test_time_left_counts_queued_jobs_as_long_as_those_before():
    handler = LogHandler(common_settings=None, settings=None)  # type: ignore[arg-type]
    handler.planned = {"train": 5, "evaluate": 5}
    first, second = Job("train", "d/1", []), Job("train", "d/2", [])
    assert handler.left([first], {id(first): None}) is None, "no training has told yet"
    handler.took = {"train": [100.0], "evaluate": [1.0]}
    queued = 3 * 75 + 4 * 1
    assert handler.left([first], {id(first): Progress("", 50.0)}) == pytest.approx(queued + 50, abs=1)
    both = {id(first): Progress("", 50.0), id(second): Progress("", 50.0)}
    assert handler.left([first, second], both) == pytest.approx((2 * 200 / 3 + 4 + 100) / 2, abs=1)
    longest = both | {id(second): Progress("", 1000.0)}
    assert handler.left([first, second], longest) == pytest.approx(1000, abs=1), "not before the longest has ended"


def test_ctrl_c_before_the_first_job_is_no_traceback(capsys):
    LogHandler(common_settings=None, settings=None).close()  # type: ignore[arg-type]
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capsys.readouterr().err == "Interrupted. The same command continues.\n"
    sys.excepthook(ValueError, ValueError("two"), None)
    assert "ValueError: two" in capsys.readouterr().err


def test_ctrl_c_while_snakemake_is_imported_is_no_traceback(tmp_path):
    (tmp_path / "snakemake").mkdir()
    (tmp_path / "snakemake" / "__init__.py").touch()
    (tmp_path / "snakemake" / "cli.py").write_text("raise KeyboardInterrupt")
    call, environment = [sys.executable, "-m", "sinet.grid"], os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode and done.stdout + done.stderr == "Interrupted. The same command continues.\n"


def test_runs_given_by_predictions_count_as_runs():
    handler = LogHandler(common_settings=None, settings=None)  # type: ignore[arg-type]
    handler.planned = {"evaluate": 2, "external": 3}
    handler.took = {"evaluate": [1.0], "external": [1.0]}
    handler.running = {1: Job("external", "d/e/gpt/1", [Path("absent")])}
    handler.failed = {2: Job("external", "d/e/gpt/2", [])}
    head, _ = handler.display().renderables
    assert str(head).startswith("runs: 2 done, 1 running, 1 queued, 1 failed")


def test_progress_is_read_from_the_end_of_a_log(tmp_path):
    log = tmp_path / "0.log"
    assert progress(log) is None
    log.write_text("10:00:00 resumed in epoch 1\n")
    assert progress(log) is None
    figures = "epoch 2, loss 1.5, dev_ent 61.25, dev_rel 40, dev_rel_plus 39.04, sentences_per_s 60, left_s 100"
    log.write_text(
        f"10:00:00 step 6 of 60: {figures}\n10:00:10 entity step 7 of 60: epoch 2.5, sentences_per_s 50, left_s 90\n"
    )
    os.utime(log, (time.time() - 30,) * 2)
    found = progress(log)
    assert found is not None and 58 < found.left <= 60, "time has gone by since it was written"
    assert re.fullmatch(r"entity epoch 2.5 of 21.43  50.0 sent/s  0:01:00 left  dev Ent 61.2 Rel\+ 39.0", found.text)
