"""Arithmetic on spans, with the words of a batch laid end to end.

A *row* is a position on one packed axis: all word pieces of a padded batch (`batch * pieces` rows), or all its
words (`words` rows, no padding). A span is a half-open range of rows [start, end). No arithmetic here loops over spans
or pairs, and no (spans x words) mask is ever made; Python loops only to read gold labels and to hand out predictions.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sinet.contract import Batch, Entity, Labels, Prediction, Relation, Sentence
from sinet.encoders.encoder import Encoder


def range_max(rows: Tensor, ranges: Tensor) -> Tensor:
    """Maxima over `ranges` (ranges, 2), each [start, end) of `rows` (rows, hidden): (ranges, hidden), zeros where a
    range is empty.

    Two windows of a power of two cover any range: log2(longest) element-wise maxima over the rows make all windows, of
    which each range reads two.
    """
    start, end = ranges.unbind(1)
    width = end - start
    longest = max(1, int(width.max())) if len(width) else 1
    windows = [rows]
    for level in range(longest.bit_length() - 1):
        windows.append(torch.maximum(windows[-1][: -(2**level)], windows[-1][2**level :]))
    table = torch.cat([rows.new_zeros(1, rows.shape[1]), *windows])
    # floor(log2(width)): the exponent of a double, which no rounding can misplace
    exponent = torch.frexp(width.clamp(min=1).double()).exponent - 1
    window = 2**exponent
    first = exponent * (len(rows) + 1) - window + 2  # row of the level's first window; row 0 is of empty ranges
    place = (torch.stack([start, end - window]) + first).masked_fill(width < 1, 0)
    left, right = F.embedding(place, table)
    return torch.maximum(left, right)


def word_maxima(batch: Batch, *states: Tensor) -> tuple[Tensor, ...]:
    """The maximum over each word's pieces, (words, hidden) of each of `states` (batch, pieces, hidden)."""
    rows = torch.cat(states, dim=-1).flatten(0, 1)
    words, later = rows.index_select(0, batch["word_start"]), rows.index_select(0, batch["later_pieces"])
    index = batch["later_words"].unsqueeze(1).expand_as(later)
    return words.scatter_reduce(0, index, later, "amax").chunk(len(states), dim=-1)


def context_span(head: Tensor, tail: Tensor) -> Tensor:
    """The words between two spans of a sentence, whichever comes first, all (pairs, 2) in word rows; the end is not
    behind the start where there are none."""
    return torch.stack([torch.minimum(head[:, 1], tail[:, 1]), torch.maximum(head[:, 0], tail[:, 0])], dim=1)


def span_grid(room: Tensor, max_width: int) -> Tensor:
    """Which windows stay inside their sentence, `(words, max_width)` boolean; `room` (words), words left in it."""
    return torch.arange(max_width, device=room.device) < room.unsqueeze(1)


def cross_pairs(heads: Tensor, tails: Tensor) -> Tensor:
    """Every head with every tail of the same group, `(pairs, 2)`, for heads and tails packed by group, so many (groups)
    of each."""
    partners = tails.repeat_interleave(heads)
    head = torch.arange(len(partners), device=heads.device).repeat_interleave(partners)
    first_tail = (tails.cumsum(0) - tails).repeat_interleave(heads)
    first_pair = partners.cumsum(0) - partners
    tail = torch.arange(len(head), device=heads.device) + (first_tail - first_pair)[head]
    return torch.stack([head, tail], dim=1)


def ordered_pairs(counts: Tensor, itself: bool = False) -> Tensor:
    """All ordered pairs of distinct items of the same group, `(pairs, 2)`, for items packed by group `counts`; with
    `itself` also each item with itself."""
    pairs = cross_pairs(counts, counts)
    return pairs if itself else pairs[pairs[:, 0] != pairs[:, 1]]


def pairs_within(group: Tensor, groups: int) -> Tensor:
    """All ordered pairs of distinct items of the same group, `(pairs, 2)`; `group` (items), in any order."""
    order = group.argsort(stable=True)
    return order[ordered_pairs(torch.bincount(group, minlength=groups))]


def first_per_group(group: Tensor, limit: Tensor) -> Tensor:
    """Positions of the first `limit[g]` items of each group g, group by group; `group` (items), in any order."""
    order = group.argsort(stable=True)
    sizes = torch.bincount(group, minlength=len(limit))
    rank = torch.arange(len(group), device=group.device) - (sizes.cumsum(0) - sizes)[group[order]]
    return order[rank < limit[group[order]]]


def best_spans(scores: Tensor, fits: Tensor, group: Tensor, limit: Tensor) -> Tensor:
    """The `limit[g]` spans of each group g with the best scores, in order of position.

    Args:
        scores: (words, max_width); fits: the same, which spans there are; group: (words).

    Returns:
        (spans, 2) word row and width less one.
    """
    row, width = fits.nonzero(as_tuple=True)
    by_score = scores[row, width].argsort(descending=True, stable=True)
    best = by_score[first_per_group(group[row[by_score]], limit)].sort().values
    return torch.stack([row[best], width[best]], dim=1)


