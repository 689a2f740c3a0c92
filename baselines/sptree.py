"""SPTree: entities by a sequence LSTM, relations by LSTMs along the shortest path in the dependency tree.

Miwa and Bansal, ACL 2016, sections 3.2 (words), 3.3 (entities), 3.4 and 3.5 (dependencies, relations); details follow
the released code (tticoin/LSTM-ER, commit bd57d06), which was read, not run.

What differs from the released code:
- Words are the encoder's states of their first pieces. The released 200-dimensional vectors, and with them the unknown
  word, are not to be had.
- Parts of speech and dependencies are those of spaCy's small English pipeline, ClearNLP's labels (`sinet.data.parse`);
  the released ones are Stanford's basic dependencies. A sentence is one tree; of a parse with several, the words of two
  trees have no path, and as released the tree's part of their pair is zero.
- Before the first word stands the label O.
- Of overlapping gold entities the one that starts first is tagged, the longer of two.
- A pair is labelled with a relation where both entities are right, with their types, else None; the later annotated
  where there are several. A symmetric relation has its left argument as head.
- At most `max_arguments` entities of a sentence are paired, the likeliest by the product of its labels' probabilities.
- A step is a batch of sentences, its loss a mean over them; released are single sentences.
- A chain of words is run once for all pairs that share it, all chains of a batch word by word: same figures.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from baselines._tree_lstm import Cell, PathLSTM
from baselines.settings import SPTree
from sinet.contract import Batch, Extractor, Labels, Prediction, Sentence
from sinet.encoders.encoder import Encoder
from sinet.model import spans as S
from sinet.model.concat import ConcatLinear
from sinet.model.trees import TAGS, tree_tensors

BEGIN, LAST, UNIT = 0, 2, 3
"""Of the roles B, I, L, U of a word in an entity; label 1 + 4 type + role, O is 0."""


class System(Extractor):
    """SPTree."""

    Settings = SPTree
    settings: SPTree
    follows: Tensor
    """Which labels (labels) may follow each label (labels)."""
    opens: Tensor
    """Labels (labels) that the last word of a sentence cannot have: B and I."""
    mirror: Tensor
    """The class of each class of pairs (classes), None, types >, types <, read the other way round."""
    citation = "Miwa and Bansal, ACL 2016: End-to-End Relation Extraction using LSTMs on Sequences and Tree Structures"
    test_settings: ClassVar[dict] = {
        **{"pos_size": 8, "label_size": 8, "dependency_size": 8, "word_size": 16, "tree_size": 16, "hidden_size": 32},
        "max_arguments": 8,
    }
    released_form = "the chains of every pair by themselves, and layers over concatenations"

    def __init__(self, labels: Labels, encoder: Encoder, **settings: Any) -> None:
        super().__init__(labels, encoder, **settings)
        s = self.settings
        types, relations = len(labels.entity_types), len(labels.relation_types)
        self.pos = nn.Embedding(len(TAGS), s.pos_size)
        self.label = nn.Embedding(1 + 4 * types, s.label_size)
        self.word_forward = Cell(encoder.hidden_size + s.pos_size, size=s.word_size)
        self.word_backward = Cell(encoder.hidden_size + s.pos_size, size=s.word_size)
        self.label_word = nn.Linear(2 * s.word_size, s.hidden_size)
        self.label_before = nn.Linear(s.label_size, s.hidden_size, bias=False)
        self.label_output = nn.Linear(s.hidden_size, 1 + 4 * types)
        self.path = PathLSTM(2 * s.word_size, s.label_size, s.dependency_size, s.tree_size)
        pair = (2 * s.word_size, 2 * s.word_size, s.tree_size, s.tree_size, s.tree_size)
        self.pair_hidden = ConcatLinear(*pair, outputs=s.hidden_size)
        self.pair_output = nn.Linear(s.hidden_size, 1 + 2 * relations)
        self.dropout = nn.Dropout(s.dropout)
        self.hidden_dropout = nn.Dropout(s.hidden_dropout)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and not name.startswith("encoder."):
                nn.init.xavier_uniform_(module.weight)
            elif isinstance(module, nn.Embedding) and not name.startswith("encoder."):
                # small beside a word's state: else the label before it would drown it for hundreds of steps
                nn.init.normal_(module.weight, std=0.1)
        of_type, role = torch.arange(4 * types).div(4, rounding_mode="floor"), torch.arange(4 * types) % 4
        opens, begins = F.pad(role < LAST, (1, 0)), F.pad((role == BEGIN) | (role == UNIT), (1, 0), value=True)
        same = F.pad(of_type.unsqueeze(1) == of_type, (1, 0, 1, 0))
        self.register_buffer("follows", torch.where(opens.unsqueeze(1), same & ~begins, begins), persistent=False)
        self.register_buffer("opens", opens, persistent=False)
        forth, back = torch.arange(1, 1 + relations), torch.arange(1 + relations, 1 + 2 * relations)
        self.register_buffer("mirror", torch.cat([torch.zeros(1).long(), back, forth]), persistent=False)

    def collate(self, sentences: Sequence[Sentence]) -> Batch:
        """Besides pieces, gold spans and pairs, the trees (`heads`, `depths`, `dependencies`, `pos`; `tree_tensors`),
        and `tags` (batch, words), the gold label of every word."""
        pieces = self.encoder.collate(sentences)
        tags = torch.zeros(len(sentences), max(pieces.lengths), dtype=torch.long)
        for row, sentence, length in zip(tags, sentences, pieces.lengths, strict=True):
            for e in sorted(sentence.entities, key=lambda e: (e.start, -e.end)):
                if e.end <= length and not row[e.start : e.end].any():
                    first = 1 + 4 * self.labels.entity_types.index(e.type)
                    row[e.start : e.end] = first + 1
                    row[e.start], row[e.end - 1] = first + BEGIN, first + LAST
                    if e.end - e.start == 1:
                        row[e.start] = first + UNIT
        gold = S.gold_tensors(sentences, pieces.lengths, self.labels)
        return Batch(sentences, pieces.tensors() | gold | tree_tensors(sentences, pieces.lengths) | {"tags": tags})

    # -- words and entities --------------------------------------------------------------------------------

    def encode(self, batch: Batch) -> Tensor:
        """s_i = [forward ; backward] of every word, (words, 2 word_size)."""
        hidden = self.encoder(batch["input_ids"], batch["attention_mask"])
        hidden = hidden.flatten(0, 1).index_select(0, batch["word_start"])
        words = self.dropout(torch.cat([hidden, self.pos(batch["pos"])], dim=1))
        lengths, sentence = batch["lengths"], batch["word_sentence"]
        step = torch.arange(int(lengths.max()), device=lengths.device)
        first, last = (lengths.cumsum(0) - lengths).unsqueeze(1), lengths.cumsum(0).unsqueeze(1) - 1
        read = []
        for cell, rows, of in (
            (self.word_forward, first + step, batch["word_index"]),
            (self.word_backward, last - step, batch["words_left"] - 1),
        ):
            states, _, place = cell.along(cell.input(words).__getitem__, rows, lengths)
            read.append(states[place[sentence, of]])
        return torch.cat(read, dim=1)

    def label_words(self, words: Tensor, batch: Batch, fed: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The labels of `words` (words, 2 word_size), from left to right the best that may follow, and their logits
        (words, labels). Where `fed` (batch, longest) says so the gold label is taken instead, if it may follow."""
        lengths = batch["lengths"]
        seen = pad_sequence(self.label_word(words).split(lengths.tolist()), batch_first=True)
        label, labels, logits = torch.zeros_like(lengths), [], []
        for i in range(seen.shape[1]):
            hidden = torch.tanh(seen[:, i] + self.label_before(self.label(label)))
            scores = self.label_output(self.hidden_dropout(hidden)).float()
            fits = self.follows[label] & ~(self.opens & (lengths == i + 1).unsqueeze(1))
            label = scores.masked_fill(~fits, -torch.inf).argmax(1)
            if fed is not None:
                gold = batch["tags"][:, i]
                label = torch.where(fed[:, i] & fits.gather(1, gold.unsqueeze(1)).squeeze(1), gold, label)
            labels.append(label)
            logits.append(scores)
        real = torch.arange(seen.shape[1], device=lengths.device) < lengths.unsqueeze(1)
        return torch.stack(labels, dim=1)[real], torch.stack(logits, dim=1)[real]

    def entities(self, labels: Tensor, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The spans (entities, 2) of word rows that labels (words) spell, their types, None = 0, and scores: the
        products of the labels' probabilities."""
        inside, role = labels > 0, (labels - 1) % 4
        begins = inside & ((role == BEGIN) | (role == UNIT))
        first, last = begins.nonzero().squeeze(1), (inside & (role >= LAST)).nonzero().squeeze(1)
        likely = logits.log_softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1)
        scores = likely.new_zeros(len(first)).index_add(0, (begins.cumsum(0) - 1)[inside], likely[inside])
        return torch.stack([first, last + 1], dim=1), (labels[first] - 1) // 4 + 1, scores.exp()

    # -- relations -----------------------------------------------------------------------------------------

    def pairs(self, spans: Tensor, scores: Tensor, batch: Batch) -> Tensor:
        """Each two entities of a sentence, the left one first, (pairs, 2) positions in `spans`."""
        sentence = batch["word_sentence"].index_select(0, spans[:, 0])
        pairs = S.likeliest_pairs(sentence, scores, len(batch), self.settings.max_arguments)
        return pairs[pairs[:, 0] < pairs[:, 1]]

    def pair_logits(self, words: Tensor, labels: Tensor, ends: Tensor, pairs: Tensor, batch: Batch) -> Tensor:
        """Scores of None, every type > and every type <, (2, pairs, classes): read from left to right, and from right
        to left. `labels` (words); `ends` (ends), rows of words; `pairs` (pairs, 2), positions in `ends`."""
        if self.released:
            ends, pairs = ends[pairs].flatten(), torch.arange(2 * len(pairs), device=pairs.device).view(-1, 2)
        else:
            used, pairs = pairs.unique(return_inverse=True)
            ends = ends[used]
        up, down, down_of = self.path(words, self.label(labels), ends, pairs, batch)
        words = words[ends]
        joint = torch.arange(len(pairs), device=pairs.device).repeat(2)
        (left, right), (low_left, low_right) = (torch.cat([ends, ends.flip(1)]).unbind(1) for ends in (pairs, down_of))
        hidden = self.pair_hidden((words, left), (words, right), (down, low_left), (up, joint), (down, low_right))
        return self.pair_output(self.hidden_dropout(torch.tanh(hidden))).float().unflatten(0, (2, -1))

    # -- training and prediction ---------------------------------------------------------------------------

    def gold_classes(self, spans: Tensor, types: Tensor, pairs: Tensor, batch: Batch) -> Tensor:
        """The class of each pair (pairs), read from left to right: None where one of its entities is not annotated."""
        triples, relations = batch["gold_triples"], len(self.labels.relation_types)
        rows, classes = len(batch["word_index"]) + 1, len(self.labels.entity_types) + 1

        def key(spans: Tensor, types: Tensor) -> Tensor:
            return (spans[:, 0] * rows + spans[:, 1]) * classes + types

        left, right = key(spans, types)[pairs].unsqueeze(2).unbind(1)
        head, tail = key(batch["gold_spans"], batch["gold_types"])[triples[:, :2]].unbind(1)
        forth, back = (left == head) & (right == tail), (left == tail) & (right == head)
        symmetric = torch.tensor(
            [name in self.labels.symmetric for name in self.labels.relation_types], dtype=torch.bool
        )
        directed = ~symmetric.to(triples.device)[triples[:, 2]]
        found = torch.where(forth | back, 1 + triples[:, 2] + relations * (back & directed), 0)
        # the later annotated one counts
        number = torch.arange(1, 1 + len(triples), device=triples.device)
        latest = F.pad((found > 0) * number, (1, 0)).argmax(1, keepdim=True)
        return F.pad(found, (1, 0)).gather(1, latest).squeeze(1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropies of labels and, after `entity_epochs`, of both readings of pairs. Which labels are read,
        before a word and on the way between two, is scheduled: gold with probability k / (k + exp(epoch / k))."""
        words, tags, k = self.encode(batch), batch["tags"], self.settings.gold_decay
        chance = torch.tensor(math.log(k) - self.epoch / k).sigmoid()
        fed = torch.rand(tags.shape, device=tags.device) < chance.to(tags.device)
        labels, logits = self.label_words(words, batch, fed)
        gold = tags[batch["word_sentence"], batch["word_index"]]
        terms = {"entity": F.cross_entropy(logits, gold, reduction="sum")}
        spans, types, scores = self.entities(labels, logits.detach())
        pairs = self.pairs(spans, scores, batch)
        if self.epoch >= self.settings.entity_epochs and len(pairs):
            forth = self.gold_classes(spans, types, pairs, batch)
            both = self.pair_logits(words, labels, spans[:, 1] - 1, pairs, batch).flatten(0, 1)
            terms["relation"] = F.cross_entropy(both, torch.cat([forth, self.mirror[forth]]), reduction="sum")
        return terms

    def divisors(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Both terms are means over the sentences of a batch."""
        return dict.fromkeys(("entity", "relation"), sum(map(len, batches)))

    @torch.no_grad()
    def decode(self, batch: Batch) -> list[Prediction]:
        """Labels from left to right; then of each two entities what both readings say, or the one that does not say
        None, or of two that differ the one with the greater logit, whose probability is the score."""
        words = self.encode(batch)
        if batch.gold_entities:
            labels = batch["tags"][batch["word_sentence"], batch["word_index"]]
            gold = torch.cat([batch["gold_spans"], batch["gold_types"].unsqueeze(1)], dim=1).unique(dim=0)
            spans, types, scores = gold[:, :2], gold[:, 2], words.new_ones(len(gold), dtype=torch.float32)
        else:
            labels, logits = self.label_words(words, batch)
            spans, types, scores = self.entities(labels, logits)
        pairs = self.pairs(spans, scores, batch)
        related, likely = pairs.new_zeros(0, 3), scores.new_zeros(0)
        if len(pairs):
            readings = self.pair_logits(words, labels, spans[:, 1] - 1, pairs, batch)
            best, said = readings.max(2)
            reading = best.masked_fill(said == 0, -torch.inf).argmax(0, keepdim=True)
            said = torch.stack([said[0], self.mirror[said[1]]]).gather(0, reading).squeeze(0)
            likely = readings.softmax(2).amax(2).gather(0, reading).squeeze(0)
            found = said > 0
            pairs, said, likely = pairs[found], said[found] - 1, likely[found]
            relations = len(self.labels.relation_types)
            pairs = torch.where((said < relations).unsqueeze(1), pairs, pairs.flip(1))
            related = torch.cat([pairs, (said % max(1, relations)).unsqueeze(1)], dim=1)
        sentence, place = (batch[name].index_select(0, spans[:, 0]) for name in ("word_sentence", "word_index"))
        entities = torch.stack([sentence, place, place + spans[:, 1] - spans[:, 0], types], dim=1)
        return S.build_predictions(self.labels, len(batch), entities, scores, related, likely)
