"""Whether sentences fit an encoder, and how many of their words it knows: by its tokenizer's files alone."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from sinet.encoders.located import locate_encoder
from sinet.errors import UserError
from sinet.files import read_json
from sinet.schema import EncoderSpec

LETTERS_A_PIECE = 1000
"""Characters for each word piece that an encoder takes from which a sentence is too long beyond doubt."""
BEHIND_PADDING = {"camembert", "mpnet", "roberta", "xlm-roberta"}
"""Architectures whose positions are counted from behind the padding index: those up to it are never used."""


class LengthCheck:
    """Says of a sentence's words why an encoder cannot take them; counts `words` and those `unknown` to it."""

    def __init__(self, declared: EncoderSpec, mirrors: Sequence[str]) -> None:
        located = locate_encoder(declared, mirrors)
        self.name, self.words, self.unknown = declared.name, 0, 0
        file = located.tokenizer / "tokenizer.json"
        if not file.is_file():
            raise UserError(f"encoder {self.name!r}: {located.tokenizer} holds no tokenizer.json; check by another one")
        self.tokenizer = Tokenizer.from_file(str(file))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        sizes = declared.architecture and declared.architecture.model_dump()
        self.most = positions(sizes or read_json(located.tokenizer / "config.json"))
        self._unk = self.tokenizer.token_to_id(_unknown_token(located.tokenizer))

    def __call__(self, sentence: Sequence[str]) -> str | None:
        if (letters := sum(map(len, sentence))) > self.most * LETTERS_A_PIECE:  # slow to cut
            long = f"{len(sentence):,} words of {letters:,} characters"
            return f"{long}, {self.name} takes {self.most} pieces; split the sentence"
        cut = [word.ids for word in self.tokenizer.encode_batch(list(sentence), add_special_tokens=False)]
        self.words += len(cut)
        self.unknown += sum(not ids or self._unk in ids for ids in cut)
        pieces = 2 + sum(max(1, len(ids)) for ids in cut)
        if pieces <= self.most:
            return None
        return f"{pieces} word pieces, {self.name} takes {self.most}; split the sentence"


def positions(config: dict) -> int:
    """Word pieces that an encoder of this configuration can read at once, [CLS] and [SEP] counted."""
    most, kind = int(config.get("max_position_embeddings", 512)), config.get("model_type")
    if kind not in BEHIND_PADDING:
        return most
    return most - 1 - (1 if kind == "mpnet" else int(config.get("pad_token_id", 1)))  # MPNet's is fixed


def _unknown_token(folder: Path) -> str:
    said = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    token = said.get("unk_token") or "[UNK]"
    return token["content"] if isinstance(token, dict) else token
