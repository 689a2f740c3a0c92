"""PURE, single sentence: an entity model, and a relation model that sees typed markers around its two arguments.

Zhong and Chen, NAACL 2021, section 3; details follow the released code (princeton-nlp/PURE, commit b1e9cad). Two
encoders: one classifies spans [first piece ; last piece ; width], the other reads the sentence once for every ordered
pair of entities. The relation model learns from gold entities and is applied to predicted ones.

What differs from the released code:
- Both models are trained side by side, on the same sentences and for the same number of epochs; they share no weight,
  so neither learns from the other's loss, and the gradient of each is clipped by itself. Both losses are means. A step
  can take a random share of the pairs (`training_pairs`).
- Markers are `[unusedN]` pieces in the order of the types, or pieces added to the vocabulary where it has none.
- Symmetric relations are trained with the argument that starts first as head.
- No cross-sentence context; new layers keep torch's initialisation.
- Of a sentence's predicted entities at most the `max_arguments` likeliest are paired.
"""

import copy
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sinet.contract import Batch, Extractor, Labels, Prediction, Sentence
from sinet.model import spans as S
from sinet.model.dropout import Dropout
from sinet.model.encoder import Encoder
from sinet.model.endpoints import FeedForward, endpoints, span_scores


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
    """PURE; the defaults are the released ones.

    Settings:
        max_span_width: widest candidate, in words. width_size: size of the width embedding.
        hidden_size: of the entity model's feed-forward network. dropout: in it; relation_dropout: before the relation
        classifier. training_pairs: pairs drawn for each sentence of a step, 0 for all. pair_batch: pairs
        encoded at once. max_arguments: predicted entities of a sentence that are paired.
    """

    cites = "Zhong and Chen, NAACL 2021: A Frustratingly Easy Approach for Entity and Relation Extraction"
    tiny: ClassVar[dict] = {"max_span_width": 4, "width_size": 8, "hidden_size": 32, "max_arguments": 12}
    encoders = ("encoder.", "relation_encoder.")
    clipped_apart = (("encoder.", "width.", "entity_model."), ("relation_encoder.", "relation_model."))
    allowed: ClassVar[dict] = {
        "max_span_width": (1, 100),
        "width_size": (1, 10_000),
        "hidden_size": (1, 10_000),
        "dropout": (0.0, 0.99),
        "relation_dropout": (0.0, 0.99),
        "pair_batch": (1, 100_000),
        "max_arguments": (2, 100_000),
    }

    def __init__(
        self,
        labels: Labels,
        encoder: nn.Module,
        *,
        max_span_width: int = 8,
        width_size: int = 150,
        hidden_size: int = 150,
        dropout: float = 0.2,
        relation_dropout: float = 0.1,
        training_pairs: int = 0,
        pair_batch: int = 64,
        max_arguments: int = 40,
    ) -> None:
        super().__init__(labels, encoder)
        types = len(labels.entity_types)
        self.training_pairs, self.pair_batch, self.max_arguments = training_pairs, pair_batch, max_arguments
        self.max_span_width = max_span_width
        self.width = nn.Embedding(max_span_width + 1, width_size)  # row 0 is the released code's padding
        self.entity_model = FeedForward(2 * encoder.hidden_size + width_size, hidden_size, types + 1, dropout)
        self.relation_encoder = Encoder(copy.deepcopy(encoder.model), encoder.tokenizer)
        self.relation_model = RelationModel(encoder.hidden_size, len(labels.relation_types) + 1, relation_dropout)
        # (types, subject or object, start or end)
        self.register_buffer("markers", self._marker_ids(4 * types).view(types, 2, 2))

    def _marker_ids(self, count: int) -> Tensor:
        vocabulary = self.relation_encoder.tokenizer.get_vocab()
        unused = [vocabulary[p] for n in range(1, count + 1) if (p := f"[unused{n}]") in vocabulary]
        rows = self.relation_encoder.model.get_input_embeddings().num_embeddings
        added = list(range(rows, rows + count - len(unused)))
        if added:
            self.relation_encoder.model.resize_token_embeddings(rows + len(added), mean_resizing=False)
        return torch.tensor(unused + added)

    def collate(self, sentences: Sequence[Sentence]) -> Batch:
        return S.collate(sentences, self.encoder, self.labels)

    # -- the two models ------------------------------------------------------------------------------------

    def entity_scores(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Scores (words, max_span_width, None and types) of every span, and whether it fits its sentence."""
        first, last = endpoints(self.encoder(batch["input_ids"], batch["attention_mask"]), batch)
        scores = span_scores(self.entity_model, first, last, self.width.weight[1:])
        return scores.float(), S.span_grid(batch["word_room"], self.max_span_width)

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
        for part in pairs[order].split(self.pair_batch):
            subject, object = part.unbind(1)
            home = sentence[subject]
            longest = int(lengths[home].max())
            ids, mask, *starts = insert_markers(
                batch["input_ids"][home, :longest],
                lengths[home],
                extent[subject],
                extent[object],
                torch.cat([self.markers[kinds[subject], 0], self.markers[kinds[object], 1]], dim=1),
                self.relation_encoder.max_pieces,
                self.relation_encoder.tokenizer.pad_token_id,
            )
            scores.append(self.relation_model(self.relation_encoder(ids, mask), *starts).float())
        return torch.cat(scores)[order.argsort()]

    # -- training and prediction ---------------------------------------------------------------------------

    def loss(self, batch: Batch) -> Tensor:
        """Mean cross-entropy of the entity model over spans plus that of the relation model over pairs."""
        scores, fits = self.entity_scores(batch)
        gold = batch["gold_spans"]
        target = S.gold_grid(fits, gold, batch["gold_types"])
        entity_loss = F.cross_entropy(scores[fits], target[fits])

        pairs = S.ordered_pairs(batch["gold_counts"])
        if self.training_pairs:
            # of the whole batch alike, so that every pair is as likely as any other
            drawn = torch.randperm(len(pairs), device=pairs.device)[: self.training_pairs * len(batch)]
            pairs = pairs[drawn]
        if not len(pairs):
            return self.total(entity=entity_loss)
        labels = torch.zeros(len(gold), len(gold), dtype=torch.long, device=gold.device)
        related = batch["gold_pairs"]
        labels[related.unbind(1)] = batch["gold_relations"].argmax(1) + 1  # one type a pair
        scores = self.relation_scores(batch, gold, batch["gold_types"] - 1, pairs)
        return self.total(entity=entity_loss, relation=F.cross_entropy(scores, labels[pairs.unbind(1)]))

    @torch.no_grad()
    def decode(self, batch: Batch) -> list[Prediction]:
        """The best type of every span, then the best relation of every ordered pair of predicted entities."""
        scores, fits = self.entity_scores(batch)
        lengths = batch["lengths"]
        types = scores.argmax(-1).masked_fill(~fits, 0)
        if batch.given:
            types = S.gold_grid(fits, batch["gold_spans"], batch["gold_types"])
        start, width = types.nonzero(as_tuple=True)
        kinds = types[start, width]
        spans = torch.stack([start, start + width + 1], dim=1)
        sentence = batch["word_sentence"][start]
        confidence = scores[start, width].softmax(-1).amax(-1)
        pairs = S.likeliest_pairs(sentence, confidence, len(lengths), self.max_arguments)
        relations, probabilities = pairs.new_zeros(0, 3), scores.new_zeros(0)
        if len(pairs):
            related = self.relation_scores(batch, spans, kinds - 1, pairs).softmax(-1)
            best = related.argmax(-1)
            found = best.nonzero().squeeze(1)
            relations = torch.cat([pairs[found], best[found].unsqueeze(1) - 1], dim=1)
            probabilities = related[found, best[found]]
        return S.assemble_packed(self.labels, batch, spans, kinds, scores[start, width], relations, probabilities)
