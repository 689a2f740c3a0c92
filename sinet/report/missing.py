"""Why runs have no result: the last word of the step that failed, for the tables and for the terminal."""

import re
from pathlib import Path

STEPS = ("train", "unarchive", "predict", "evaluate")
LAST_WORD = re.compile(r"sinet \w+: (?P<message>.+)|sinet (?P<step>\w+) failed")


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
        return _last_word(log) or f"{log.relative_to(logs).parts[0]} ended without a message; its log: {log}"
    needed = written(logs / "prepare" / f"{dataset}.log", logs / "fetch_encoder" / f"{encoder}.log")
    return next(filter(None, map(_last_word, needed)), "not started")


def _last_word(log: Path) -> str | None:
    said = [match for line in log.read_text(encoding="utf-8").splitlines() if (match := LAST_WORD.search(line))]
    return (said and (said[-1]["message"] or f"a fault of ours in {said[-1]['step']}; its log: {log}")) or None
