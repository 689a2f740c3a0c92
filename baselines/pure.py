"""PURE, single sentence: an entity model, and a relation model that sees typed markers around its two arguments.

Zhong and Chen, NAACL 2021, section 3; details follow the released code (princeton-nlp/PURE, commit b1e9cad). Two
encoders: one classifies spans [first piece ; last piece ; width], the other reads the sentence once for every ordered
pair of entities. The relation model learns from gold entities and is applied to predicted ones.

A recipe may train the two models one after another, each as released (`stage`), or side by side on the same sentences:
they share no weight and no loss.

What differs from the released code:
- Markers are `[unusedN]` pieces in the order of the types, or pieces added to the vocabulary where it has none; the
  released code numbers them in the order of first use.
- No cross-sentence context (released: 300 words around a sentence for entities, 100 for relations).
- Of a sentence's predicted entities at most the `max_arguments` likeliest are paired.
- Trained side by side, a step can take a random share of the pairs (`training_pairs`).
"""

import copy
import itertools
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.settings import PURE
from sinet.contract import Batch, Extractor, Labels, Prediction, Sentence
from sinet.encoders.dropout import Dropout
from sinet.encoders.encoder import Encoder
from sinet.model import spans as S
from sinet.model.endpoints import FeedForward, endpoints, span_scores
from sinet.model.weights import initialise_normal


class Pair(NamedTuple):
    """What the relation model learns from: an ordered pair of gold entities, by their places among those of the
    sentence that fit the encoder."""

    sentence: Sentence
    head: int
    tail: int


class RelationModel(nn.Module):
    """Scores of no relation and the relation types from the two start markers."""

    def __init__(self, hidden: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2 * hidden)
        self.classify = nn.Linear(2 * hidden, classes)
        self.dropout = Dropout(dropout)

    def forward(self, hidden: Tensor, subject: Tensor, object: Tensor) -> Tensor:
        """(pairs, classes) of encoded pairs (pairs, pieces, hidden) and their marker positions (pairs)."""
        pair = torch.arange(len(hidden), device=hidden.device)
        return self.classify(self.dropout(self.norm(torch.cat([hidden[pair, subject], hidden[pair, object]], dim=1))))


