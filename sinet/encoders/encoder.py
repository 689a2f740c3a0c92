"""Pretrained encoders behind one wrapper: BERT, ALBERT, MPNet and whatever else transformers loads (docs/encoders.md).

Words are cut into word pieces one by one, as SpERT, SINET, PFN and PURE do: the pieces of a word do not depend on its
neighbours, so each distinct word is cut once and remembered.
"""

import bisect
import contextlib
import functools
import inspect
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from sinet.data.sentence import Sentence
from sinet.encoders.fast import PackedEncoder

WORD_CACHE = 1 << 18
"""Distinct words remembered with their pieces; a stream of raw text must not grow the memory without bound."""
MOST_UNKNOWN = 0.5
"""Share of words that may be [UNK] to an encoder that is trained on them."""
CUTTING = threading.Lock()
"""Held while words are cut: one thread may collate (`sinet.model.prefetch`) while another does."""
PROBE = 300
"""Word pieces on which an architecture is tried: more than ModernBERT's local attention spans."""


def pieces_after_the_first(word_start: Tensor, word_end: Tensor) -> tuple[Tensor, Tensor]:
    """The row and the word of every piece that is not the first of its word; words are [start, end) in rows (words)."""
    later = word_end - word_start - 1
    word = torch.arange(len(later)).repeat_interleave(later)
    before = (later.cumsum(0) - later)[word]
    return word_start[word] + 1 + torch.arange(len(word)) - before, word


@dataclass(frozen=True)
class EncoderInputs:
    """What the encoder reads of a batch of sentences, and where their words are.

    `input_ids`, `attention_mask`: (batch, pieces). `word_start`, `word_end`: (words), the rows [start, end) of each
    word's pieces in the flattened (batch * pieces) axis; context words have none. `lengths`: the number of words of
    each sentence that are read. `token_type_ids` (batch, pieces): 1 on a sentence that stands behind its context and on
    its [SEP], 0 elsewhere; None where all are 0.
    """

    input_ids: Tensor
    attention_mask: Tensor
    word_start: Tensor
    word_end: Tensor
    lengths: list[int]
    token_type_ids: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """As entries of a `Batch`, with for every word (words) its sentence, `word_sentence`, its position there,
        `word_index`, and the number of words left there, itself included, `words_left`; and of every piece that is not
        its word's first the row, `later_pieces`, and the word, `later_words`."""
        words = [(b, i, length - i) for b, length in enumerate(self.lengths) for i in range(length)]
        sentence, place, room = torch.tensor(words, dtype=torch.long).view(-1, 3).unbind(1)
        later_pieces, later_words = pieces_after_the_first(self.word_start, self.word_end)
        types = {} if self.token_type_ids is None else {"token_type_ids": self.token_type_ids}
        return types | {
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "word_start": self.word_start,
            "word_end": self.word_end,
            "later_pieces": later_pieces,
            "later_words": later_words,
            "word_sentence": sentence.contiguous(),
            "word_index": place.contiguous(),
            "words_left": room.contiguous(),
            "lengths": torch.tensor(self.lengths),
        }


class Window(NamedTuple):
    """What of its document is read around a sentence: as many `words` in all (`Sentence.context`), or as many word
    `pieces` in all, [CLS] and [SEP] counted, of which the side that has fewer gets at most half of what room is left
    and the other side the rest (PL-Marker). Nothing by default. `leading`: what stands before and after the sentence is
    read before it, as many words of either, as [CLS] before after [SEP] sentence [SEP] (UniRE)."""

    words: int = 0
    pieces: int = 0
    leading: bool = False


