"""PL-Marker: packed levitated markers, for the spans of a sentence, and for the objects of a subject.

Ye, Lin, Li and Sun, ACL 2022; details follow the released code (thunlp/PL-Marker, commit dd19a85). A *pass* is a text,
followed by the two markers of each of many spans. The markers have the positions of the span's first and last piece
and see the text and each other; the text sees no marker, so that a span has the same figures alone and in company. The
entity model packs neighbouring spans: [left ; right marker ; first ; last piece]. The relation model puts solid markers
around a subject and packs the sentence's entities as its objects: one score from the subject's markers, one from the
object's. Every type that is not symmetric has a class for each direction, and both directions of a pair decide
together.

What differs from the released code:
- In prediction the spans of a sentence are spread evenly over its passes. Only as many pieces and markers as the
  longest pass has are multiplied (released: the text padded to its window, all markers to their number); a subject is
  not among its own objects in prediction, of which no figure is read.
- A sentence that is longer than the window is read without context as far as the encoder goes (released: it stops, or
  cuts by the lengths of the sentence before).
- Of a sentence's predicted entities at most the `max_arguments` likeliest are paired.
- The score of a relation is the geometric mean of both directions' probabilities, which orders them as their sum of
  logarithms does.
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines._two_models import (
    Packed,
    TwoModels,
    extents,
    insert_markers,
    levitate,
    marker_ids,
    packed,
    pass_numbers,
)
from baselines.settings import PLMarker
from sinet.contract import Batch, Labels, Prediction, Sentence
from sinet.encoders.encoder import Encoder, Window
from sinet.model import spans as S
from sinet.model.concat import ConcatLinear
from sinet.model.weights import initialise_normal


class Pass(NamedTuple):
    """What one model learns from: the spans of a sentence from the `first` on, as many as a pass holds; of the relation
    model its gold entities that fit the encoder, as objects of the `subject` among them, or of none."""

    sentence: Sentence
    first: int
    subject: int | None = None


class RelationModel(nn.Module):
    """Scores of the relation classes from a subject and an object, and of the object's type."""

    def __init__(self, hidden: int, classes: int, types: int) -> None:
        super().__init__()
        self.subject = nn.Linear(2 * hidden, classes)
        self.object = nn.Linear(2 * hidden, classes)
        self.object_type = nn.Linear(2 * hidden, types)

    def forward(self, subject: Tensor, object: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        """(objects, classes) and (objects, types) of both markers of each subject (rows, 2 * hidden) and object
        (objects, 2 * hidden), which has the subject `row` (objects)."""
        return self.subject(subject)[row] + self.object(object), self.object_type(object)


def undisputed(scores: Tensor, cells: Sequence[Iterable]) -> list[int]:
    """By falling score, those (positions) that share no cell with one that was taken before."""
    taken: set = set()
    kept = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        if taken.isdisjoint(cells[i]):
            taken.update(cells[i])
            kept.append(i)
    return kept


class System(TwoModels):
    """PL-Marker."""

    Settings = PLMarker
    settings: PLMarker
    citation = (
        "Ye, Lin, Li and Sun, ACL 2022: Packed Levitated Marker for Entity and Relation Extraction, at thunlp/PL-Marker"
    )
    released_form = "the entity classifier over the concatenation of every span"
    test_settings: ClassVar[dict] = {
        "max_span_width": 4,
        "spans_at_once": 16,
        "objects_at_once": 3,
        "max_arguments": 12,
    }
    entity_markers: Tensor
    relation_markers: Tensor
    types: Tensor
    mirrored: Tensor

    def __init__(self, labels: Labels, encoder: Encoder, **settings: Any) -> None:
        super().__init__(labels, encoder, **settings)
        for either in (encoder, self.relation_encoder):
            either.require(pair_mask=True, position_ids=True)
        s, hidden, types = self.settings, encoder.hidden_size, len(labels.entity_types) + 1
        encoder.window = Window(pieces=s.entity_window)
        self.relation_window = Window(pieces=self._relation_room() if s.relation_window else 0)
        # classes: none, symmetric types, the others forward, the others reversed
        order = sorted(
            range(len(labels.relation_types)), key=lambda i: labels.relation_types[i] not in labels.symmetric
        )
        both_ways, forward = 1 + len(labels.symmetric), 1 + len(order)
        self.classes = forward + forward - both_ways
        self.register_buffer("types", torch.tensor(order, dtype=torch.long), persistent=False)
        mirrored = [*range(both_ways), *range(forward, self.classes), *range(both_ways, forward)]
        self.register_buffer("mirrored", torch.tensor(mirrored), persistent=False)  # each seen from the other end
        self.class_of = {relation: 1 + i for i, relation in enumerate(order)}
        self.mirror_of = dict(enumerate(mirrored))
        self.hidden_dropout = nn.Dropout(s.dropout)
        self.entity_model = ConcatLinear(hidden, hidden, hidden, hidden, outputs=types)
        self.relation_model = RelationModel(hidden, self.classes, types)
        initialise_normal(self, "encoder.", "relation_encoder.")
        self.register_buffer("entity_markers", marker_ids(encoder, 2))
        begin_as(encoder, self.entity_markers, "entity")
        # of each type, None first: subject start and end, object start and end
        if s.typed_markers:
            markers = marker_ids(self.relation_encoder, 2 + 4 * types)[2:].view(4, types).T
        else:
            markers = marker_ids(self.relation_encoder, 4).expand(types, 4)
        self.register_buffer("relation_markers", markers.contiguous())
        if not s.typed_markers:  # typed ones begin as they are, as released
            begin_as(self.relation_encoder, self.relation_markers[0, :2], "subject")
            begin_as(self.relation_encoder, self.relation_markers[0, 2:], "object")

    def _relation_room(self) -> int:
        """Pieces of a text in the relation model, without the subject's markers; at least [CLS] and [SEP]."""
        return max(2, min(self.settings.relation_window or self.encoder.max_pieces, self.encoder.max_pieces) - 2)

    # -- the two models ------------------------------------------------------------------------------------

    def entity_scores(self, batch: Batch, spans: Tensor, number: Tensor) -> Tensor:
        """Scores (spans, None and types) of `spans` (spans, 2), word rows, in the passes `number` (spans), from 0
        on."""
        sentence, extent = extents(batch, spans)
        lengths, markers = batch["attention_mask"].sum(1), self.entity_markers
        scores, order = [], []
        for part in packed(number, lengths[sentence], 2, self.settings.pieces_at_once):
            home = part.of_rows(sentence[part.items])
            text = batch["input_ids"][home, : lengths[home].max()]
            states, columns = self._encoded(
                self.encoder, text, lengths[home], part, extent[part.items], markers.expand(len(part.items), 2)
            )
            row = part.row.unsqueeze(1) * (len(states) // len(home))
            # the pieces at which spans begin or end, each once, and which of them each span has
            edges = [at.unique(return_inverse=True) for at in (row + extent[part.items]).unbind(1)]
            ends = [(states[rows], which) for rows, which in edges]
            scores.append(self.entity_model(*states[row + columns].unbind(1), *ends).float())
            order.append(part.items)
        return torch.cat(scores)[torch.cat(order).argsort()]

    def relation_scores(
        self, batch: Batch, spans: Tensor, kinds: Tensor, pairs: Tensor, number: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Scores of typed entities as objects of a subject: (pairs, classes) of the relation, (pairs, None and types)
        of the object.

        Args:
            spans: (spans, 2) word rows; kinds: (spans) entity class, None = 0; pairs: (pairs, 2) subject, or -1 for
            none, and object in `spans`; number: (pairs) passes, ascending, of one subject each.
        """
        sentence, extent = extents(batch, spans, "relation_")
        lengths, pad = batch["relation_attention_mask"].sum(1), self.encoder.tokenizer.pad_token_id
        longest = self.relation_encoder.max_pieces
        found, order = [], []
        for part in packed(number, lengths[sentence[pairs[:, 1]]], 2, self.settings.pieces_at_once):
            subject, object = pairs[part.items].unbind(1)
            home, subject = part.of_rows(sentence[object]), part.of_rows(subject)
            none, text_length = subject < 0, lengths[home]
            # first piece and the one behind the last; without a subject both markers stand behind [SEP]
            boundary = extent[subject] + torch.tensor([0, 1], device=extent.device)
            boundary = torch.where(none.unsqueeze(1), text_length.unsqueeze(1), boundary)
            text, mask, at = insert_markers(
                batch["relation_input_ids"][home, : text_length.max()],
                text_length,
                boundary,
                (0, 1),
                self.relation_markers[kinds[subject].masked_fill(none, 0), :2],
                longest,
                pad,
            )
            moved = extent[object] + (extent[object].unsqueeze(2) >= boundary[part.row].unsqueeze(1)).sum(2)
            states, columns = self._encoded(
                self.relation_encoder,
                text,
                mask.sum(1),
                part,
                moved.clamp(max=longest - 1),
                self.relation_markers[kinds[object], 2:],
            )
            width = len(states) // len(home)
            solid = states[torch.arange(len(home), device=at.device).unsqueeze(1) * width + at]
            levitated = states[part.row.unsqueeze(1) * width + columns]
            found.append(self.relation_model(solid.flatten(1), levitated.flatten(1), part.row))
            order.append(part.items)
        back = torch.cat(order).argsort()
        related, types = zip(*found, strict=True)
        return torch.cat(related)[back].float(), torch.cat(types)[back].float()

    def _encoded(
        self, encoder: Encoder, text: Tensor, lengths: Tensor, part: Packed, extent: Tensor, markers: Tensor
    ) -> tuple[Tensor, Tensor]:
        """States (rows * pieces, hidden) of passes, and the columns of their markers (items, 2); see `levitate`."""
        ids, mask, positions, columns = levitate(text, lengths, part, extent, markers, encoder.tokenizer.pad_token_id)
        return self.hidden_dropout(encoder(ids, mask, positions)).flatten(0, 1), columns

    # -- training and prediction ---------------------------------------------------------------------------

    def training_items(self, sentences: Sequence[Sentence]) -> Sequence:
        """Sentences; of one model alone its passes."""
        if self.stage is None:
            return sentences
        items: list[Pass] = []
        for sentence in sentences:
            batch = self.collate([sentence])
            items += self._entity_passes(batch) if self.stage == "entity" else self._relation_passes(batch)
        return items

    def _entity_passes(self, batch: Batch) -> list[Pass]:
        """All spans of every sentence."""
        widest, limit = self.settings.max_span_width, self.settings.spans_at_once
        passes = []
        for sentence, words in zip(batch.sentences, batch["lengths"].tolist(), strict=True):
            count = sum(min(widest, words - start) for start in range(words))
            passes += [Pass(sentence, first) for first in range(0, count, limit)]
        return passes

    def _relation_passes(self, batch: Batch) -> list[Pass]:
        """Every gold entity of a sentence with all of them, itself included, and all without a subject where the text
        does not fill the window (as released)."""
        passes, limit = [], self.settings.objects_at_once
        room = (batch["relation_attention_mask"].sum(1) < self._relation_room()).tolist()
        for sentence, count, fits in zip(batch.sentences, batch["gold_counts"].tolist(), room, strict=True):
            for subject in [*range(count), *([None] if fits else [])]:
                passes += [Pass(sentence, first, subject) for first in range(0, count, limit)]
        return passes

    def training_batch(self, items: Sequence) -> Batch:
        """Besides the sentences, of the entity model `spans` (spans, 2), word rows, their `span_pass` and `span_labels`
        (spans), None = 0; of the relation model `pairs` (pairs, 2) of `gold_spans`, subject (-1: none) and object,
        their `pair_pass` and `pair_labels` (pairs), none = 0. The items are passes, or sentences with all of theirs.

        The reverse of a pair has its class for the other direction, unless it has a relation of its own. The last
        relation of a pair counts, and a span annotated twice has its relations twice."""
        sentences = items if self.stage is None else list({id(item.sentence): item.sentence for item in items}.values())
        batch = self.collate(sentences)
        number = {id(sentence): i for i, sentence in enumerate(sentences)}
        if self.stage != "relation":
            passes = self._entity_passes(batch) if self.stage is None else items
            home = torch.tensor([number[id(p.sentence)] for p in passes])
            spans, labels = all_spans(batch, self.settings.max_span_width, gold=True)
            counts = torch.bincount(batch["word_sentence"][spans[:, 0]], minlength=len(sentences))
            chosen, of = taken(passes, counts[home], (counts.cumsum(0) - counts)[home], self.settings.spans_at_once)
            batch.tensors |= {"spans": spans[chosen], "span_pass": of, "span_labels": labels[chosen]}
        if self.stage != "entity":
            passes = self._relation_passes(batch) if self.stage is None else items
            home, counts = (
                torch.tensor([number[id(p.sentence)] for p in passes], dtype=torch.long),
                batch["gold_counts"],
            )
            begin = (counts.cumsum(0) - counts)[home]
            objects, of = taken(passes, counts[home], begin, self.settings.objects_at_once)
            subject = torch.tensor([-1 if p.subject is None else p.subject for p in passes], dtype=torch.long)
            subjects = torch.where(subject < 0, subject, begin + subject)[of]
            pairs = torch.stack([subjects, objects], dim=1)
            batch.tensors |= {"pairs": pairs, "pair_pass": of, "pair_labels": self._pair_labels(batch, pairs)}
        return batch

    def _pair_labels(self, batch: Batch, pairs: Tensor) -> Tensor:
        spans = [tuple(span) for span in batch["gold_spans"].tolist()]
        label = {(spans[head], spans[tail]): self.class_of[kind] for head, tail, kind in batch["gold_triples"].tolist()}
        label = {(tail, head): self.mirror_of[kind] for (head, tail), kind in label.items()} | label
        related = [label.get((spans[head], spans[tail]), 0) if head >= 0 else 0 for head, tail in pairs.tolist()]
        return torch.tensor(related, dtype=torch.long)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of the entity model over spans; of the relation model over pairs, and over the types of their
        objects."""
        terms = {}
        if self.stage != "relation":
            scores = self.entity_scores(batch, batch["spans"], batch["span_pass"])
            terms["entity"] = F.cross_entropy(scores, batch["span_labels"], reduction="sum")
        if self.stage != "entity" and len(pairs := batch["pairs"]):
            types = batch["gold_types"]
            related, typed = self.relation_scores(batch, batch["gold_spans"], types, pairs, batch["pair_pass"])
            terms["relation"] = F.cross_entropy(related, batch["pair_labels"], reduction="sum") + F.cross_entropy(
                typed, types[pairs[:, 1]], reduction="sum"
            )
        return terms

    def divisors(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Both losses are means, over spans and over pairs."""
        of = {"entity": "spans", "relation": "pairs"}
        return {
            term: sum(len(batch[name]) for batch in batches) for term, name in of.items() if name in batches[0].tensors
        }

    @torch.no_grad()
    def decode(self, batch: Batch) -> list[Prediction]:
        """The best type of every span, by falling probability those that overlap none of their type taken before; then
        relations between them, without while the entity model is trained alone."""
        spans, gold = all_spans(batch, self.settings.max_span_width, gold=batch.gold_entities)
        sentence = batch["word_sentence"][spans[:, 0]]
        scores = self.entity_scores(batch, spans, pass_numbers(sentence, self.settings.spans_at_once))
        confidence, kinds = scores.softmax(-1).max(-1)
        if batch.gold_entities:
            kinds = gold
        found = kinds.nonzero().squeeze(1)
        if not batch.gold_entities:
            places = zip(kinds[found].tolist(), spans[found].tolist(), strict=True)
            cells = [[(kind, word) for word in range(*span)] for kind, span in places]
            kept = undisputed(confidence[found], cells)
            found = found[torch.tensor(sorted(kept), dtype=torch.long, device=found.device)]
        spans, kinds, scores, sentence = spans[found], kinds[found], scores[found], sentence[found]
        pairs = S.likeliest_pairs(sentence, confidence[found], len(batch), self.settings.max_arguments)
        relations, probabilities = pairs.new_zeros(0, 3), scores.new_zeros(0)
        if len(pairs) and self.stage != "entity":
            kinds, relations, probabilities = self._related(batch, spans, kinds, pairs)
        return S.build_packed_predictions(self.labels, batch, spans, kinds, scores, relations, probabilities)

    def _related(self, batch: Batch, spans: Tensor, kinds: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The types of entities with those that the relation model gives them (if `retype_arguments`), the relations
        that are kept (relations, 3), the best first, and their scores.

        Args:
            spans: (spans, 2); kinds: (spans); pairs: (pairs, 2) all ordered pairs that are decided, in ascending order.
        """
        passes = pass_numbers(pairs[:, 0], self.settings.objects_at_once)
        related, typed = self.relation_scores(batch, spans, kinds, pairs, passes)
        place = torch.tensor([len(spans), 1], device=pairs.device)
        mirror = torch.bucketize((pairs.flip(1) * place).sum(1), (pairs * place).sum(1))
        forward = (pairs[:, 0] < pairs[:, 1]).nonzero().squeeze(1)
        logarithms = related.log_softmax(-1)
        both = logarithms[forward] + logarithms[mirror[forward]][:, self.mirrored]
        types = typed.argmax(-1)[torch.stack([mirror[forward], forward], dim=1)]  # of first and second span
        best = both.argmax(-1)
        possible = best > 0
        if retypes := self.settings.retype_arguments and not batch.gold_entities:
            possible &= (types > 0).all(1)
        possible = possible.nonzero().squeeze(1)
        best, first_second, types = best[possible], pairs[forward[possible]], types[possible]
        reversed = best > len(self.types)
        best = torch.where(reversed, self.mirrored[best], best)
        # as released: a reversed relation has the score of the forward class
        scores = both[possible, best]
        ends = torch.where(reversed.unsqueeze(1), first_second.flip(1), first_second)
        words = spans.tolist()
        cells = [
            [(kind, h, t) for h in range(*words[head]) for t in range(*words[tail])]
            for kind, (head, tail) in zip(best.tolist(), ends.tolist(), strict=True)
        ]
        kept = torch.tensor(undisputed(scores, cells), dtype=torch.long, device=pairs.device)
        if retypes:
            kinds = kinds.clone()
            # the first relation that mentions a span decides, so it is written last
            mentioned, given = first_second[kept].flatten().flip(0), types[kept].flatten().flip(0)
            for span, kind in zip(mentioned.tolist(), given.tolist(), strict=True):
                kinds[span] = kind
        relation = self.types[best[kept] - 1]
        return kinds, torch.cat([ends[kept], relation.unsqueeze(1)], dim=1), (scores[kept] / 2).exp()


def all_spans(batch: Batch, widest: int, gold: bool) -> tuple[Tensor, Tensor]:
    """All spans of a batch (spans, 2), by their start, then their end, and where `gold` is asked for their entity class
    (spans), None = 0."""
    fits = S.span_grid(batch["words_left"], widest)
    start, width = fits.nonzero(as_tuple=True)
    labels = S.gold_grid(fits, batch)[start, width] if gold else start.new_zeros(len(start))
    return torch.stack([start, start + width + 1], dim=1), labels


def taken(passes: Sequence[Pass], counts: Tensor, begin: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """The items of some passes, and the pass of each; the items of the sentence of a pass are `counts` (passes) from
    `begin` (passes) on."""
    first = torch.tensor([p.first for p in passes], dtype=torch.long)
    sizes = (counts - first).clamp(max=limit)
    of = torch.arange(len(passes)).repeat_interleave(sizes)
    return (begin + first)[of] + torch.arange(len(of)) - (sizes.cumsum(0) - sizes)[of], of


@torch.no_grad()
def begin_as(encoder: Encoder, markers: Tensor, word: str) -> None:
    """Let the first of two markers begin as [MASK] (the unknown piece, where the tokenizer has no mask), the other as
    the mean of a word's pieces: as released, whose words are one piece."""
    tokenizer = encoder.tokenizer
    mask = tokenizer.unk_token_id if tokenizer.mask_token_id is None else tokenizer.mask_token_id
    table = encoder.model.get_input_embeddings().get_parameter("weight")
    ((*pieces,),) = encoder.word_pieces([word])
    table[markers] = torch.stack([table[mask], table[pieces].mean(0)])
