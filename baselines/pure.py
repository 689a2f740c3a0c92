"""PURE: an entity model, and a relation model that sees typed markers around its two arguments.

Zhong and Chen, NAACL 2021, section 3; details follow the released code (princeton-nlp/PURE, commit b1e9cad). Two
encoders: one classifies spans [first piece ; last piece ; width], the other reads the sentence once for every ordered
pair of entities. The relation model learns from gold entities and is applied to predicted ones. Both may read the words
around a sentence in its document (`entity_window`, `relation_window`; section 3.4). The approximation (`markers:
batched`; section 5) lets the markers levitate, so that many pairs share one pass.

A recipe may train the two models one after another, each as released (`stage`), or side by side on the same sentences:
they share no weight and no loss.

What differs from the released code:
- Markers are `[unusedN]` pieces in the order of the types, or pieces added to the vocabulary where it has none; the
  released code numbers them in the order of first use.
- Of a sentence that with its context has more pieces than the encoder has positions, context is left out.
- With `markers: batched` a sentence is read as far as the encoder goes (released: to `max_sequence_length`), and the
  pairs of a sentence are spread evenly over its passes.
- Of a sentence's predicted entities at most the `max_arguments` likeliest are paired.
- Trained side by side, a step can take a random share of the pairs (`training_pairs`).
"""

import itertools
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines._two_models import TwoModels, extents, insert_markers, levitate, marker_ids, packed, pass_numbers
from baselines.settings import PURE
from sinet.contract import Batch, Labels, Prediction, Sentence
from sinet.encoders.encoder import Encoder, Window
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
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, row: Tensor, subject: Tensor, object: Tensor) -> Tensor:
        """(pairs, classes) of encoded passes (rows, pieces, hidden), and of each pair the row and the positions of its
        start markers (pairs)."""
        return self.classify(self.dropout(self.norm(torch.cat([hidden[row, subject], hidden[row, object]], dim=1))))


class System(TwoModels):
    """PURE."""

    Settings = PURE
    settings: PURE
    citation = "Zhong and Chen, NAACL 2021: A Frustratingly Easy Approach for Entity and Relation Extraction"
    released_form = "the entity model's first layer over the concatenation of every span"
    test_settings: ClassVar[dict] = {"max_span_width": 4, "width_size": 8, "hidden_size": 100, "max_arguments": 12}
    markers: Tensor

    def __init__(self, labels: Labels, encoder: Encoder, **settings: Any) -> None:
        super().__init__(labels, encoder, **settings)
        s, types = self.settings, len(labels.entity_types)
        encoder.window, self.relation_window = Window(words=s.entity_window), Window(words=s.relation_window)
        if s.markers == "batched":
            self.relation_encoder.require(pair_mask=True, position_ids=True)
        self.hidden_dropout = nn.Dropout(s.hidden_dropout)
        self.width = nn.Embedding(s.max_span_width + 1, s.width_size)  # row 0 is the released code's padding
        self.entity_model = FeedForward(
            *(encoder.hidden_size, encoder.hidden_size, s.width_size),
            hidden=s.hidden_size,
            outputs=types + 1,
            dropout=s.dropout,
        )
        self.relation_model = RelationModel(encoder.hidden_size, len(labels.relation_types) + 1, s.relation_dropout)
        initialise_normal(self, "encoder.", "relation_encoder.")
        # (types, subject or object, start or end)
        self.register_buffer("markers", marker_ids(self.relation_encoder, 4 * types).view(types, 2, 2))

    # -- the two models ------------------------------------------------------------------------------------

    def entity_scores(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Scores (words, max_span_width, None and types) of every span, and whether it fits its sentence."""
        hidden = self.hidden_dropout(self.encoder(batch["input_ids"], batch["attention_mask"]))
        first, last = endpoints(hidden, batch)
        scores = span_scores(self.entity_model, first, last, self.width.weight[1:])
        return scores.float(), S.span_grid(batch["words_left"], self.settings.max_span_width)

    def relation_scores(
        self, batch: Batch, spans: Tensor, kinds: Tensor, pairs: Tensor, number: Tensor | None = None
    ) -> Tensor:
        """Scores (pairs, none and types) of typed entities.

        Args:
            spans: (spans, 2) word rows; kinds: (spans) entity type, None not counted; pairs: (pairs, 2) in `spans`;
            number: (pairs) the pass of each pair with batched markers, ascending from 0; a pass for each, as in
            training, if None.
        """
        encoder = self.relation_encoder
        sentence, extent = extents(batch, spans, "relation_")
        subject, object = pairs.unbind(1)
        home, lengths = sentence[subject], batch["relation_attention_mask"].sum(1)
        marked = torch.cat([extent[subject], extent[object]], dim=1)
        markers = torch.cat([self.markers[kinds[subject], 0], self.markers[kinds[object], 1]], dim=1)
        pad, scores, order = encoder.tokenizer.pad_token_id, [], []
        if self.settings.markers == "batched":
            number = torch.arange(len(pairs), device=pairs.device) if number is None else number
            for part in packed(number, lengths[home], 4, self.settings.pieces_at_once):
                rows = part.of_rows(home[part.items])
                text = batch["relation_input_ids"][rows, : lengths[rows].max()]
                ids, mask, positions, columns = levitate(
                    text, lengths[rows], part, marked[part.items], markers[part.items], pad
                )
                states = encoder(ids, mask, positions)
                scores.append(self.relation_model(states, part.row, columns[:, 0], columns[:, 2]).float())
                order.append(part.items)
        else:
            # those of nearly equal length together
            for part in lengths[home].argsort(descending=True, stable=True).split(self.settings.pair_batch):
                rows = home[part]
                ids, mask, at = insert_markers(
                    batch["relation_input_ids"][rows, : lengths[rows].max()],
                    lengths[rows],
                    marked[part] + torch.tensor([0, 1, 0, 1], device=marked.device),
                    (2, 0, 3, 1),  # where boundaries meet, ends stand before starts, the subject's before the object's
                    markers[part],
                    min(self.settings.max_sequence_length, encoder.max_pieces),
                    pad,
                )
                row = torch.arange(len(part), device=at.device)
                scores.append(self.relation_model(encoder(ids, mask), row, at[:, 0], at[:, 2]).float())
                order.append(part)
        return torch.cat(scores)[torch.cat(order).argsort()]

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
            passes = pass_numbers(sentence[pairs[:, 0]], self.settings.pairs_at_once)
            related = self.relation_scores(batch, spans, kinds - 1, pairs, passes).softmax(-1)
            best = related.argmax(-1)
            found = best.nonzero().squeeze(1)
            relations = torch.cat([pairs[found], best[found].unsqueeze(1) - 1], dim=1)
            probabilities = related[found, best[found]]
        return S.build_packed_predictions(
            self.labels, batch, spans, kinds, scores[start, width], relations, probabilities
        )
