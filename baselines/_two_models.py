"""What PURE and PL-Marker share: an entity model and a relation model with an encoder each, and markers, which stand
between the pieces of a text or *levitate* behind it, with the positions of the pieces that they mark.

A *pass* is a text followed by the levitated markers of each of many items (spans, or pairs). They see the text and the
other markers of their item, the text sees no marker: an item has the same states alone and in company (Zhong and Chen,
NAACL 2021, section 5; Ye et al., ACL 2022, section 3.1).
"""

import copy
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sinet.contract import Batch, Extractor, Labels, Sentence
from sinet.encoders.encoder import Encoder, Window
from sinet.model import spans as S

TEXT = ("input_ids", "attention_mask", "word_start", "word_end")
"""What both models have of their own, as their windows differ; of the relation model it is named `relation_...`."""


class TwoModels(Extractor):
    """A system of two models, which a recipe may train one after another (`stage`) or side by side on the same
    sentences: they share no weight and no loss. `relation_window`: what the relation model reads around a sentence, as
    `encoder.window` is of the entity model."""

    encoders = ("encoder.", "relation_encoder.")
    relation_window = Window()

    def __init__(self, labels: Labels, encoder: Encoder, **settings: Any) -> None:
        super().__init__(labels, encoder, **settings)
        self.relation_encoder = type(encoder)(copy.deepcopy(encoder.model), encoder.tokenizer)

    def collate(self, sentences: Sequence[Sentence]) -> Batch:
        """Besides the entity model's text the same sentences in the relation model's window: `relation_input_ids`,
        `relation_attention_mask` (batch, pieces) and, rows of it, `relation_word_start` and
        `relation_word_end` (words)."""
        batch = S.collate(sentences, self.encoder, self.labels)
        text = {name: batch[name] for name in TEXT}
        if self.relation_window != self.encoder.window:
            inputs = self.encoder.collate(sentences, window=self.relation_window)
            text = {name: getattr(inputs, name) for name in TEXT}
        batch.tensors |= {f"relation_{name}": tensor for name, tensor in text.items()}
        return batch

    def item_lengths(self, items: Sequence) -> list[int]:
        """Word pieces of the text of each training item: a sentence, or what has one as its `sentence`."""
        homes = [item if isinstance(item, Sentence) else item.sentence for item in items]
        distinct = {id(sentence): sentence for sentence in homes}
        window = self.relation_window if self.stage == "relation" else self.encoder.window
        pieces = dict(zip(distinct, self.encoder.piece_counts(list(distinct.values()), window), strict=True))
        return [pieces[id(sentence)] for sentence in homes]


def extents(batch: Batch, spans: Tensor, of: str = "") -> tuple[Tensor, Tensor]:
    """The sentence of each span (spans) and its first and last piece there (spans, 2), in the text of the entity model,
    or `of` the relation model; spans (spans, 2) are word rows."""
    sentence = batch["word_sentence"][spans[:, 0]]
    ends = torch.stack([batch[f"{of}word_start"][spans[:, 0]], batch[f"{of}word_end"][spans[:, 1] - 1] - 1], dim=1)
    return sentence, ends - (sentence * batch[f"{of}input_ids"].shape[1]).unsqueeze(1)


def marker_ids(encoder: Encoder, count: int, begin: int = 1) -> Tensor:
    """Ids of so many markers (count): `[unusedN]` pieces, the first from N = `begin` on (BERT's cased vocabulary has no
    0), and behind the vocabulary where it has too few, for which the encoder's embedding grows."""
    vocabulary = encoder.tokenizer.get_vocab()
    numbers = range(begin, begin + count + 1)
    unused = [vocabulary[piece] for n in numbers if (piece := f"[unused{n}]") in vocabulary][:count]
    first = max(vocabulary.values()) + 1  # not the embedding's rows: an encoder that is loaded again has the markers'
    added = range(first, first + count - len(unused))
    if added and added.stop > encoder.rows:
        encoder.model.resize_token_embeddings(added.stop, mean_resizing=False)
    return torch.tensor([*unused, *added])


