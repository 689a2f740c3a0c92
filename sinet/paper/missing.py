"""Why runs have no result: the last word of the step that failed, for the tables and for the terminal."""

import re
from pathlib import Path

STEPS = ("train", "predict", "score", "collect")
LAST_WORD = re.compile(r"sinet \w+: (?P<message>.+)|sinet (?P<step>\w+) failed")


def reason(logs: Path, run: str) -> str:
    """What the log written last of a run's steps ends with.

    Args:
        logs: the grid's folder of logs. run: `dataset/encoder/model/seed`.
    """
    written = [path for step in STEPS if (path := logs / step / f"{run}.log").is_file()]
    if not written:
        return "not started"
    newest = max(written, key=lambda path: path.stat().st_mtime_ns)
    said = [match for line in newest.read_text(encoding="utf-8").splitlines() if (match := LAST_WORD.search(line))]
    if not said:
        return f"{newest.relative_to(logs).parts[0]} ended without a word; its log: {newest}"
    return said[-1]["message"] or f"a fault of ours in {said[-1]['step']}; its log: {newest}"
