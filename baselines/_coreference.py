"""Coreference between the spans of a document, and their representations propagated along it.

Lee et al., EMNLP 2017 (scores and loss); details follow the released code that `baselines.dygiepp`, `sciie` and `dygie`
name. The spans of a document with the best mention scores m are kept. Each may refer back to one of the nearest kept
spans before it, or to none, which has the score 0: s_ij = FFNN([g_i ; g_j ; g_i * g_j ; distance]) + m_i + m_j.
"""

import functools
from collections import Counter
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.settings import DocumentSpanSettings, DyGIEpp
from sinet.contract import Batch
from sinet.model import spans as S
from sinet.model.batches import by_document
from sinet.model.concat import ConcatLinear, WindowMeans
from sinet.model.endpoints import DISTANCES, FeedForward, distance_buckets, span_scores, span_vectors

PAIRS = 1 << 14
"""Pairs of spans scored at once, so that memory does not grow with the document."""


class Links(NamedTuple):
    """The kept spans of a batch, in order of position, document by document.

    `spans` (kept, 2) word row and width less one; `vectors` (kept, size) their representations after all rounds;
    `scores` (kept, 1 + antecedents) of none and of the kept spans before each, the nearest last, minus infinity where
    there is none.
    """

    spans: Tensor
    vectors: Tensor
    scores: Tensor