def sample_per_group(group: Tensor, limit: Tensor) -> Tensor:
    """Positions of at most `limit[g]` random items of each group g, drawn without replacement by torch's generator."""
    shuffled = torch.randperm(len(group), device=group.device)
    return shuffled[first_per_group(group[shuffled], limit)]


def negative_spans(batch: Batch, max_width: int) -> Tensor:
    """All spans of up to `max_width` words that are not gold, `(spans, 2)`, in the order of their first words."""
    fits = span_grid(batch["words_left"], max_width)
    start, width = (fits & (gold_grid(fits, batch) == 0)).nonzero(as_tuple=True)
    return torch.stack([start, start + width + 1], dim=1)


def fold_pairs(batch: Batch, labels: Labels, reverses: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """The related pairs of a batch, their types, and the pairs that may serve as negatives, as SpERT and SINET train.

    A symmetric relation gets the argument that starts first as head; annotated both ways round it is one positive.
    Pairs are kept by span: of a span annotated twice the first stands for both, and the negatives of the second
    appear again with the first's position. An entity is not paired with itself.

    Args:
        reverses: whether the reverse of a symmetric positive may serve as a negative, as in both released codes.

    Returns:
        positive pairs (pairs, 2), positions in `gold_spans`; their types (pairs, relation types) 0/1; negative pairs
        (pairs, 2), sentence by sentence.
    """
    spans = [tuple(span) for span in batch["gold_spans"].tolist()]
    first: dict[tuple[int, int], int] = {}
    number = [first.setdefault(span, i) for i, span in enumerate(spans)]
    symmetric = {i for i, name in enumerate(labels.relation_types) if name in labels.symmetric}
    related: dict[tuple[int, int], set[int]] = {}
    excluded: set[tuple[int, int]] = set()
    for head, tail, kind in batch["gold_triples"].tolist():
        head, tail = number[head], number[tail]
        if head == tail:
            continue
        if kind in symmetric and spans[tail][0] < spans[head][0]:
            head, tail = tail, head
        related.setdefault((head, tail), set()).add(kind)
        if kind in symmetric and not reverses:
            excluded.add((tail, head))
    negative, begin = [], 0
    for count in batch["gold_counts"].tolist():
        of_sentence = number[begin : begin + count]
        negative += [(i, j) for i in of_sentence for j in of_sentence if i != j and (i, j) not in related]
        begin += count
    types = torch.zeros(len(related), len(labels.relation_types))
    for i, kinds in enumerate(related.values()):
        types[i, list(kinds)] = 1
    negative = [pair for pair in negative if pair not in excluded]
    pairs = (torch.tensor(list(found), dtype=torch.long).view(-1, 2) for found in (related, negative))
    return next(pairs), types, next(pairs)


def pair_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of pairs (pairs, types), averaged over the types of a pair, of which there may be none, and
    summed over pairs."""
    return F.binary_cross_entropy_with_logits(logits.float(), target, reduction="sum") / max(1, target.shape[1])


def candidate_counts(batches: Sequence[Batch]) -> dict[str, float]:
    """Over what the losses of candidate spans and pairs are averaged: all of a batch, whichever sentence they are
    of."""
    return {
        "entity": max(1, sum(len(batch["candidate_spans"]) for batch in batches)),
        "relation": sum(len(batch["candidate_pairs"]) for batch in batches),
    }


def likeliest_pairs(group: Tensor, scores: Tensor, groups: int, limit: int) -> Tensor:
    """Ordered pairs of distinct items of the same group, `(pairs, 2)`, of each group's `limit` best items only.

    Pairs grow with the square of the items, and an untrained model takes every span for an entity.

    Args:
        group: (items), in ascending order; scores: (items).
    """
    by_score = scores.argsort(descending=True, stable=True)
    limits = torch.full((groups,), limit, device=group.device)
    kept = by_score[first_per_group(group[by_score], limits)].sort().values
    return kept[ordered_pairs(torch.bincount(group[kept], minlength=groups))]


def gold_tensors(sentences: Sequence[Sentence], lengths: Sequence[int], labels: Labels) -> dict[str, Tensor]:
    """Gold spans and relations of a batch in packed word rows, as they are annotated.

    Returns:
        `gold_spans` (spans, 2) start and end row; `gold_types` (spans) entity class, None = 0; `gold_last` (spans)
        whether the same span is not annotated again later; `gold_counts` (batch) spans per sentence; `gold_triples`
        (relations, 3) head and tail as positions in `gold_spans`, relation type; `gold_last_of_pair` (relations)
        whether no later one has the same spans.

    Entities beyond the words that fit the encoder are left out, and their relations.
    """
    entity_class = {t: i + 1 for i, t in enumerate(labels.entity_types)}
    relation_class = {t: i for i, t in enumerate(labels.relation_types)}
    spans: list[tuple[int, int]] = []
    types, counts, triples, row = [], [], [], 0
    for sentence, length in zip(sentences, lengths, strict=True):
        position = {}
        for i, e in enumerate(sentence.entities):
            if e.end <= length:
                position[i] = len(spans)
                spans.append((row + e.start, row + e.end))
                types.append(entity_class[e.type])
        triples += [
            (position[r.head], position[r.tail], relation_class[r.type])
            for r in sentence.relations
            if r.head in position and r.tail in position
        ]
        counts.append(len(position))
        row += length
    last = {span: i for i, span in enumerate(spans)}
    last_of_pair = {(spans[head], spans[tail]): i for i, (head, tail, _) in enumerate(triples)}
    latest = [last_of_pair[spans[head], spans[tail]] == i for i, (head, tail, _) in enumerate(triples)]
    return {
        "gold_spans": torch.tensor(spans, dtype=torch.long).view(-1, 2),
        "gold_types": torch.tensor(types, dtype=torch.long),
        "gold_last": torch.tensor([last[span] == i for i, span in enumerate(spans)], dtype=torch.bool),
        "gold_counts": torch.tensor(counts, dtype=torch.long),
        "gold_triples": torch.tensor(triples, dtype=torch.long).view(-1, 3),
        "gold_last_of_pair": torch.tensor(latest, dtype=torch.bool),
    }


def collate(sentences: Sequence[Sentence], encoder: Encoder, labels: Labels) -> Batch:
    """The encoder's input of some sentences and their gold spans and pairs."""
    pieces = encoder.collate(sentences)
    return Batch(sentences, pieces.tensors() | gold_tensors(sentences, pieces.lengths, labels))


def gold_grid(fits: Tensor, batch: Batch) -> Tensor:
    """Entity class of every span of a grid, None = 0, like `fits` (words, max_width); wider gold has no place in it,
    and of a span annotated twice the later type counts."""
    spans, types = batch["gold_spans"][batch["gold_last"]], batch["gold_types"][batch["gold_last"]]
    width = spans[:, 1] - spans[:, 0] - 1
    inside = width < fits.shape[1]
    target = torch.zeros_like(fits, dtype=torch.long)
    target[spans[inside, 0], width[inside]] = types[inside]
    return target


def index_grid(shape: torch.Size, items: Tensor) -> Tensor:
    """Which item stands at each place of a grid of this shape, -1 for none; `items` (items, dimensions), distinct."""
    number = items.new_full(shape, -1)
    number[items.unbind(1)] = torch.arange(len(items), device=items.device)
    return number


def found_in_grid(number: Tensor, spans: Tensor) -> Tensor:
    """What `index_grid` has of a grid (words, max_width) for `spans` (spans, 2), -1 also for a wider one: (spans)."""
    width = spans[:, 1] - spans[:, 0] - 1
    found = number[spans[:, 0], width.clamp(max=number.shape[1] - 1)]
    return found.masked_fill(width >= number.shape[1], -1)


def build_packed_predictions(
    labels: Labels,
    batch: Batch,
    spans: Tensor,
    types: Tensor,
    logits: Tensor,
    relations: Tensor,
    relation_scores: Tensor,
) -> list[Prediction]:
    """`build_predictions` for entities in packed word rows: `spans` (entities, 2), `types` (entities), their `logits`
    (entities, classes), from which the score of each is taken."""
    first = spans[:, 0]
    place, width = batch["word_index"].index_select(0, first), spans[:, 1] - first
    scores = logits.softmax(-1).gather(1, types.unsqueeze(1)).squeeze(1)
    entities = torch.stack([batch["word_sentence"].index_select(0, first), place, place + width, types], dim=1)
    return build_predictions(labels, len(batch), entities, scores, relations, relation_scores)


def build_predictions(
    labels: Labels, batch: int, entities: Tensor, entity_scores: Tensor, relations: Tensor, relation_scores: Tensor
) -> list[Prediction]:
    """Turn index tensors into predictions, with one copy to the CPU each.

    Args:
        entities: (entities, 4) sentence, start, end, class (None = 0);
        relations: (relations, 3) head and tail as positions in `entities`, relation class.

    A symmetric relation gets the argument that starts first as head; of two directions folded into one the first
    keeps its score (as SpERT and SINET decode).
    """
    entity_lists: list[list[Entity]] = [[] for _ in range(batch)]
    relation_lists: list[dict[tuple[str, int, int], Relation]] = [{} for _ in range(batch)]
    home = []
    for (sentence, start, end, kind), score in zip(entities.tolist(), entity_scores.tolist(), strict=True):
        home.append((sentence, len(entity_lists[sentence])))
        entity_lists[sentence].append(Entity(labels.entity_types[kind - 1], start, end, score))
    for (head, tail, kind), score in zip(relations.tolist(), relation_scores.tolist(), strict=True):
        name = labels.relation_types[kind]
        sentence, head = home[head]
        tail = home[tail][1]
        found = entity_lists[sentence]
        if name in labels.symmetric and found[tail].start < found[head].start:
            head, tail = tail, head
        relation_lists[sentence].setdefault((name, head, tail), Relation(name, head, tail, score))
    return [Prediction(tuple(e), tuple(r.values())) for e, r in zip(entity_lists, relation_lists, strict=True)]
