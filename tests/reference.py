"""Reading the figures of the authors' released code (`tests/data/reference`, or `SINET_REFERENCE_DIR`).

Nothing here knows a shape: sizes, labels and weights are read from the files, so other files of the same form pass.
"""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from sinet.contract import Labels
from sinet.encoders.encoder import Encoder

FOLDER = Path(os.environ.get("SINET_REFERENCE_DIR") or Path(__file__).parent / "data" / "reference")


def missing(name: str) -> None:
    """Fail one test, not the collection of all."""
    pytest.fail(f"{FOLDER / name} is missing: set SINET_REFERENCE_DIR to the folder of the released figures")


def stored(name: str) -> dict:
    """What a JSON file there holds; nothing where it is missing, for its tests to say so."""
    path = FOLDER / name
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


class Reference:
    """One `.npz` file: `config`, arrays by name, and weights by their released names."""

    def __init__(self, name: str) -> None:
        if not (FOLDER / name).is_file():
            missing(name)
        self.arrays = np.load(FOLDER / name)
        self.config = json.loads(bytes(self.arrays["config"]))

    def __getitem__(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.arrays[name])

    def weights(self, prefix: str = "weight/") -> dict[str, torch.Tensor]:
        return {n.removeprefix(prefix): self[n] for n in self.arrays.files if n.startswith(prefix)}

    def groups(self, stem: str) -> list[str]:
        """`sentence0`, `sentence1`, ... in order, those that there are."""
        found = (re.match(rf"{re.escape(stem)}(\d+)/", n) for n in self.arrays.files)
        return [f"{stem}{number}" for number in sorted({int(m[1]) for m in found if m})]


class Vocabulary:
    """Stands in for a tokenizer where a test brings word pieces of its own: a word is its piece ids, `"5 17 3"`."""

    def __init__(self, config: dict) -> None:
        self.cls_token_id, self.sep_token_id = config["cls_token_id"], config["sep_token_id"]
        self.pad_token_id, self.unk_token_id = config.get("pad_token_id", 0), config.get("unk_token_id", 100)
        self.mask_token_id = None

    def get_vocab(self) -> dict[str, int]:
        """Nothing but what markers are taken from."""
        return {f"[unused{n}]": n for n in range(1, 994)}

    def __call__(self, words: list[str], add_special_tokens: bool) -> dict:
        assert not add_special_tokens
        ids = ([int(p) if p.isdigit() else self.unk_token_id for p in word.split()] for word in words)
        return {"input_ids": list(ids)}


def stored_encoder(config: dict) -> Encoder:
    """A BERT of the sizes in a file's `config`, without dropout, weights still random."""
    vocabulary = Vocabulary(config)
    sizes = config["encoder"] | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    bert = BertConfig(**{"pad_token_id": vocabulary.pad_token_id, "attn_implementation": "eager"} | sizes)
    return Encoder(BertModel(bert, add_pooling_layer=False), vocabulary)


def words_of(input_ids: torch.Tensor, word_offsets: torch.Tensor) -> tuple[str, ...]:
    """The words of a stored sentence in `Vocabulary`'s notation."""
    return tuple(" ".join(map(str, input_ids[a:b].tolist())) for a, b in word_offsets.tolist())


def numbered_labels(entity_classes: int, relation_types: int) -> Labels:
    """As many labels as the reference has; the names do not matter."""
    return Labels(
        tuple(f"E{i}" for i in range(1, entity_classes)), tuple(f"R{i}" for i in range(relation_types)), frozenset()
    )
