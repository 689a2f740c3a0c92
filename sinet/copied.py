"""Results that were copied without Snakemake's own notes, so that the times of their files say nothing of what was made
from what: Snakemake would make again whatever happens to be older than its input."""

import base64
import os
import re
import time
from pathlib import Path

NOTES = Path(".snakemake/metadata")
"""Where Snakemake notes of each output, by its path in base64, what it was made of."""
ORDER = (
    r"(data|encoders)/",
    r"runs/.*/(model\.|tokenizer|log\.csv|training\.json)",
    r"runs/.*/(predictions|attention)|efficiency/",
    r"runs/",
    r"comparisons|case_study/",
    r"",
)
"""What lies below a results folder, each kind made of those before it."""


def put_in_order(results: Path) -> bool:
    """Give what lies in a results folder of which Snakemake has no note times in the order of its making; whether it
    was such a folder."""
    if not (results / "runs").is_dir() or _noted(results):
        return False
    began = time.time() - len(ORDER)
    for path in results.rglob("*"):  # folders as well: a tokenizer's is an output by itself
        name = path.relative_to(results).as_posix()
        made = began + next(n for n, kind in enumerate(ORDER) if re.match(kind, name))
        os.utime(path, (made, made))
    return True


def _noted(results: Path) -> bool:
    folder = f"{results.as_posix()}/".encode()
    # whole groups of three letters: what follows does not change them
    name = base64.urlsafe_b64encode(folder[: len(folder) // 3 * 3]).decode()
    return any(NOTES.glob(f"{name}*"))