class Encoder(nn.Module):
    """A Hugging Face encoder with its tokenizer.

    `pooler`: weight (hidden, hidden) and bias of tanh(W h + b) over [CLS] as the pretrained files have it, for a system
    that reads it to begin with; None where they have none.
    """

    pooler: tuple[Tensor, Tensor] | None = None

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.hidden_size: int = model.config.hidden_size
        self.max_pieces: int = max_pieces(model)
        self._window = Window()
        self._words: dict[str, tuple[int, ...]] = {}
        self._packed: PackedEncoder | None = None
        self._least_width = 0
        self._last_text: tuple[tuple[str, ...], list[int], list[int]] = ((), [], [0])

    @property
    def packs(self) -> bool:
        """Whether the architecture is known to `sinet.encoders.fast`."""
        return PackedEncoder.supports(self.model)

    @property
    def window(self) -> Window:
        """What is read around a sentence."""
        return self._window

    @window.setter
    def window(self, window: Window) -> None:
        self._window = window
        self.forget_words()  # which were cut to the room that there was

    @property
    def rows(self) -> int:
        """Rows of the embedding of word pieces."""
        return len(self.model.get_input_embeddings().get_parameter("weight"))

    @functools.cached_property
    def token_types(self) -> int:
        """How many token types the architecture tells apart: MPNet and DistilBERT one, BERT two."""
        known = "token_type_ids" in inspect.signature(self.model.forward).parameters
        return max(1, self.model.config.type_vocab_size) if known else 1

    @contextlib.contextmanager
    def packed(self, dtype: torch.dtype) -> Iterator[None]:
        """Within it, the weights of this moment in `dtype` (`sinet.encoders.fast`), without gradients; an
        architecture that is not known there runs as it is."""
        self._packed = PackedEncoder(self.model, dtype) if self.packs else None
        try:
            yield
        finally:
            self._packed = None

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Tensor:
        """Last hidden state, `(batch, pieces, hidden)`.

        Args:
            input_ids: (batch, pieces).
            attention_mask: 0/1, (batch, pieces), or (batch, pieces, pieces): what each piece (row) sees (column).
            position_ids: (batch, pieces), counted from 0; by default pieces are numbered in their order.
            token_type_ids: (batch, pieces), 0 by default; an architecture that tells no types apart (`token_types`)
            reads all alike.

        Raises:
            ValueError: the architecture does not take such a mask or position ids (`require`).
        """
        self.require(pair_mask=attention_mask.dim() == 3, position_ids=position_ids is not None)
        if self.token_types < 2:
            token_type_ids = None
        if self._packed is not None:
            places = None if position_ids is None else position_ids + first_position(self.model)
            return self._packed(input_ids, attention_mask, places, token_type_ids)[0][-1]
        options = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        return self.transformer(input_ids, attention_mask, position_ids, **options).last_hidden_state

    def transformer(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor | None = None, **options: bool | Tensor
    ) -> Any:
        """The model's output. It is given no argument that is not in use: architectures differ in what they take."""
        if attention_mask.dim() == 3:
            # additive, because eager attention adds whatever mask of four dimensions it is given: a boolean one too
            floor = torch.finfo(self.model.dtype).min
            attention_mask = (1 - attention_mask[:, None].to(self.model.dtype)) * floor
        if position_ids is not None:
            options["position_ids"] = position_ids + first_position(self.model)
        return self.model(input_ids=input_ids, attention_mask=attention_mask, **options)

    def require(self, pair_mask: bool = False, position_ids: bool = False) -> None:
        """Raise `ValueError` if the architecture does not take a mask (batch, pieces, pieces), or position ids. A
        system that passes them asks in its constructor, so that the wrong encoder is refused before training."""
        if self.model.device.type == "meta":
            return  # sizes alone
        kind = self.model.config.model_type
        if pair_mask and not self._takes_pair_masks:
            raise ValueError(f"{kind} takes no attention mask of (batch, pieces, pieces); take an encoder such as BERT")
        if position_ids and not self._takes_position_ids:
            raise ValueError(f"{kind} cannot place pieces by position_ids alone; take an encoder such as BERT")

    @functools.cached_property
    def _takes_pair_masks(self) -> bool:
        """Whether a mask of ones changes nothing, and a first half that sees only itself has the states that it has
        alone. It is tried, because most architectures that cannot say so misread the mask without an error."""
        ids, ones = self._probe()
        half, pair_mask = ids.shape[1] // 2, ones[:, None] * ones[:, :, None]
        whole, alone = self._tried(ids, ones), self._tried(ids[:, :half], ones[:, :half])
        try:
            all_seen = self._tried(ids, pair_mask)
            pair_mask[:, :half, half:] = 0
            halved = self._tried(ids, pair_mask)[:, :half]
        except RuntimeError:  # DeBERTa multiplies the mask with its embeddings
            return False
        effect = alone - whole[:, :half]
        return _nothing(all_seen - whole, effect) and _nothing(halved - alone, effect)

    @functools.cached_property
    def _takes_position_ids(self) -> bool:
        """Whether pieces in another order, with the position ids that they had, have the states that they had."""
        if "position_ids" not in inspect.signature(self.model.forward).parameters:
            return False
        ids, ones = self._probe()
        order = torch.randperm(ids.shape[1], generator=torch.Generator().manual_seed(0)).to(ids.device)
        whole, moved = self._tried(ids, ones)[:, order], self._tried(ids[:, order], ones)
        return _nothing(self._tried(ids[:, order], ones, order.unsqueeze(0)) - whole, moved - whole)

    def _probe(self) -> tuple[Tensor, Tensor]:
        """Piece ids (1, pieces), and as many ones."""
        pieces = torch.arange(min(PROBE, self.max_pieces), device=self.model.device).unsqueeze(0)
        ids = pieces % self.rows
        return ids.masked_fill_(ids == self.tokenizer.pad_token_id, self.tokenizer.unk_token_id), torch.ones_like(ids)

    def _tried(self, ids: Tensor, mask: Tensor, position_ids: Tensor | None = None) -> Tensor:
        training = self.model.training
        self.model.eval()
        with torch.no_grad(), torch.autocast(ids.device.type, enabled=False):
            found = self.transformer(ids, mask, position_ids).last_hidden_state
        self.model.train(training)
        return found

    def maps_alone(self, attention_mask: Tensor) -> Callable[[], None]:
        """A pass over only the linear maps of the packed encoder, of as many rows as a batch has real pieces."""
        assert self._packed is not None, "within `packed`"
        return self._packed.maps_alone(int(attention_mask.sum()))

    def all_layers(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Hidden states of embeddings and layers, and each layer's attention (batch, heads, pieces, pieces)."""
        if self._packed is not None:
            states, attentions = self._packed(input_ids, attention_mask, keep=True)
            return tuple(states), tuple(attentions)
        out = self.transformer(input_ids, attention_mask, output_hidden_states=True, output_attentions=True)
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
                unknown, room = (self.tokenizer.unk_token_id,), self.max_pieces - self._special(self.window)
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
        self._last_text = ((), [], [0])

    def piece_counts(self, sentences: Sequence[Sentence], window: Window | None = None) -> list[int]:
        """Word pieces of each sentence, however many the encoder reads, and of the context that it reads, [CLS] and
        [SEP] not counted; `window` takes the place of the encoder's own."""
        counts = [sum(map(len, self.word_pieces(s.tokens))) for s in sentences]
        contexts = [self._context(s, n, window or self.window) for s, n in zip(sentences, counts, strict=True)]
        return [n + len(before) + len(after) for n, (before, after) in zip(counts, contexts, strict=True)]

    @contextlib.contextmanager
    def padded_to(self, pieces: int) -> Iterator[None]:
        """Within it, batches are padded to so many pieces at least."""
        self._least_width = pieces
        try:
            yield
        finally:
            self._least_width = 0

    def collate(
        self, sentences: Sequence[Sentence], longest_words: int | None = None, window: Window | None = None
    ) -> EncoderInputs:
        """[CLS] pieces [SEP], padded to the longest sentence, of which at most `longest_words` are read.

        A sentence with more pieces than the encoder has positions keeps the words that fit; what lies beyond cannot
        be predicted and counts as missed by the scorer; `truncated_words` counts it. Context words fill what room is
        left: at most half of it those before, the nearest first. `window` takes the place of the encoder's own.
        """
        cls, sep = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        window = window or self.window
        rows, offsets = [], []
        for sentence in sentences:
            words = self._read(sentence.tokens[:longest_words], self._special(window))
            before, after = self._context(sentence, sum(map(len, words)), window)
            head = [cls, *before, *after, sep] if window.leading else [cls, *before]
            rows.append([*head, *itertools.chain(*words), *(() if window.leading else after), sep])
            offsets.append(list(itertools.accumulate(map(len, words), initial=len(head))))
        width = max(self._least_width, *map(len, rows))
        pad = self.tokenizer.pad_token_id
        types = None
        if window.leading:
            begins = [ends[0] for ends in offsets]
            types = torch.tensor(
                [[int(at <= i < len(ids)) for i in range(width)] for at, ids in zip(begins, rows, strict=True)]
            )
        return EncoderInputs(
            torch.tensor([ids + [pad] * (width - len(ids)) for ids in rows]),
            torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in rows]),
            torch.tensor([b * width + end for b, ends in enumerate(offsets) for end in ends[:-1]], dtype=torch.long),
            torch.tensor([b * width + end for b, ends in enumerate(offsets) for end in ends[1:]], dtype=torch.long),
            [len(ends) - 1 for ends in offsets],
            types,
        )

    @staticmethod
    def _special(window: Window) -> int:
        """How many pieces stand beside those of words."""
        return 3 if window.leading else 2

    def _context(self, sentence: Sentence, own: int, window: Window) -> tuple[list[int], list[int]]:
        """The pieces that are read before and after the `own` ones of a sentence. Of words all pieces are read; where
        pieces are counted, a word may be cut."""
        special = self._special(window)
        own = min(own, self.max_pieces - special)
        if window.pieces and sentence.text:
            pieces, ends = self._text_pieces(sentence.text)
            begin, end = ends[sentence.offset], ends[sentence.offset + len(sentence.tokens)]
            left, right, room = begin, len(pieces) - end, max(0, min(window.pieces, self.max_pieces) - 2 - own)
            if left < right:
                left = min(left, room // 2)
                right = min(right, room - left)
            else:
                right = min(right, room // 2)
                left = min(left, room - right)
            return pieces[begin - left : begin], pieces[end : end + right]
        even = window.leading and (window.words - len(sentence.tokens)) % 2
        before, after = sentence.context(window.words - even)
        used = special + own
        pieces_before = self._read(before[::-1], used + (self.max_pieces - used + 1) // 2)[::-1]
        pieces_after = self._read(after, used + sum(map(len, pieces_before)))
        return list(itertools.chain(*pieces_before)), list(itertools.chain(*pieces_after))

    def _text_pieces(self, text: tuple[str, ...]) -> tuple[list[int], list[int]]:
        """The pieces of a document, and how many of them its first 0, 1, ... words have; that of the last one asked for
        is remembered."""
        known = self._last_text
        if known[0] is not text:
            words = self.word_pieces(text)
            ends = list(itertools.accumulate(map(len, words), initial=0))
            known = self._last_text = (text, list(itertools.chain(*words)), ends)
        return known[1:]

    def _read(self, words: Sequence[str], used: int) -> list[tuple[int, ...]]:
        """The pieces of the first words, as many as fit where so many pieces are `used`."""
        pieces = self.word_pieces(words) if words else []
        ends = list(itertools.accumulate(map(len, pieces), initial=used))
        return pieces[: bisect.bisect_right(ends, self.max_pieces) - 1]

    def truncated_words(self, sentences: Sequence[Sentence], longest_words: int | None = None) -> int:
        """How many words of the sentences do not fit the encoder, or lie beyond the `longest_words` that are read."""
        return sum(
            len(s.tokens) - len(self._read(s.tokens[:longest_words], self._special(self.window))) for s in sentences
        )


def _nothing(difference: Tensor, effect: Tensor) -> bool:
    """Whether a difference between states is that of rounding, on the scale of an effect that is none."""
    return bool(difference.abs().max() <= 0.01 * effect.abs().max())


def _position_tables(model: nn.Module) -> list[nn.Embedding]:
    return [m for name, m in model.named_modules() if "position" in name and isinstance(m, nn.Embedding)]


def first_position(model: nn.Module) -> int:
    """The row of the first piece in a model's table of positions: MPNet and RoBERTa count from behind the padding
    index."""
    return max((t.padding_idx + 1 for t in _position_tables(model) if t.padding_idx is not None), default=0)


def max_pieces(model: PreTrainedModel) -> int:
    """Word pieces that an encoder can read at once, [CLS] and [SEP] counted: by its table of positions, where it has
    one, else by its configuration."""
    rows: int = min((t.num_embeddings for t in _position_tables(model)), default=model.config.max_position_embeddings)
    return rows - first_position(model)
