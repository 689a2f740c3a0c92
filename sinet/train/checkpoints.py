"""Training state on disk: written whole or not at all, the last two kept, read back only if whole.

A state lives in `state/<digest>-<machine>/`, keyed by everything that determines the run (settings, precision, code,
data) and by the kind of machine, on which the last bits depend; a finished run is taken from any kind. Snakemake
deletes a job's declared outputs before it starts and after it fails, and never looks here.
"""

import contextlib
import fcntl
import logging
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import torch

from sinet.errors import Interrupted, UserError
from sinet.files import read_json, write_atomically, write_json
from sinet.provenance import file_sha256

log = logging.getLogger("sinet")
KEPT = 2
SEAL = "finished.json"


class StateFolder:
    """The states of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out while one trains here; the lock goes with the process, however it ends.

        Another process may train this very run: a job of a workflow that was killed and started again. It is waited
        for, and what it leaves is taken. What a killed process was still writing is removed.
        """
        with open(self.folder / "lock", "a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.warning("%s: another process trains this very run; waiting for it to end", self.folder)
                fcntl.flock(file, fcntl.LOCK_EX)
            for unfinished in self.folder.glob(".*.part"):
                unfinished.unlink()
            yield

    def save(self, epochs: int, step: int, state: dict) -> None:
        """Keep the state after so many epochs and steps of the next, and its predecessor."""
        path = self.folder / f"state-{epochs:04d}-{step:07d}.pt"
        write_atomically(path, lambda partial: torch.save(state | {"of": self.folder.name}, partial))
        for old in self._paths()[:-KEPT]:
            old.unlink()

    def load(self) -> dict | None:
        """The newest whole state of this run, or None; any other is reported, set aside and passed over."""
        for path in reversed(self._paths()):
            try:
                found = torch.load(path, map_location="cpu", weights_only=True)
                fault = "is no training state"
            except Exception as error:  # whatever a damaged file makes the reader raise
                found, fault = None, f"is damaged ({type(error).__name__})"
            if isinstance(found, dict):
                if found.get("of") == self.folder.name:
                    return found
                fault = "is of another run"
            log.warning("%s %s; going back to the state before it", path, fault)
            path.rename(path.with_name(f"not-{path.name}"))
        return None

    def mark_complete(self) -> None:
        """Declare the run finished, and its files to be as they are now: results are links to them."""
        others = {SEAL, "lock", *(path.name for path in self.folder.glob("best-*"))}
        files = [p for p in self.folder.rglob("*") if p.is_file() and p.name not in others and p.suffix != ".pt"]
        write_json(self.folder / SEAL, {str(p.relative_to(self.folder)): file_sha256(p) for p in sorted(files)})

    def finished(self) -> Path | None:
        """The folder that holds this run finished, on this kind of machine or else on another; one whose files are not
        what they were is reported and passed over."""
        for folder in (self.folder, *self._others()):
            if (folder / SEAL).is_file():
                if not (changed := _changed(folder)):
                    return folder
                log.warning("%s: %s was changed after the training; ignored", folder, changed)
        return None

    def elsewhere(self) -> list[Path]:
        """Folders of the same run on other kinds of machine that hold a state."""
        return [folder for folder in self._others() if any(folder.glob("state-*.pt"))]

    def _others(self) -> list[Path]:
        run = self.folder.name.partition("-")[0]
        return sorted(folder for folder in self.folder.parent.glob(f"{run}-*") if folder != self.folder)

    def newest(self) -> str:
        """What there is to go on from, for a message."""
        paths = self._paths()
        return f"the last good state is {paths[-1]}" if paths else "no state had been saved"

    def clear(self) -> None:
        """Forget the intermediate states once the run has finished."""
        for path in (*self._paths(), *self.folder.glob("not-state-*.pt")):
            path.unlink()

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("state-*.pt"))


def _changed(folder: Path) -> str | None:
    """A file of a sealed folder that is not what it was."""
    try:
        sealed = read_json(folder / SEAL)
        return next((n for n, s in sealed.items() if not (folder / n).is_file() or file_sha256(folder / n) != s), None)
    except (UserError, AttributeError):
        return SEAL


class StopSignal:
    """Notes a request to end (Ctrl-C, a scheduler's SIGTERM, or SIGUSR1 ahead of a time limit) instead of dying of
    it."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

    def __init__(self) -> None:
        self.asked: str | None = None

    def __enter__(self) -> "StopSignal":
        self.before = {}
        if threading.current_thread() is threading.main_thread():  # only there may handlers be set
            self.before = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def raise_if_requested(self, epoch: float) -> None:
        """End here, if asked to; the state has just been saved, after so many epochs.

        Raises:
            Interrupted: after a request.
        """
        if self.asked:
            saved = f"the state is saved up to epoch {epoch:.4g}"
            raise Interrupted(f"stopped by {self.asked}; {saved}, start it again to continue")

    def _note(self, number: int, frame: object) -> None:
        self.asked = signal.Signals(number).name

    def __exit__(self, *details: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
