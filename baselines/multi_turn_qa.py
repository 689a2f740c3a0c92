"""Multi-turn QA: entities and relations as answers to questions, found by one tagger.

Li et al., ACL 2019, section 4; details follow the released code (ShannonAI/Entity-Relation-As-Multi-Turn-QA, commit
30e1ba8). Turn 1 asks for the entities of each type; turn 2 asks of each of them, as head, for the tails of every
relation and tail type that its type has in the training data. One linear layer tags the pieces of the sentence, which
the encoder reads behind each question: types + the sum over heads of (relation, tail type) passes a sentence.

What differs from the released code:
- A sentence is read alone, without a title and in one piece (released: windows of 300 pieces over a passage). What lies
  beyond the encoder behind a question is not read; `truncated_words` counts it for turn 1.
- Triples of types are counted in the training data (`counts`; released: in the code); before any, all are asked for.
- An answer that cuts a word is the whole word. One that ends on a marker is dropped (released: shifted), and a relation
  of an entity with itself. Of nested answers the longest are tagged in training. Answers of turn 2 are entities, too: a
  relation here is between entities (released: turn 1 alone is scored).
- A symmetric relation is asked of its left argument in training; in prediction the answer of either is it. Of predicted
  entities the `max_heads` likeliest are asked about. An answer's score is the probability of the tags at its two ends.
- The released templates are the defaults, and ACE's; words for types (`names`), not at hand as released, and the
  questions of CoNLL04 and SciERC, one for each type and relation, are ours.
- A step may take sentences and a sample of their questions (`negative_questions`). The reinforcement learning of the
  paper (section 4.5) is not released, nor here.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines._questions import NO_TAG, Question, Wording, tagged_spans, tags_of
from baselines._two_models import extents
from baselines.settings import MultiTurnQA
from sinet.contract import Batch, Extractor, Labels, Prediction, Sentence
from sinet.encoders.encoder import Encoder
from sinet.model import spans as S
from sinet.model.weights import initialise_normal

TURNS = ("turn1", "turn2")


class System(Extractor):
    """Multi-turn QA."""

    Settings = MultiTurnQA
    settings: MultiTurnQA
    citation = "Li et al., ACL 2019: Entity-Relation Extraction as Multi-Turn Question Answering"
    test_settings: ClassVar[dict] = {"least_count": 1, "tails_to_the_right": False, "negative_questions": 4}
    counts: Tensor
    """How often each triple (types, relations, types) is annotated in the training data."""

    def __init__(self, labels: Labels, encoder: Encoder, **settings: Any) -> None:
        super().__init__(labels, encoder, **settings)
        types, relations = len(labels.entity_types), len(labels.relation_types)
        self.wording = Wording(labels, encoder, self.settings)
        self.dropout = nn.Dropout(self.settings.dropout)
        self.tag = nn.Linear(encoder.hidden_size, 5)
        self.register_buffer("counts", torch.full((types, relations, types), torch.iinfo(torch.int64).max))
        initialise_normal(self, "encoder.")

    def collate(self, sentences: Sequence[Sentence]) -> Batch:
        return S.collate(sentences, self.encoder, self.labels)

    def truncated_words(self, sentences: Sequence[Sentence]) -> int:
        """How many words of the sentences lie beyond what the longest question of turn 1 leaves of the encoder."""
        ends = (itertools.accumulate(map(len, self.encoder.word_pieces(s.tokens))) for s in sentences)
        # of a first word that is too long by itself the beginning is read
        return sum(end > self._room() for of_sentence in ends for end in itertools.islice(of_sentence, 1, None))

    def _room(self) -> int:
        """Word pieces of a sentence that the longest question of turn 1 leaves."""
        questions = self.wording(torch.arange(len(self.labels.entity_types)))
        return self.encoder.max_pieces - 3 - int(self.wording.pieces(questions).max())

    def tag_logits(self, ids: Tensor, mask: Tensor, types: Tensor) -> Tensor:
        """(questions, pieces, tags) of questions, see `Asked`."""
        return self.tag(self.dropout(self.encoder(ids, mask, token_type_ids=types))).float()

    # -- training ------------------------------------------------------------------------------------------

    def gold(self, sentence: Sentence, words: int) -> tuple[list[tuple[int, int, int]], dict[tuple, list]]:
        """The entities (type, start, end) of a sentence, of which so many words are read, in the order of the text; and
        of each question that has an answer, by what it asks for, the answers."""
        kinds = {name: i for i, name in enumerate(self.labels.entity_types)}
        relations = {name: i for i, name in enumerate(self.labels.relation_types)}
        entities = [(kinds[e.type], e.start, e.end) for e in sentence.entities]
        read = sorted({e for e in entities if e[2] <= words}, key=lambda e: (e[1:], e[0]))
        answers: dict[tuple, list[tuple[int, ...]]] = {}
        for entity in read:
            answers.setdefault((entity[0], -1, None), []).append(entity[1:])
        for r in sentence.relations:
            head, tail = entities[r.head], entities[r.tail]
            if r.type in self.labels.symmetric and tail[1] < head[1]:
                head, tail = tail, head
            if max(head[2], tail[2]) <= words:
                answers.setdefault((tail[0], relations[r.type], head), []).append(tail[1:])
        return read, answers

    def questions(self, sentence: Sentence, words: int) -> list[Question]:
        """All questions of a sentence, of which so many words are read: turn 1, then for each head what has a count;
        with `tails_to_the_right` only for types of entities that start behind it, near enough."""
        before = list(itertools.accumulate(map(len, self.encoder.word_pieces(sentence.tokens)), initial=0))
        entities, counts = self.gold(sentence, words)[0], self.counts.cpu()
        asked = [Question(sentence, kind) for kind in range(len(self.labels.entity_types))]
        for head in entities:
            start, anywhere = before[head[1]], not self.settings.tails_to_the_right
            near = {e[0] for e in entities if start < before[e[1]] <= start + self.settings.max_distance}
            triples = counts[head[0]].nonzero().tolist()
            asked += [Question(sentence, tail, r, head) for r, tail in triples if anywhere or tail in near]
        return asked

    def training_items(self, sentences: Sequence[Sentence]) -> Sequence:
        """Questions, or where negatives are drawn sentences. The triples of these sentences are counted."""
        lengths = self.encoder.collate(sentences).lengths if sentences else []
        counts = torch.zeros_like(self.counts, device="cpu")
        for sentence, words in zip(sentences, lengths, strict=True):
            for (tail, relation, head), answers in self.gold(sentence, words)[1].items():
                if head:
                    counts[head[0], relation, tail] += len(answers)
        self.counts.copy_(counts)
        if self.settings.negative_questions:
            return sentences
        return [q for sentence, words in zip(sentences, lengths, strict=True) for q in self.questions(sentence, words)]

    def item_lengths(self, items: Sequence) -> list[int]:
        """Word pieces of the sentence of each training item."""
        return self.encoder.piece_counts([item.sentence if isinstance(item, Question) else item for item in items])

    def training_batch(self, items: Sequence) -> Batch:
        """Of questions, or of sentences those with an answer and of each turn `negative_questions` others, each
        (questions, pieces): `turn1_input_ids`, `turn1_attention_mask`, `turn1_token_type_ids`, `turn1_tags` and
        `turn2_input_ids`, `turn2_attention_mask`, `turn2_token_type_ids`, `turn2_tags`, which are -100 but at [CLS] and
        in the sentence. A turn without a question has none."""
        of_questions = isinstance(items[0], Question)
        homes = {id(s): s for s in (item.sentence if of_questions else item for item in items)}
        batch, number = self.collate(list(homes.values())), {home: i for i, home in enumerate(homes)}
        answers = [self.gold(s, n)[1] for s, n in zip(batch.sentences, batch["lengths"].tolist(), strict=True)]
        questions = list(items) if of_questions else self._drawn(batch, answers)
        begin = (batch["lengths"].cumsum(0) - batch["lengths"]).tolist()

        def columns(sentence: int, spans: Sequence[tuple[int, int]]) -> list[list[int]]:
            rows = [[begin[sentence] + start, begin[sentence] + end] for start, end in spans]
            return extents(batch, torch.tensor(rows).view(-1, 2).long())[1].tolist()

        for turn, name in enumerate(TURNS):
            asks = [(number[id(q.sentence)], q) for q in questions if bool(q.head) == turn]
            if not asks:
                continue
            heads = [(n, q.head) for n, q in asks if q.head]
            kinds = [[q.tail for _, q in asks]]
            kinds += [[q.relation for _, q in asks], [head[0] for _, head in heads]] * turn
            extent = [torch.tensor([columns(n, [head[1:]])[0] for n, head in heads])] * turn
            phrases = self.wording(*map(torch.tensor, kinds))
            asked = self.wording.asked(batch, torch.tensor([n for n, _ in asks]), phrases, *extent)
            tags = tags_of([columns(n, answers[n].get(q[1:], [])) for n, q in asks], asked.column)
            made = {"input_ids": asked.ids, "attention_mask": asked.mask, "token_type_ids": asked.types, "tags": tags}
            batch.tensors |= {f"{name}_{what}": tensor for what, tensor in made.items()}
        return batch

    def _drawn(self, batch: Batch, answers: Sequence[dict]) -> list[Question]:
        """Of each sentence the questions with an answer and, of each turn, `negative_questions` others."""
        drawn = []
        for sentence, words, answered in zip(batch.sentences, batch["lengths"].tolist(), answers, strict=True):
            questions = self.questions(sentence, words)
            drawn += [q for q in questions if q[1:] in answered]
            for turn in range(2):
                others = [q for q in questions if bool(q.head) == turn and q[1:] not in answered]
                chosen = torch.randperm(len(others))[: self.settings.negative_questions]
                drawn += [others[i] for i in chosen.tolist()]
        return drawn

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of the tags of each turn, weighted."""
        terms, weight = {}, self.settings.turn_weight
        for turn, share in zip(TURNS, (weight, 1 - weight), strict=True):
            if f"{turn}_tags" in batch.tensors:
                asked = (batch[f"{turn}_{what}"] for what in ("input_ids", "attention_mask", "token_type_ids"))
                logits, tags = self.tag_logits(*asked), batch[f"{turn}_tags"]
                terms[turn] = share * F.cross_entropy(logits.flatten(0, 1), tags.flatten(), reduction="sum")
        return terms

    def divisors(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Each turn is averaged over the tagged pieces of all its questions."""
        tags = {turn: [b[f"{turn}_tags"] for b in batches if f"{turn}_tags" in b.tensors] for turn in TURNS}
        return {turn: sum(int((t != NO_TAG).sum()) for t in of_turn) for turn, of_turn in tags.items()}

    # -- prediction ----------------------------------------------------------------------------------------

    def answers(self, batch: Batch, *asks: Tensor) -> Iterable[Tensor]:
        """The answers to questions (`Wording.asked`), as many at a time as have `pieces_at_once`, those of equal length
        together: the question of each (answers), its word rows (answers, 2) and score (answers)."""
        sentence, phrases, *extent = asks
        lengths = batch["attention_mask"].sum(1)[sentence] + 1 + self.wording.pieces(phrases)
        lengths = lengths + sum(ends[:, 1] - ends[:, 0] + 3 for ends in extent)
        word = torch.zeros_like(batch["input_ids"])
        word.view(-1)[batch["word_start"]] = torch.arange(len(batch["word_start"]), device=word.device)
        word.view(-1)[batch["later_pieces"]] = batch["later_words"]
        found, size = [], max(1, self.settings.pieces_at_once // int(lengths.max()))
        for part in lengths.argsort(descending=True, stable=True).split(size):
            home, asked = sentence[part], self.wording.asked(batch, *(of_all[part] for of_all in asks))
            likely, tags = self.tag_logits(asked.ids, asked.mask, asked.types).softmax(-1).max(-1)
            row, first, last = tagged_spans(tags, asked.column >= 0)
            scores = likely[row, first] * likely[row, last].masked_fill(first == last, 1.0)
            start, end = asked.column[row, first], asked.column[row, last]
            spans = torch.stack([word[home[row], start], word[home[row], end] + 1], dim=1)
            at_words = (start > 0) & (end > 0)  # and not at a marker
            found.append((part[row[at_words]], spans[at_words], scores[at_words]))
        return map(torch.cat, zip(*found, strict=True))

    @torch.no_grad()
    def decode(self, batch: Batch) -> list[Prediction]:
        """Turn 1 asks every sentence for all types, turn 2 every head for all triples with the `least_count`. Of given
        entities turn 2 alone asks, and answers that are none of them do not count."""
        types = len(self.labels.entity_types)
        if batch.gold_entities:
            entities = torch.cat([batch["gold_spans"], batch["gold_types"].unsqueeze(1) - 1], dim=1)
            scores = torch.ones(len(entities), device=entities.device)
        else:
            every = torch.arange(len(batch) * types, device=self.counts.device)
            question, spans, scores = self.answers(batch, every // types, self.wording(every % types))
            entities = torch.cat([spans, (question % types).unsqueeze(1)], dim=1)
        entities, _, scores = distinct(entities, scores)
        home, kind = batch["word_sentence"][entities[:, 0]], entities[:, 2]
        likeliest = scores.argsort(descending=True, stable=True)
        limits = torch.full((len(batch),), self.settings.max_heads, device=home.device)
        heads = likeliest[S.first_per_group(home[likeliest], limits)]
        head, relation, tail = (self.counts[kind[heads]] >= self.settings.least_count).nonzero(as_tuple=True)
        head, tails, likely = heads[head], entities[:0], scores[:0]
        if len(head):
            extent = extents(batch, entities[head, :2])[1]
            question, spans, likely = self.answers(batch, home[head], self.wording(tail, relation, kind[head]), extent)
            head, relation, tails = head[question], relation[question], torch.cat([spans, tail[question, None]], dim=1)
        whole, place, best = distinct(torch.cat([entities, tails]), torch.cat([scores, likely]))
        given, tail = place[: len(entities)], place[len(entities) :]
        kept = given if batch.gold_entities else torch.arange(len(whole), device=home.device)
        related = (given[head] != tail) & torch.isin(tail, kept)
        ends = torch.bucketize(torch.stack([given[head], tail], dim=1), kept)
        triples, _, likely = distinct(torch.cat([ends, relation.unsqueeze(1)], dim=1)[related], likely[related])
        spans, kinds = whole[kept, :2], whole[kept, 2:] + 1
        first = batch["word_index"][spans[:, :1]]
        where = [batch["word_sentence"][spans[:, :1]], first, first + spans[:, 1:] - spans[:, :1], kinds]
        return S.build_predictions(self.labels, len(batch), torch.cat(where, dim=1), best[kept], triples, likely)


def distinct(rows: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The distinct ones of some rows (rows, columns) in ascending order, which of them each is (rows), and the best
    score of each."""
    known, which = rows.unique(dim=0, return_inverse=True)
    return known, which, scores.new_zeros(len(known)).scatter_reduce(0, which, scores, "amax")
