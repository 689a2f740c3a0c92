"""An entity model and a relation model with an encoder each, and markers: what PURE and PL-Marker share."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sinet.contract import Extractor, Labels, Sentence
from sinet.encoders.embedding import replace_embeddings
from sinet.encoders.encoder import Encoder


class TwoModels(Extractor):
    """A system of two models, which a recipe may train one after another (`stage`) or side by side on the same
    sentences: they share no weight and no loss."""

    encoders = ("encoder.", "relation_encoder.")

    def __init__(self, labels: Labels, encoder: Encoder, **settings: Any) -> None:
        super().__init__(labels, encoder, **settings)
        self.relation_encoder = type(encoder)(copy.deepcopy(encoder.model), encoder.tokenizer)

    def item_lengths(self, items: Sequence) -> list[int]:
        """Word pieces of the sentence of each training item: a sentence, or what has one as its `sentence`."""
        homes = [item if isinstance(item, Sentence) else item.sentence for item in items]
        distinct = {id(sentence): sentence for sentence in homes}
        pieces = dict(zip(distinct, self.encoder.piece_counts(list(distinct.values())), strict=True))
        return [pieces[id(sentence)] for sentence in homes]


def marker_ids(encoder: Encoder, count: int) -> Tensor:
    """Ids of so many markers (count): `[unusedN]` pieces, and behind the vocabulary where it has too few, for which the
    encoder's embedding grows."""
    vocabulary = encoder.tokenizer.get_vocab()
    unused = [vocabulary[piece] for n in range(1, count + 1) if (piece := f"[unused{n}]") in vocabulary]
    first = max(vocabulary.values()) + 1
    added = range(first, first + count - len(unused))
    if added and added.stop > encoder.rows:
        encoder.model.resize_token_embeddings(added.stop, mean_resizing=False)
        replace_embeddings(encoder.model)
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
