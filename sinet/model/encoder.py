"""Pretrained encoders behind one wrapper: BERT, ALBERT, MPNet and their like.

Word pieces are made word by word, as SpERT, SINET, PFN and PURE do: a word's pieces do not depend on its
neighbours, so each distinct word is cut once and remembered.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sinet.contract import Sentence
from sinet.model.dropout import replace_dropout
from sinet.model.embedding import replace_embeddings
from sinet.model.packed import PackedEncoder

WORD_CACHE = 1 << 18
"""Distinct words remembered with their pieces; a stream of raw text must not grow the memory without bound."""
MOST_UNKNOWN = 0.5
"""Share of words that may be [UNK] to an encoder that is trained on them."""
CUTTING = threading.Lock()
"""Held while words are cut: one thread may collate (`sinet.run.prefetch`) while another does."""


@dataclass
class Pieces:
    """The encoder's input for a batch and where its words lie.

    `input_ids`, `attention_mask` (batch, pieces); `word_start`, `word_end` (words) rows of each word's pieces
    in the flattened (batch * pieces) axis; `lengths` the number of words of each sentence that fit the encoder. Its
    tensors name besides, for every word, its sentence (`word_sentence`), its place there (`word_index`) and how many
    words are left there, itself among them (`words_left`).
    """

    input_ids: Tensor
    attention_mask: Tensor
    word_start: Tensor
    word_end: Tensor
    lengths: list[int]

    def tensors(self) -> dict[str, Tensor]:
        """As entries of a `Batch`."""
        words = [(b, i, length - i) for b, length in enumerate(self.lengths) for i in range(length)]
        sentence, place, room = torch.tensor(words, dtype=torch.long).view(-1, 3).unbind(1)
        return {
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "word_start": self.word_start,
            "word_end": self.word_end,
            "word_sentence": sentence.contiguous(),
            "word_index": place.contiguous(),
            "words_left": room.contiguous(),
            "lengths": torch.tensor(self.lengths),
        }


class Encoder(nn.Module):
    """A Hugging Face encoder with its tokenizer."""

    def __init__(self, model: nn.Module, tokenizer: object) -> None:
        super().__init__()
        replace_dropout(model)
        replace_embeddings(model)
        self.model = model
        self.tokenizer = tokenizer
        self.hidden_size: int = model.config.hidden_size
        self.max_pieces: int = max_pieces(model)
        self._words: dict[str, tuple[int, ...]] = {}
        self._packed: PackedEncoder | None = None
        self._least_width = 0

    @property
    def packs(self) -> bool:
        """Whether the architecture is known to `sinet.model.packed`."""
        return PackedEncoder.supports(self.model)

    @contextlib.contextmanager
    def packed(self, dtype: torch.dtype) -> Iterator[None]:
        """Within it, the weights of this moment in `dtype` (`sinet.model.packed`), without gradients; an architecture
        that is not known there runs as it is."""
        self._packed = PackedEncoder(self.model, dtype) if self.packs else None
        try:
            yield
        finally:
            self._packed = None

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Last hidden state, `(batch, pieces, hidden)`."""
        if self._packed is not None:
            return self._packed(input_ids, attention_mask)[0][-1]
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    def maps_alone(self, attention_mask: Tensor) -> Callable[[], None]:
        """A pass over only the linear maps of the packed encoder, of as many rows as a batch has real pieces."""
        return self._packed.maps_alone(int(attention_mask.sum()))

    def all_layers(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Hidden states of embeddings and layers, and each layer's attention (batch, heads, pieces, pieces)."""
        if self._packed is not None:
            return tuple(map(tuple, self._packed(input_ids, attention_mask, keep=True)))
        out = self.model(
            input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True, output_attentions=True
        )
        return out.hidden_states, out.attentions

    def word_pieces(self, words: Sequence[str]) -> list[tuple[int, ...]]:
        """The piece ids of each word; a word that the tokenizer drops altogether becomes its unknown piece, one with
        more pieces than the encoder has positions loses those beyond."""
        with CUTTING:
            new = [word for word in dict.fromkeys(words) if word not in self._words]
            if new:
                if len(self._words) + len(new) > WORD_CACHE:
                    self._words.clear()
                    new = list(dict.fromkeys(words))
                ids = self.tokenizer(new, add_special_tokens=False)["input_ids"]
                unknown, room = (self.tokenizer.unk_token_id,), self.max_pieces - 2
                self._words.update(
                    (word, tuple(pieces[:room]) or unknown) for word, pieces in zip(new, ids, strict=True)
                )
            return [self._words[word] for word in words]

    def unknown_share(self, words: Iterable[str]) -> float:
        """The share of words of which a part becomes [UNK]."""
        unknown = [self.tokenizer.unk_token_id in pieces for pieces in self.word_pieces(list(words))]
        return sum(unknown) / max(1, len(unknown))

    def forget_words(self) -> None:
        """Cut every word anew from now on; for measuring what that takes."""
        self._words.clear()

    def piece_counts(self, sentences: Sequence[Sentence]) -> list[int]:
        """Word pieces of each sentence, [CLS] and [SEP] not counted, however many the encoder can read."""
        return [sum(map(len, self.word_pieces(sentence.tokens))) for sentence in sentences]

    @contextlib.contextmanager
    def padded_to(self, pieces: int) -> Iterator[None]:
        """Within it, batches are padded to so many pieces at least."""
        self._least_width = pieces
        try:
            yield
        finally:
            self._least_width = 0

    def collate(self, sentences: Sequence[Sentence], longest_words: int | None = None) -> Pieces:
        """[CLS] pieces [SEP], padded to the longest sentence, of which at most `longest_words` are read.

        A sentence with more pieces than the encoder has positions keeps the words that fit; what lies beyond cannot
        be predicted and counts as missed by the scorer; `truncated_words` counts it.
        """
        cls, sep = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        rows, offsets, lengths = [], [], []
        for sentence in sentences:
            ids, ends = [cls], [1]
            for pieces in self.word_pieces(sentence.tokens[:longest_words]):
                if len(ids) + len(pieces) >= self.max_pieces:
                    break
                ids.extend(pieces)
                ends.append(len(ids))
            ids.append(sep)
            rows.append(ids)
            offsets.append(ends)
            lengths.append(len(ends) - 1)
        width = max(self._least_width, *map(len, rows))
        pad = self.tokenizer.pad_token_id
        return Pieces(
            torch.tensor([ids + [pad] * (width - len(ids)) for ids in rows]),
            torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in rows]),
            torch.tensor([b * width + end for b, ends in enumerate(offsets) for end in ends[:-1]], dtype=torch.long),
            torch.tensor([b * width + end for b, ends in enumerate(offsets) for end in ends[1:]], dtype=torch.long),
            lengths,
        )

    def truncated_words(self, sentences: Sequence[Sentence], longest_words: int | None = None) -> int:
        """How many words of the sentences do not fit the encoder, or lie beyond the `longest_words` that are read."""
        room = self.max_pieces - 2
        beyond = 0
        for sentence in sentences:
            total = 0
            for i, pieces in enumerate(self.word_pieces(sentence.tokens)):
                total += len(pieces)
                if total > room or i == longest_words:
                    beyond += len(sentence.tokens) - i
                    break
        return beyond


def max_pieces(model: nn.Module) -> int:
    """Word pieces that an encoder can read at once, [CLS] and [SEP] counted: by its table of positions, where it has
    one, else by its configuration."""
    tables = (m for name, m in model.named_modules() if "position" in name and isinstance(m, nn.Embedding))
    # MPNet and RoBERTa count positions from behind the padding index, so those up to it are never used
    rooms = [table.num_embeddings - (-1 if table.padding_idx is None else table.padding_idx) - 1 for table in tables]
    return min(rooms, default=model.config.max_position_embeddings)
