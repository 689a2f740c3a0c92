"""Training state on disk: written whole or not at all, the last two kept, read back only if whole.

A state lives in `state/<digest>/`, keyed by everything that determines the run (settings, precision, code, data);
Snakemake deletes a job's declared outputs before it starts and after it fails, and never looks here.
"""

import json
import logging
import os
from pathlib import Path

import torch
from safetensors.torch import save_file

log = logging.getLogger("sinet")
KEPT = 2


def write_atomically(path: Path, write: object) -> None:
    """Call `write(temporary path)`, then move the result into place; a crash leaves the old file or the new one."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(partial)
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_json(path: Path, record: object) -> None:
    """Indented JSON, atomically."""
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def write_weights(path: Path, model: torch.nn.Module) -> None:
    """A model's state dict as safetensors, atomically."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_atomically(path, lambda partial: save_file(tensors, partial))


def link_or_copy(source: Path, target: Path) -> None:
    """Give `target` the bytes of `source`, without a second copy on the disk where the file system allows."""
    import shutil

    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


class StateFolder:
    """The states of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, epoch: int, state: dict) -> None:
        """Keep the state after `epoch` and its predecessor."""
        write_atomically(self._path(epoch), lambda partial: torch.save(state, partial))
        for old in self._paths()[:-KEPT]:
            old.unlink()

    def load(self) -> dict | None:
        """The newest whole state, or None; a damaged one is reported and passed over."""
        for path in reversed(self._paths()):
            try:
                return torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:  # whatever a damaged file makes the reader raise
                log.warning("%s is damaged (%s); going back to the state before it", path, type(error).__name__)
        return None

    def clear(self) -> None:
        """Forget the intermediate states once the run has finished."""
        for path in self._paths():
            path.unlink()

    def _path(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:04d}.pt"

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("epoch-*.pt"))
