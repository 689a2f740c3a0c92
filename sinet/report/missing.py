"""Why runs have no result: the last word of the step that failed, for the tables and for the terminal."""

import re
from pathlib import Path

from sinet.grid.plan import Plan

STEPS = ("train", "unarchive", "predict", "evaluate", "external")
SAVED = re.compile(r"(?:saved up to|resumed in) epoch ([\d.]+)")
LAST_WORD = re.compile(r"sinet (?:step )?(?:\w+: (?P<message>.+)|(?P<step>\w+) failed)")


def reason(logs: Path, run: str, since: float = 0.0) -> str:
    """What the log written last of a run's steps ends with; of a run that was not started what it waited for.

    Args:
        logs: the grid's folder of logs. run: `dataset/encoder/model/seed`. since: logs from before are of other calls,
        seconds since the epoch.
    """
    dataset, encoder, *_ = run.split("/")

    def written(*paths: Path) -> list[Path]:
        found = [path for path in paths if path.is_file() and path.stat().st_mtime >= since]
        return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)

    for log in written(*(logs / step / f"{run}.log" for step in STEPS)):
        return last_word(log) or f"{log.relative_to(logs).parts[0]} ended without a message; its log: {log}"
    needed = written(logs / "prepare" / f"{dataset}.log", logs / "fetch_encoder" / f"{encoder}.log")
    return next(filter(None, map(last_word, needed)), "not started")


def last_word(log: Path) -> str | None:
    """The message that a step of ours ended with, or the exception that it died of; None if its log holds neither."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    said = [match for line in lines if (match := LAST_WORD.search(line))]
    if not said or said[-1]["message"]:
        return said[-1]["message"] if said else None
    return f"a fault of ours in {said[-1]['step']}: {lines[-1].strip()}; its log: {log}"


def interrupted(plan: Plan, since: float) -> str:
    """What to say after Ctrl-C: up to which epoch each training is saved that this call, which began at `since`
    (seconds since the epoch), has started and not finished."""
    saved = []
    for run in plan.runs:
        log = plan.results / "logs" / "train" / f"{run}.log"
        if log.is_file() and log.stat().st_mtime >= since and not plan.file(run, "training.json").is_file():
            epochs = SAVED.findall(log.read_text(encoding="utf-8", errors="replace"))
            saved += [f"epoch {epoch} ({plan.file(run, '')})" for epoch in epochs[-1:]]
    return f"Interrupted. {'Saved up to ' + ', '.join(saved) + '; t' if saved else 'T'}he same command continues."
