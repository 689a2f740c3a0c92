"""Training state on disk: written whole or not at all, the last two kept, read back only if whole.

A state lives in `state/<digest>/`, keyed by everything that determines the run (settings, precision, code, data);
Snakemake deletes a job's declared outputs before it starts and after it fails, and never looks here.
"""

import logging
from pathlib import Path

import torch
from safetensors.torch import save_file

from sinet.files import write_atomically

log = logging.getLogger("sinet")
KEPT = 2


def write_weights(path: Path, model: torch.nn.Module) -> None:
    """A model's state dict as safetensors, atomically."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_atomically(path, lambda partial: save_file(tensors, partial))


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
