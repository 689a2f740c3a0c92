"""Weights of a model: the first ones of its new layers, and their file."""

from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from sinet.files import write_atomically


def initialise_normal(model: nn.Module, *but: str, std: float = 0.02) -> None:
    """Draw linear layers and embeddings from N(0, `std`), biases zero, as BERT's encoder class does with every layer of
    its own; modules whose names begin with one of `but` keep theirs."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding) and not name.startswith(but):
            nn.init.normal_(module.weight, std=std)
            if (bias := getattr(module, "bias", None)) is not None:
                nn.init.zeros_(bias)


def write_weights(path: Path, model: nn.Module) -> None:
    """A model's state dict as safetensors, atomically."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_atomically(path, lambda partial: save_file(tensors, partial))