def insert_markers(
    pieces: Tensor, lengths: Tensor, boundary: Tensor, order: Sequence[int], markers: Tensor, longest: int, pad: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Put markers between the pieces of each row.

    Args:
        pieces: (rows, length) piece ids from [CLS] to [SEP], padded; lengths: (rows) of them that are real;
        boundary: (rows, markers) the pieces before which markers stand; order: of the markers where boundaries meet;
        markers: (rows, markers) ids; longest: what lies beyond is cut, as the encoder cannot read it.

    Returns:
        input ids and attention mask (rows, at most length + markers), and the positions of the markers (rows, markers),
        0, hence [CLS], where cut off (as PURE's code has it).
    """
    count, width = pieces.shape
    more = boundary.shape[1]
    key = more * boundary + torch.tensor(order, device=pieces.device)
    marker_at = boundary + (key.unsqueeze(1) < key.unsqueeze(2)).sum(2)
    place = torch.arange(width, device=pieces.device)
    piece_at = place + (boundary.unsqueeze(2) <= place).sum(1)
    ids = pieces.new_full((count, width + more), pad).scatter(1, piece_at, pieces).scatter(1, marker_at, markers)
    mask = (torch.arange(width + more, device=pieces.device) < lengths.unsqueeze(1) + more).long()
    return ids[:, :longest], mask[:, :longest], marker_at.masked_fill(marker_at >= longest, 0)


class Packed(NamedTuple):
    """Some passes that are encoded together: their `items`, and of each its pass (row) and its place there."""

    items: Tensor
    row: Tensor
    place: Tensor

    def of_rows(self, value: Tensor) -> Tensor:
        """What is the same for all items of a pass, (rows, ...) of (items, ...)."""
        first = self.place == 0
        return value[first][self.row[first].argsort()]


def pass_numbers(group: Tensor, limit: int) -> Tensor:
    """The pass of each item (items), from 0: items of a group, whose numbers ascend, share as few passes as hold
    `limit` each, evenly, as a pass is padded to the longest beside it."""
    _, of, sizes = torch.unique_consecutive(group, return_inverse=True, return_counts=True)
    rank = torch.arange(len(group), device=group.device) - (sizes.cumsum(0) - sizes)[of]
    passes = (sizes + limit - 1) // limit
    each = (sizes + passes - 1) // passes
    return (passes.cumsum(0) - passes)[of] + rank // each[of]


def packed(number: Tensor, lengths: Tensor, markers: int, pieces: int) -> Iterator[Packed]:
    """Passes of nearly equal length together, the longest first, as many at a time as have so many `pieces` in all.

    Args:
        number: (items) the pass of each item, ascending from 0; lengths: (items) pieces of its text; markers: of each.
    """
    counts = torch.bincount(number)
    first = counts.cumsum(0) - counts
    place = torch.arange(len(number), device=number.device) - first[number]
    whole = lengths[first] + markers * counts
    size = max(1, pieces // int(whole.max()))
    order = whole.argsort(descending=True, stable=True)
    rank = order.argsort()[number]
    items = rank.argsort(stable=True)
    for part in items.split(torch.bincount(rank // size).tolist()):
        yield Packed(part, rank[part] % size, place[part])


def levitate(
    text: Tensor, lengths: Tensor, batch: Packed, marked: Tensor, markers: Tensor, pad: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Put the markers of items behind the text of their pass, the first ones of all items first.

    Args:
        text: (rows, length) piece ids, padded; lengths: (rows) of them that are real; marked: (items, markers) the
        piece that each marker marks; markers: (items, markers) ids.

    Returns:
        input ids (rows, pieces), mask (rows, pieces, pieces) of what each piece sees, position ids (rows, pieces), and
        the columns of the markers (items, markers).
    """
    rows, width = text.shape
    room, each = int(batch.place.max()) + 1, markers.shape[1]
    row = batch.row.unsqueeze(1)
    columns = width + batch.place.unsqueeze(1) + room * torch.arange(each, device=text.device)
    ids = F.pad(text, (0, each * room), value=pad)
    ids[row, columns] = markers
    positions = F.pad(torch.arange(width, device=text.device).expand(rows, -1), (0, each * room))
    positions[row, columns] = marked
    real = torch.arange(width, device=text.device) < lengths.unsqueeze(1)
    reads = F.pad(real, (0, each * room))
    reads[row, columns] = True
    mask = F.pad(reads.unsqueeze(2) & real.unsqueeze(1), (0, each * room))
    mask[row.unsqueeze(2), columns.unsqueeze(2), columns.unsqueeze(1)] = True
    return ids, mask, positions, columns