def insert_markers(
    pieces: Tensor, lengths: Tensor, subject: Tensor, object: Tensor, markers: Tensor, longest: int, pad: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Put four markers around the two arguments of each pair.

    Args:
        pieces: (pairs, length) piece ids from [CLS] to [SEP], padded; lengths: (pairs) of them that are real;
        subject, object: (pairs, 2) half-open ranges of pieces; markers: (pairs, 4) ids of the subject's start and
        end and the object's start and end; longest: what lies beyond is cut, as the encoder cannot read it.

    Returns:
        input ids and attention mask (pairs, at most length + 4), and the positions of both start markers (pairs),
        0, hence [CLS], where cut off (as released).
    """
    count, width = pieces.shape
    # a marker stands before the piece at its boundary; where boundaries meet, ends stand before starts and the
    # subject's marker before the object's
    boundary = torch.stack([subject[:, 0], subject[:, 1], object[:, 0], object[:, 1]], dim=1)
    key = 4 * boundary + torch.tensor([2, 0, 3, 1], device=pieces.device)
    marker_at = boundary + (key.unsqueeze(1) < key.unsqueeze(2)).sum(2)
    place = torch.arange(width, device=pieces.device)
    piece_at = place + (boundary.unsqueeze(2) <= place).sum(1)
    ids = pieces.new_full((count, width + 4), pad).scatter(1, piece_at, pieces).scatter(1, marker_at, markers)
    mask = (torch.arange(width + 4, device=pieces.device) < lengths.unsqueeze(1) + 4).long()
    starts = marker_at[:, 0::2]
    starts = starts.masked_fill(starts >= longest, 0)
    return ids[:, :longest], mask[:, :longest], starts[:, 0], starts[:, 1]


class System(Extractor):
    """PURE."""

    Settings = PURE
    settings: PURE
    citation = "Zhong and Chen, NAACL 2021: A Frustratingly Easy Approach for Entity and Relation Extraction"
    released_form = "the entity model's first layer over the concatenation of every span"
    test_settings: ClassVar[dict] = {"max_span_width": 4, "width_size": 8, "hidden_size": 100, "max_arguments": 12}
    encoders = ("encoder.", "relation_encoder.")
    markers: Tensor

    def __init__(self, labels: Labels, encoder: Encoder, **settings: Any) -> None:
        super().__init__(labels, encoder, **settings)
        s, types = self.settings, len(labels.entity_types)
        self.hidden_dropout = Dropout(s.hidden_dropout)
        self.width = nn.Embedding(s.max_span_width + 1, s.width_size)  # row 0 is the released code's padding
        self.entity_model = FeedForward(
            *(encoder.hidden_size, encoder.hidden_size, s.width_size),
            hidden=s.hidden_size,
            outputs=types + 1,
            dropout=s.dropout,
        )
        self.relation_encoder = type(encoder)(copy.deepcopy(encoder.model), encoder.tokenizer)
        self.relation_model = RelationModel(encoder.hidden_size, len(labels.relation_types) + 1, s.relation_dropout)
        initialise_normal(self, "encoder.", "relation_encoder.")
        # (types, subject or object, start or end)
        self.register_buffer("markers", self._marker_ids(4 * types).view(types, 2, 2))

    def _marker_ids(self, count: int) -> Tensor:
        vocabulary = self.relation_encoder.tokenizer.get_vocab()
        unused = [vocabulary[p] for n in range(1, count + 1) if (p := f"[unused{n}]") in vocabulary]
        rows = self.relation_encoder.rows
        added = list(range(rows, rows + count - len(unused)))
        if added:
            self.relation_encoder.model.resize_token_embeddings(rows + len(added), mean_resizing=False)
        return torch.tensor(unused + added)

    def collate(self, sentences: Sequence[Sentence]) -> Batch:
        return S.collate(sentences, self.encoder, self.labels)

    # -- the two models ------------------------------------------------------------------------------------

    def entity_scores(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Scores (words, max_span_width, None and types) of every span, and whether it fits its sentence."""
        hidden = self.hidden_dropout(self.encoder(batch["input_ids"], batch["attention_mask"]))
        first, last = endpoints(hidden, batch)
        scores = span_scores(self.entity_model, first, last, self.width.weight[1:])
        return scores.float(), S.span_grid(batch["words_left"], self.settings.max_span_width)

    def relation_scores(self, batch: Batch, spans: Tensor, kinds: Tensor, pairs: Tensor) -> Tensor:
        """Scores (pairs, none and types) of typed entities.

        Args:
            spans: (spans, 2) word rows; kinds: (spans) entity type, None not counted; pairs: (pairs, 2) in `spans`.

        Pairs go through the encoder sorted by the length of their sentence, `pair_batch` at a time.
        """
        width = batch["input_ids"].shape[1]
        sentence = batch["word_sentence"][spans[:, 0]]
        extent = torch.stack([batch["word_start"][spans[:, 0]], batch["word_end"][spans[:, 1] - 1]], dim=1)
        extent = extent - (sentence * width).unsqueeze(1)
        lengths = batch["attention_mask"].sum(1)
        order = lengths[sentence[pairs[:, 0]]].argsort(descending=True, stable=True)
        scores = []
        for part in pairs[order].split(self.settings.pair_batch):
            subject, object = part.unbind(1)
            home = sentence[subject]
            longest = int(lengths[home].max())
            ids, mask, *starts = insert_markers(
                batch["input_ids"][home, :longest],
                lengths[home],
                extent[subject],
                extent[object],
                torch.cat([self.markers[kinds[subject], 0], self.markers[kinds[object], 1]], dim=1),
                min(self.settings.max_sequence_length, self.relation_encoder.max_pieces),
                self.relation_encoder.tokenizer.pad_token_id,
            )
            scores.append(self.relation_model(self.relation_encoder(ids, mask), *starts).float())
        return torch.cat(scores)[order.argsort()]

    # -- training and prediction ---------------------------------------------------------------------------

    def training_items(self, sentences: Sequence[Sentence]) -> Sequence:
        """Sentences; of the relation model alone all ordered pairs of their gold entities."""
        if self.stage != "relation":
            return sentences
        pairs = []
        for sentence in sentences:
            (length,) = self.encoder.collate([sentence]).lengths
            read = sum(entity.end <= length for entity in sentence.entities)
            pairs += [Pair(sentence, head, tail) for head, tail in itertools.permutations(range(read), 2)]
        return pairs

    def item_lengths(self, items: Sequence) -> list[int]:
        if self.stage != "relation":
            return super().item_lengths(items)
        sentences = {id(pair.sentence): pair.sentence for pair in items}
        pieces = dict(zip(sentences, self.encoder.piece_counts(list(sentences.values())), strict=True))
        return [pieces[id(pair.sentence)] for pair in items]

    def training_batch(self, items: Sequence) -> Batch:
        """Besides the sentences `pairs` (pairs, 2) of `gold_spans` and their `pair_labels`, no relation = 0: those
        given, or all of the sentences, or a share of them. Each annotated direction is a label, the last one of a pair
        counts, and a span annotated twice has its relations twice."""
        if self.stage != "relation":
            batch = self.collate(items)
            pairs = S.ordered_pairs(batch["gold_counts"])
            if self.settings.training_pairs:
                # of the whole batch alike, so that every pair is as likely as any other
                pairs = pairs[torch.randperm(len(pairs))[: self.settings.training_pairs * len(batch)]]
        else:
            sentences = {id(pair.sentence): pair.sentence for pair in items}
            batch = self.collate(list(sentences.values()))
            first = (batch["gold_counts"].cumsum(0) - batch["gold_counts"]).tolist()
            begin = dict(zip(sentences, first, strict=True))
            pairs = torch.tensor([[begin[id(p.sentence)] + place for place in (p.head, p.tail)] for p in items])
        spans = [tuple(span) for span in batch["gold_spans"].tolist()]
        label = {(spans[head], spans[tail]): kind + 1 for head, tail, kind in batch["gold_triples"].tolist()}
        labels = [label.get((spans[head], spans[tail]), 0) for head, tail in pairs.tolist()]
        batch.tensors |= {"pairs": pairs, "pair_labels": torch.tensor(labels, dtype=torch.long)}
        return batch

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of the entity model over spans, and of the relation model over pairs."""
        terms = {}
        if self.stage != "relation":
            scores, fits = self.entity_scores(batch)
            target = S.gold_grid(fits, batch)
            terms["entity"] = F.cross_entropy(scores[fits], target[fits], reduction="sum")
        if self.stage != "entity" and len(pairs := batch["pairs"]):
            scores = self.relation_scores(batch, batch["gold_spans"], batch["gold_types"] - 1, pairs)
            terms["relation"] = F.cross_entropy(scores, batch["pair_labels"], reduction="sum")
        return terms

    def divisors(self, batches: Sequence[Batch]) -> dict[str, float]:
        """The entity loss is a sum over spans, the relation loss a mean over pairs."""
        return {"relation": sum(len(batch["pairs"]) for batch in batches)}

    @torch.no_grad()
    def decode(self, batch: Batch) -> list[Prediction]:
        """The best type of every span, then the best relation of every ordered pair of predicted entities; without
        relations while the entity model is trained alone."""
        scores, fits = self.entity_scores(batch)
        lengths = batch["lengths"]
        types = scores.argmax(-1).masked_fill(~fits, 0)
        if batch.gold_entities:
            types = S.gold_grid(fits, batch)
        start, width = types.nonzero(as_tuple=True)
        kinds = types[start, width]
        spans = torch.stack([start, start + width + 1], dim=1)
        sentence = batch["word_sentence"][start]
        confidence = scores[start, width].softmax(-1).amax(-1)
        pairs = S.likeliest_pairs(sentence, confidence, len(lengths), self.settings.max_arguments)
        relations, probabilities = pairs.new_zeros(0, 3), scores.new_zeros(0)
        if len(pairs) and self.stage != "entity":
            related = self.relation_scores(batch, spans, kinds - 1, pairs).softmax(-1)
            best = related.argmax(-1)
            found = best.nonzero().squeeze(1)
            relations = torch.cat([pairs[found], best[found].unsqueeze(1) - 1], dim=1)
            probabilities = related[found, best[found]]
        return S.build_packed_predictions(
            self.labels, batch, spans, kinds, scores[start, width], relations, probabilities
        )
