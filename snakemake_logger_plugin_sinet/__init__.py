"""What a grid shows while it runs: `python -m snakemake --logger sinet`, which `python -m sinet.grid` is.

On a terminal one display: runs done, running, queued, and for each job what its log says last. Elsewhere a line for
each job that starts, ends or fails, without control characters. Snakemake's own messages go to `.snakemake/log/`, those
of the steps to the grid's `logs/`. Snakemake finds the package by its name, `python -m` in this folder.
"""

import os
import re
import statistics
import sys
import time
from dataclasses import dataclass, field
from datetime import timedelta
from logging import ERROR, WARNING, LogRecord
from pathlib import Path

import snakemake
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from sinet.errors import nearest, printable, shown, uncaught
from sinet.provenance import ROOT
from sinet.report.missing import last_word

SNAKEMAKE = str(Path(snakemake.__file__).parent)
STEP = re.compile(r"^[\d:]{8} (?P<stage>\w+ )?step (?P<step>\d+) of (?P<steps>\d+): (?P<figures>.+)\n", re.MULTILINE)
"""How `Training.report` tells the progress of a training."""
OF_JOBS = re.compile(r"CalledProcessError|At least one job did not complete")
"""Errors that say once more that a job has failed."""
NO_RULE = re.compile(r"No rule to produce (\S+) \(if you use input functions")
"""Error of a target that is neither a rule nor a file of one."""
RULE = re.compile(r"^rule (\w+):(.+?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
SCORED = ("evaluate", "external")
"""Rules that end a run."""
TAIL = 1 << 14
"""Bytes read of the end of a log."""


def targets() -> list[str]:
    """The rules that can be asked for by name: those without wildcards, which would stand in the name of the log."""
    files = [ROOT / "Snakefile", *(ROOT / "workflow" / "rules").glob("*.smk")]
    found = [rule for file in files for rule in RULE.findall(file.read_text(encoding="utf-8"))]
    return [name for name, body in found if f"/{name}/{{{{" not in body]


def duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


@dataclass
class Progress:
    """What the log of a training says last: text for the display, and the seconds left."""

    text: str
    left: float


def progress(log: Path) -> Progress | None:
    """Read it from the end of a log; None where there is no line of progress, as in those of other steps."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            told = [*STEP.finditer(file.read().decode("utf-8", errors="replace"))]
        age = time.time() - log.stat().st_mtime
    except OSError:
        return None
    if not told:
        return None
    lines = [dict(pair.rsplit(" ", 1) for pair in found["figures"].split(", ")) for found in told]
    now, last = {key: float(value) for key, value in lines[-1].items()}, told[-1]
    left = max(0.0, now["left_s"] - age)
    epochs = now["epoch"] * int(last["steps"]) / int(last["step"])
    text = f"{last['stage'] or ''}epoch {now['epoch']:.4g} of {epochs:.4g}  {now['sentences_per_s']:.1f} sent/s"
    text += f"  {duration(left)} left"
    if dev := next((line for line in reversed(lines) if "dev_ent" in line), None):
        text += f"  dev Ent {float(dev['dev_ent']):.1f} Rel+ {float(dev['dev_rel_plus']):.1f}"
    return Progress(text, left)


@dataclass
class Job:
    rule: str
    name: str
    logs: list[Path]
    began: float = field(default_factory=time.time)

    def __str__(self) -> str:
        """Its rule, and where there are several of one rule which."""
        return f"{self.rule} {self.name}".rstrip()


class LogHandler(LogHandlerBase):
    """Snakemake's events -> the display, or lines."""

    writes_to_stream, writes_to_file, has_filter, has_formatter, needs_rulegraph = True, False, True, True, False

    def __post_init__(self) -> None:
        self.planned: dict[str, int] = {}
        self.running: dict[int, Job] = {}
        self.took: dict[str, list[float]] = {}
        self.failed: dict[int, Job] = {}
        self.interrupted = False
        sys.excepthook = uncaught
        self.began = time.time()
        self.console = Console(stderr=True, markup=False, highlight=False)
        self.live: Live | None = None
        if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            self.live = Live(console=self.console, get_renderable=self.display, refresh_per_second=1, transient=True)

    def emit(self, record: LogRecord) -> None:
        try:
            self.handle_event(getattr(record, "event", None), record)
        except Exception:
            self.handleError(record)

    def handle_event(self, event: LogEvent | None, record: LogRecord) -> None:
        """Take one of Snakemake's messages; of a job that fails the last word of its log is shown instead."""
        about = record.__dict__
        if event == LogEvent.RUN_INFO:
            self.planned = about["stats"]
            if self.live:
                self.live.start()
        elif event == LogEvent.JOB_INFO and about["log"]:
            name = "/".join(about["wildcards"].values())
            self.failed.pop(about["jobid"], None)  # a cluster's job is sent again
            self.running[about["jobid"]] = job = Job(about["rule_name"], name, [*map(Path, about["log"])])
            self.line(f"started {job}")
        elif event == LogEvent.JOB_FINISHED and (ended := self.running.pop(about["job_id"], None)):
            self.took.setdefault(ended.rule, []).append(time.time() - ended.began)
            self.line(f"finished {ended} in {duration(self.took[ended.rule][-1])}{self.steps()}")
        elif event == LogEvent.JOB_ERROR and (lost := self.running.pop(about["jobid"], None)) and not self.interrupted:
            self.failed[about["jobid"]] = lost
            why = next(filter(None, map(last_word, filter(Path.is_file, lost.logs))), "ended without a message")
            where = ", ".join(map(str, lost.logs))
            self.say(f"failed {lost}: {why}{'' if where in why else f' ({where})'}")
        elif event == LogEvent.ERROR and (unknown := NO_RULE.search(record.msg)):
            self.say(f"{shown(unknown[1])} is no rule, nor a file of one, {nearest(unknown[1], targets())}")
        elif event == LogEvent.ERROR and not (self.interrupted or OF_JOBS.search(record.msg)):
            # the name of the exception, and where in the workflow's files it was raised, help nobody
            lines = [line for line in record.msg.splitlines() if not line.startswith('  File "')]
            self.say("\n".join(lines[1:] if len(lines) > 1 and lines[0].startswith(about["exception"]) else lines))
        elif event is None:
            self.message(record)

    def message(self, record: LogRecord) -> None:
        """What the workflow itself says, and Snakemake's warnings."""
        own = not record.pathname.startswith(SNAKEMAKE)
        if str(record.msg).startswith("Terminating processes on user request"):
            self.interrupted = True
            self.stop()
            self.say("stopping; trainings save their state")
        elif own or record.levelno == WARNING:
            self.say(str(record.msg))
        elif record.levelno >= ERROR:
            self.stop()  # all that can run has run, and what follows is printed by the workflow's handlers

    def line(self, text: str) -> None:
        """A line where there is no display, which would show it."""
        if not self.live:
            self.say(text)

    def say(self, text: str) -> None:
        self.console.print(Text(f"{time.strftime('%H:%M:%S')} {printable(text)}"), soft_wrap=True)

    def steps(self) -> str:
        of = self.planned.get("total", 0) - self.planned.get("all", 0)  # which does nothing
        return f", {sum(map(len, self.took.values()))} of {of} steps"

    def stop(self) -> None:
        if self.live:
            self.live.stop()

    def close(self) -> None:
        self.stop()
        super().close()

    def display(self) -> Group:
        """The running jobs under one line about all."""
        jobs, table = [*self.running.values()], Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, min_width=max((len(job.name) for job in jobs), default=0))
        table.add_column(no_wrap=True, overflow="ellipsis")
        seen = {id(job): progress(job.logs[0]) for job in jobs}
        for job in jobs:
            now = seen[id(job)]
            table.add_row(Text(job.name), Text(now.text if now else f"{job.rule} {duration(time.time() - job.began)}"))
        total = sum(self.planned.get(rule, 0) for rule in SCORED)
        done = sum(len(self.took.get(rule, ())) for rule in SCORED)
        running, lost = (
            {job.name for job in of if job.rule in ("train", "predict", *SCORED)} for of in (jobs, self.failed.values())
        )
        queued = total - done - len(running) - len(lost)
        parts = [f"{done} done", f"{len(running)} running", f"{queued} queued", *[f"{len(lost)} failed"] * bool(lost)]
        head = f"runs: {', '.join(parts)}{self.steps()}; {duration(time.time() - self.began)}"
        if (left := self.left(jobs, seen)) is not None and left >= 1:
            head += f", about {duration(left)} left"
        return Group(Text(head, no_wrap=True, overflow="ellipsis"), table)

    def left(self, jobs: list[Job], seen: dict[int, Progress | None]) -> float | None:
        """Seconds until the grid is done, were each queued job as long as those of its rule so far; None before a
        training has told. Rules of which no job has run count for nothing."""
        told = {job.name: time.time() - job.began + now.left for job in jobs if (now := seen[id(job)])}
        known = {rule: statistics.fmean(took) for rule, took in self.took.items()}
        if told:
            known["train"] = statistics.fmean([*told.values(), *self.took.get("train", ())])
        if "train" not in known:
            return None
        gone = [*(job.rule for job in jobs), *(job.rule for job in self.failed.values())]
        of_queued = sum(
            mean * max(0, self.planned.get(rule, 0) - len(self.took.get(rule, ())) - gone.count(rule))
            for rule, mean in known.items()
        )
        of_running = [now.left for now in seen.values() if now]
        return max(0.0, *of_running, (of_queued + sum(of_running)) / max(1, len(jobs)))