def antecedents(groups: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """The `limit` items before each item, the nearest last, and which of these there are in its group; both
    (items, antecedents), for `groups` (items) in ascending order."""
    place = torch.arange(len(groups), device=groups.device)
    counts = torch.bincount(groups)
    first = (counts.cumsum(0) - counts)[groups]
    before = place.unsqueeze(1) + torch.arange(-min(limit, len(groups)), 0, device=groups.device)
    return before, before >= first.unsqueeze(1)


def windows(rows: Tensor, size: int) -> Tensor:
    """The `size` rows before each of `rows` (rows, hidden), the nearest last, zeros before the first: a view,
    (rows, hidden, size)."""
    return F.pad(rows, (0, 0, size, 0)).unfold(0, size, 1)[: len(rows)]


class Coreference(nn.Module):
    """Kept spans and antecedent scores, over spans that are concatenations of parts of these `sizes`."""

    def __init__(self, sizes: tuple[int, ...], settings: DocumentSpanSettings) -> None:
        super().__init__()
        self.sizes, self.settings, size = sizes, settings, sum(sizes)
        network = functools.partial(FeedForward, hidden=settings.hidden_size, outputs=1, dropout=settings.dropout)
        self.mention = network(*sizes)
        self.antecedent = network(size, size, size, settings.width_size)
        self.distance = nn.Embedding(len(DISTANCES) + 1, settings.width_size)

    def forward(
        self, words: Tensor, widths: Tensor, fits: Tensor, batch: Batch, means: WindowMeans | None = None
    ) -> Links:
        """Args: words: (words, hidden); widths: (max_span_width, width_size); fits: (words, max_span_width); means: of
        the words of every span, where they are a part of it."""
        document = batch["document"]
        mention = span_scores(self.mention, words, words, widths, means).squeeze(-1).float()
        spans = self.kept(mention.detach(), fits, document)
        vectors, mention = span_vectors(words, widths, spans, means), mention[spans.unbind(1)]
        return Links(spans, *self.linked(vectors, mention, document[spans[:, 0]]))

    def kept(self, mention: Tensor, fits: Tensor, document: Tensor) -> Tensor:
        """The best spans of every document, none of which crosses a better one, (kept, 2), word row and width less
        one; `mention`, `fits`: (words, max_span_width), `document` (words)."""
        keep = (torch.bincount(document) * self.settings.coreference_spans_per_word).floor().long().clamp(min=1)
        return S.best_spans(mention, without_crossing(mention, fits), document, keep)

    def linked(self, vectors: Tensor, mention: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
        """`Links.vectors` and `Links.scores` of kept spans (kept, size) with mention scores and documents (kept)."""
        before, known = antecedents(groups, self.settings.max_antecedents)
        return vectors, self.antecedent_scores(vectors, mention, before, known)

    def antecedent_scores(self, vectors: Tensor, mention: Tensor, before: Tensor, known: Tensor) -> Tensor:
        """`Links.scores` of spans (kept, size) with mention scores (kept); `before`, `known`: of `antecedents`."""
        pairs = torch.stack([known.nonzero()[:, 0], before[known]], dim=1)
        scores = []
        for head, tail in (block.unbind(1) for block in pairs.split(PAIRS)):
            # of their numbers among the kept spans
            distance = self.distance.weight, distance_buckets(head - tail)
            product = vectors.index_select(0, head) * vectors.index_select(0, tail)
            scored = self.antecedent((vectors, head), (vectors, tail), product, distance)
            scores.append(scored.squeeze(-1).float() + mention[head] + mention[tail])
        table = mention.new_full(known.shape, -torch.inf).index_put((known,), torch.cat(scores))
        return F.pad(table, (1, 0))


class PropagatedCoreference(Coreference):
    """That of DyGIE++ (Wadden et al., EMNLP 2019, section 3): kept spans may cross, and are updated from their
    antecedents.

    A round takes the softmax P of the scores, E_i = sum_j P_ij g_j over the antecedents (what goes to none is lost),
    f_i = sigmoid(W [g_i ; E_i] + b), and g_i <- f_i * g_i + (1 - f_i) * E_i; m and s are computed again of the new g.
    """

    settings: DyGIEpp

    def __init__(self, sizes: tuple[int, ...], settings: DyGIEpp) -> None:
        super().__init__(sizes, settings)
        self.gate = ConcatLinear(sum(sizes), sum(sizes), outputs=sum(sizes))

    def kept(self, mention: Tensor, fits: Tensor, document: Tensor) -> Tensor:
        # in double precision, as released: 0.3 of 50 words is 15 spans, and more in single
        keep = (torch.bincount(document).double() * self.settings.coreference_spans_per_word).ceil().long().clamp(min=2)
        return S.best_spans(mention, fits, document, keep)

    def linked(self, vectors: Tensor, mention: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
        before, known = antecedents(groups, self.settings.max_antecedents)
        scores = self.antecedent_scores(vectors, mention, before, known)
        for _ in range(self.settings.coreference_rounds):
            share = scores.softmax(1)[:, 1:].to(vectors.dtype)
            expected = torch.bmm(windows(vectors, share.shape[1]), share.unsqueeze(2)).squeeze(2)
            gate = self.gate(vectors, expected).sigmoid()
            vectors = gate * vectors + (1 - gate) * expected
            mention = self.mention(*vectors.split(self.sizes, dim=1)).squeeze(-1).float()
            scores = self.antecedent_scores(vectors, mention, before, known)
        return vectors, scores


def without_crossing(scores: Tensor, fits: Tensor) -> Tensor:
    """Which spans are left when, from the best on, each span is taken that crosses none taken before: boolean, like
    `scores`, `fits` (words, max_width). Two spans cross that overlap and neither holds the other.

    A span better than all that cross it is taken, those it crosses are dropped, and so on with the rest.
    """
    width = fits.shape[1]
    begin = torch.arange(1 - width, width, device=fits.device).view(1, -1, 1)
    end = begin + torch.arange(1, width + 1, device=fits.device)
    own = torch.arange(1, width + 1, device=fits.device).view(-1, 1, 1)  # of a span from 0, its end
    crosses = ((begin > 0) & (begin < own) & (own < end)) | ((begin < 0) & (end > 0) & (end < own))
    rank = torch.full_like(fits, -1, dtype=torch.long)
    place = scores[fits].argsort(descending=True, stable=True).argsort()
    rank[fits] = len(place) - 1 - place
    taken = torch.zeros_like(fits)

    def best_crossing(ranks: Tensor) -> Tensor:
        near = F.pad(ranks, (0, 0, width - 1, width - 1), value=-1).unfold(0, 2 * width - 1, 1).transpose(1, 2)
        return torch.where(crosses, near.unsqueeze(1), -1).amax((2, 3))

    while (rank >= 0).any():
        new = (rank >= 0) & (rank > best_crossing(rank))
        taken = taken | new
        rank = rank.masked_fill(new | (best_crossing(torch.where(new, rank, -1)) >= 0), -1)
    return taken


def gold_tensors(batch: Batch) -> dict[str, Tensor]:
    """The documents of a batch and their clusters, on the CPU.

    Returns:
        `document` (words) the document of each word, numbered from 0: sentences that follow each other under one name
        are one, a sentence of no document is one by itself; `gold_mentions` (mentions, 3) start and end row, cluster.
    """
    lengths = batch["lengths"].tolist()
    documents, mentions, row = [], [], 0
    for number, sentences in enumerate(by_document([s.document for s in batch.sentences])):
        for i in sentences:
            documents += [number] * lengths[i]
            mentions += [
                (row + a, row + b, cluster) for a, b, cluster in batch.sentences[i].coreference if b <= lengths[i]
            ]
            row += lengths[i]
    return {
        "document": torch.tensor(documents, dtype=torch.long),
        "gold_mentions": torch.tensor(mentions, dtype=torch.long).view(-1, 3),
    }


def link_loss(links: Links, fits: Tensor, batch: Batch) -> Tensor:
    """Minus the log-probability of all gold antecedents of each kept span together, of none where it has none among
    its candidates, summed; `fits` (words, max_span_width). Wider mentions are ignored; of a span in several clusters
    the last counts."""
    start, end, cluster = batch["gold_mentions"].unbind(1)
    width = end - start - 1
    inside = width < fits.shape[1]
    clusters = torch.full_like(fits, -1, dtype=torch.long)
    clusters[start[inside], width[inside]] = cluster[inside]
    own = clusters[links.spans.unbind(1)].unsqueeze(1)
    known = links.scores[:, 1:].isfinite()
    theirs = windows(own, known.shape[1]).squeeze(1)
    gold = known & (own >= 0) & (own == theirs)
    gold = torch.cat([~gold.any(1, keepdim=True), gold], dim=1)
    return -links.scores.log_softmax(1).masked_fill(~gold, -torch.inf).logsumexp(1).sum()


def clusters(links: Links, batch: Batch) -> list[tuple[tuple[int, int, int], ...]]:
    """The mentions (start, end, cluster) of each sentence: spans joined to their likeliest antecedents, those of none
    and without followers apart. Clusters are numbered by document."""
    best, reach = links.scores.argmax(1).tolist(), links.scores.shape[1] - 1
    first = list(range(len(best)))  # of its cluster
    for i, column in enumerate(best):
        if column:
            first[i] = first[i - 1 - reach + column]
    size = Counter(first)
    row, width = links.spans.unbind(1)
    places = torch.stack([batch["word_sentence"][row], batch["word_index"][row], width + 1, batch["document"][row]], 1)
    numbers: dict[int, dict[int, int]] = {}
    found: list[list[tuple[int, int, int]]] = [[] for _ in range(len(batch))]
    for begun, (sentence, start, words, document) in zip(first, places.tolist(), strict=True):
        if size[begun] > 1:
            known = numbers.setdefault(document, {})
            found[sentence].append((start, start + words, known.setdefault(begun, len(known))))
    return [tuple(mentions) for mentions in found]
