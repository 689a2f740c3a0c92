"""Initial weights of new layers."""

from torch import nn


def initialise_normal(model: nn.Module, *but: str, std: float = 0.02) -> None:
    """Draw linear layers and embeddings from N(0, `std`), biases zero, as BERT's encoder class does with every layer of
    its own; modules whose names begin with one of `but` keep theirs."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding) and not name.startswith(but):
            nn.init.normal_(module.weight, std=std)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)
