"""Systems without released figures, against short calculations written from the equations in NumPy, by loops."""

import copy
import json
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from baselines import _coupled_lstm as coupled_lstm
from baselines import (
    dygie,
    dygiepp,
    pfn,
    plmarker,
    pure,
    sciie,
    span_aste,
    span_multihead,
    spe,
    sptree,
    table_sequence,
    unire,
)
from baselines._cache import TensorCache
from baselines._coreference import without_crossing
from baselines._coupled_lstm import sweep as coupled_sweep
from baselines._partition_recurrence import sweep as partition_sweep
from baselines._segments import SpanConvolutions
from baselines._table_recurrence import Order, TableRecurrence, sweep, sweep_multiply_adds, traced_sweep
from sinet.contract import Batch, Extractor, Labels, Sentence
from sinet.data import parse
from sinet.data.sentence import Entity, Relation, read_sentences
from sinet.efficiency import flops
from sinet.efficiency.flops import as_released
from sinet.encoders.encoder import Encoder
from sinet.infer import extract
from tests.conftest import CORPUS, LABELS, REVIEWS, ROLES, set_on

PFN_THRESHOLDS = ("entity_threshold", "threshold")


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


class Weights:
    """A model's weights in float64; `linear(name, x)` is the named layer."""

    def __init__(self, model: Extractor) -> None:
        self.state = {n: v.double().numpy() for n, v in model.state_dict().items() if v.is_floating_point()}

    def __getitem__(self, name: str) -> np.ndarray:
        return self.state[name]

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        bias = self.state.get(f"{name}.bias", 0.0)
        return self.state[f"{name}.weight"] @ x + bias

    def feed_forward(self, name: str, x: np.ndarray) -> np.ndarray:
        """All linear layers of a sequence, each with ReLU."""
        numbers = sorted({int(n.split(".")[-2]) for n in self.state if n.startswith(f"{name}.")})
        for number in numbers:
            x = relu(self.linear(f"{name}.{number}", x))
        return x

    def network(self, name: str, x: np.ndarray) -> np.ndarray:
        """Two hidden layers with ReLU, and a last one without."""
        return self.linear(f"{name}.output", relu(self.linear(f"{name}.second", relu(self.linear(f"{name}.first", x)))))


def endpoints_and_width(w: Weights, hidden: np.ndarray, words: list, span: tuple[int, int]) -> np.ndarray:
    """[first word ; last word ; width] of a span, a word being the mean of its pieces."""
    a, b = span
    means = [hidden[slice(*words[i])].mean(0) for i in (a, b - 1)]
    return np.concatenate([*means, w["width.weight"][b - a - 1]])


def distance_bucket(distance: int) -> int:
    """0, 1, 2, 3, 4, 5-7, 8-15, 16-31, 32-63, 64 and more."""
    return distance if distance < 5 else min(9, int(np.log2(distance)) + 3)


def shuffled_weights(model: Extractor, std: float = 0.3) -> Extractor:
    """Weights large enough that every term of the equations matters."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("encoder."):
                parameter.normal_(std=std)
    return model.eval()


def sentence_arrays(model: Extractor, sentence: Sentence) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """The encoder's output (pieces, hidden) in float64 and the pieces [first, end) of every word."""
    batch = model.collate([sentence])
    with torch.no_grad():
        hidden = model.encoder(batch["input_ids"], batch["attention_mask"])[0].double().numpy()
    return hidden, list(zip(batch["word_start"].tolist(), batch["word_end"].tolist(), strict=True))


def all_spans(length: int, widest: int) -> list[tuple[int, int]]:
    return [(a, b) for a in range(length) for b in range(a + 1, min(length, a + widest) + 1)]


# -- Span-ASTE -----------------------------------------------------------------------------------------------------


def span_aste_by_hand(model: span_aste.System, sentence: Sentence) -> tuple[dict, list, list, dict, float]:
    """Type scores by span, spans kept as opinions and as targets, relation scores by pair of both, and the loss."""
    w, (hidden, words) = Weights(model), sentence_arrays(model, sentence)

    def represent(span: tuple[int, int]) -> np.ndarray:
        return endpoints_and_width(w, hidden, words, span)

    def bucket(one: tuple[int, int], other: tuple[int, int]) -> int:
        """Of the least distance of their ends, Xu et al. (2021), section 3.4."""
        distance = min(abs(other[0] - (one[1] - 1)), abs(one[0] - (other[1] - 1)))
        return distance_bucket(distance)

    spans = all_spans(len(sentence.tokens), model.settings.max_span_width)
    entity = {s: w.network("entity", represent(s)) for s in spans}
    keep = int(np.ceil(model.settings.spans_per_word * len(sentence.tokens)))
    targets, opinions = (sorted(sorted(spans, key=lambda s: -softmax(entity[s])[k])[:keep]) for k in (1, 2))
    relation = {}
    for o in opinions:
        for t in targets:
            parts = [represent(o), represent(t), w["distance.weight"][bucket(o, t)]]
            relation[o, t] = w.network("relation", np.concatenate(parts))
    gold = {(e.start, e.end): ROLES.entity_types.index(e.type) + 1 for e in sentence.entities}
    related = {}
    for r in sentence.relations:
        target, opinion = ((sentence.entities[i].start, sentence.entities[i].end) for i in (r.head, r.tail))
        related[opinion, target] = ROLES.relation_types.index(r.type) + 1
    loss = -sum(np.log(softmax(entity[s]))[gold.get(s, 0)] for s in spans)
    loss -= sum(np.log(softmax(scores))[related.get(pair, 0)] for pair, scores in relation.items())
    return entity, opinions, targets, relation, loss


def span_aste_model(encoder: Encoder) -> span_aste.System:
    settings = span_aste.System.test_settings | {"spans_per_word": 0.5}
    return shuffled_weights(span_aste.System(ROLES, encoder, **settings))


LONG_REVIEW = Sentence("long", ("neural", "parsers", "use", "a", "treebank") * 16)


@pytest.mark.parametrize("number", range(11))
def test_span_aste_follows_its_equations(number, tiny_encoder):
    """Alone, and at the end of a batch."""
    sentences = [*read_sentences(REVIEWS), LONG_REVIEW]
    sentence, model = sentences[number], span_aste_model(tiny_encoder)
    entity, opinions, targets, relation, loss = span_aste_by_hand(model, sentence)
    for before in ([], sentences[:3]):
        batch, first = model.collate([*before, sentence]), sum(len(s.tokens) for s in before)
        with torch.no_grad():
            ours = model.scores(batch)
            alone = float(model.loss(batch)) - (float(model.loss(model.collate(before))) if before else 0.0)
        assert alone == pytest.approx(loss, rel=1e-4, abs=2e-3 if before else 1e-6)
        here = ours.fits & (torch.arange(len(ours.fits)) >= first).unsqueeze(1)
        assert [(a - first, a - first + k + 1) for a, k in here.nonzero().tolist()] == list(entity)
        assert np.allclose(ours.entity[here].numpy(), np.stack(list(entity.values())), atol=1e-4)
        kept = [[(a - first, a - first + k + 1) for a, k in of.tolist()] for of in (ours.opinions, ours.targets)]
        assert [[span for span in of if span[0] >= 0] for of in kept] == [opinions, targets]
        pairs = [(kept[0][o], kept[1][t]) for o, t in ours.pairs.tolist()]
        mine = [i for i, (o, _) in enumerate(pairs) if o[0] >= 0]
        assert [pairs[i] for i in mine] == list(relation)
        assert np.allclose(ours.relation[mine].numpy(), np.stack(list(relation.values())), atol=2e-4, rtol=1e-4)


def test_span_aste_decodes_its_likeliest_triplets(tiny_encoder):
    """The arguments of a triplet are entities of its roles, whatever their likeliest type; a span may be both."""
    sentences, model = [*read_sentences(REVIEWS), LONG_REVIEW], span_aste_model(tiny_encoder)
    with torch.no_grad():
        model.relation.output.bias[0] += 3.0  # so that most pairs are none
    both = added = 0
    for sentence, found in zip(sentences, model.decode(model.collate(sentences)), strict=True):
        entity, _, _, relation, _ = span_aste_by_hand(model, sentence)
        triplets = {
            (t, o, ROLES.relation_types[scores.argmax() - 1]): softmax(scores).max()
            for (o, t), scores in relation.items()
            if scores.argmax()
        }
        typed = {(s, int(scores.argmax())) for s, scores in entity.items() if scores.argmax()}
        roles = {(span, kind) for t, o, _ in triplets for kind, span in ((1, t), (2, o))}
        ours = [((e.start, e.end), ROLES.entity_types.index(e.type) + 1) for e in found.entities]
        assert len(set(ours)) == len(ours) and set(ours) == typed | roles
        expected = [softmax(entity[span])[kind] for span, kind in ours]
        assert [e.score for e in found.entities] == pytest.approx(expected, abs=1e-4)
        scores = {(ours[r.head], ours[r.tail], r.type): r.score for r in found.relations}
        assert len(scores) == len(found.relations)
        assert scores == pytest.approx({((t, 1), (o, 2), k): p for (t, o, k), p in triplets.items()}, abs=1e-4)
        both, added = both + len(ours) - len({span for span, _ in ours}), added + len(roles - typed)
    assert both and added


def test_span_aste_prunes_without_a_gradient(tiny_encoder):
    model = span_aste_model(tiny_encoder)
    model.losses(model.collate(read_sentences(REVIEWS)))["relation"].backward()
    assert all(p.grad is None for p in model.entity.parameters()) and model.distance.weight.grad.any()


def test_span_aste_draws_its_weights_by_xavier(tiny_encoder):
    """Embeddings, too, from a normal distribution; the encoder's stay."""
    before = {name: weight.clone() for name, weight in tiny_encoder.state_dict().items()}
    torch.manual_seed(1)
    model = span_aste.System(ROLES, tiny_encoder)
    named = ((n, w.detach()) for n, w in model.named_parameters() if not n.startswith("encoder."))
    weights = {name: weight for name, weight in named if name.endswith("weight")}
    assert {"width.weight", "distance.weight", "entity.first.weight", "relation.output.weight"} <= set(weights)
    for name, weight in weights.items():
        expected = (2 / sum(weight.shape)) ** 0.5
        assert float(weight.std()) == pytest.approx(expected, rel=4 / (2 * weight.numel()) ** 0.5), name
        assert weight.numel() < 1000 or float(weight.abs().max()) > 2.5 * expected, f"{name} is uniform"
    assert all(torch.equal(weight, before[name]) for name, weight in tiny_encoder.state_dict().items())


# -- DyGIE++ -------------------------------------------------------------------------------------------------------


def dygie_by_hand(model: dygiepp.System, sentence: Sentence) -> tuple[dict, list, dict, float]:
    """Entity scores by span, kept spans, relation scores by pair of spans, and the loss."""
    w, (hidden, words) = Weights(model), sentence_arrays(model, sentence)

    def represent(span: tuple[int, int]) -> np.ndarray:
        return endpoints_and_width(w, hidden, words, span)

    spans = all_spans(len(sentence.tokens), model.settings.max_span_width)
    entity = {s: np.concatenate([[0.0], w.network("entity", represent(s))]) for s in spans}
    mention = {s: w.network("mention", represent(s))[0] for s in spans}
    keep = max(1, int(np.ceil(model.settings.spans_per_word * len(sentence.tokens))))
    kept = sorted(sorted(spans, key=lambda s: -mention[s])[:keep])
    relation = {}
    for i in kept:
        for j in kept:
            g, h = represent(i), represent(j)
            scores = w.network("relation", np.concatenate([g, h, g * h])) + mention[i] + mention[j]
            relation[i, j] = np.concatenate([[0.0], scores])

    gold = {(e.start, e.end): LABELS.entity_types.index(e.type) + 1 for e in sentence.entities}
    related = {}
    for r in sentence.relations:
        head, tail = ((sentence.entities[i].start, sentence.entities[i].end) for i in (r.head, r.tail))
        related[head, tail] = LABELS.relation_types.index(r.type) + 1
    loss = -model.settings.entity_weight * sum(np.log(softmax(entity[s]))[gold.get(s, 0)] for s in spans)
    loss -= sum(np.log(softmax(scores))[related.get(pair, 0)] for pair, scores in relation.items())
    return entity, kept, relation, loss


@pytest.mark.parametrize("number", range(10))
def test_dygiepp_follows_its_equations(number, tiny_encoder):
    sentence = read_sentences(CORPUS)[number]
    model = shuffled_weights(
        dygiepp.System(LABELS, tiny_encoder, **dygiepp.System.test_settings | {"spans_per_word": 0.5})
    )
    entity, kept, relation, loss = dygie_by_hand(model, sentence)
    batch = model.collate([sentence])
    with torch.no_grad():
        ours, fits, ours_kept, pairs, scores, _ = model.scores(batch)
        assert float(model.loss(batch)) == pytest.approx(loss, rel=1e-4)
    assert [(a, a + k + 1) for a, k in fits.nonzero().tolist()] == list(entity)
    assert np.allclose(ours[fits].numpy(), np.stack(list(entity.values())), atol=1e-4)
    ours_kept = [(a, a + k + 1) for a, k in ours_kept.tolist()]
    assert ours_kept == kept
    assert [(ours_kept[i], ours_kept[j]) for i, j in pairs.tolist()] == list(relation)
    if relation:
        assert np.allclose(scores.numpy(), np.stack(list(relation.values())), atol=2e-4, rtol=1e-4)


def test_dygiepp_keeps_its_share_of_every_sentence(tiny_encoder):
    sentences = read_sentences(CORPUS)
    model = shuffled_weights(
        dygiepp.System(LABELS, tiny_encoder, **dygiepp.System.test_settings | {"spans_per_word": 0.5})
    )
    with torch.no_grad():
        kept = model.scores(model.collate(sentences))[2]
    first = np.cumsum([0] + [len(s.tokens) for s in sentences])
    home = np.searchsorted(first, kept[:, 0].numpy(), side="right") - 1
    for b, sentence in enumerate(sentences):
        alone = dygie_by_hand(model, sentence)[1]
        assert [(int(a - first[b]), int(a + k + 1 - first[b])) for a, k in kept[home == b].tolist()] == alone


def test_dygiepp_prunes_no_given_entity(tiny_encoder):
    sentences = read_sentences(CORPUS)
    model = shuffled_weights(
        dygiepp.System(LABELS, tiny_encoder, **dygiepp.System.test_settings | {"spans_per_word": 0.5})
    )
    batch = model.collate(sentences)
    gold = {(start, end - start - 1) for start, end in batch["gold_spans"].tolist() if end - start <= 4}
    kept = []
    for batch.gold_entities in (False, True):
        with torch.no_grad():
            kept.append({(start, width) for start, width in model.scores(batch)[2].tolist()})
    assert not gold <= kept[0] and gold <= kept[1] and len(kept[0]) == len(kept[1])


# -- SPAN Multi-Head -----------------------------------------------------------------------------------------------


class SpanByHand:
    """Section 3 of the paper for one sentence."""

    def __init__(self, model: span_multihead.System, sentence: Sentence) -> None:
        self.w, self.heads = Weights(model), model.sentence_context.heads
        self.hidden, self.words = sentence_arrays(model, sentence)
        self.sentence = self.hidden[:-1]  # [CLS] and pieces, no [SEP]

    def multi_head(self, name: str, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        w = self.w
        size = len(w[f"{name}.value.bias"])
        if not len(rows):
            return np.zeros(size)
        q = w.feed_forward(f"{name}.query", query).reshape(self.heads, -1)
        k = np.stack([w.feed_forward(f"{name}.key", row).reshape(self.heads, -1) for row in rows])
        v = np.stack([w.linear(f"{name}.value", row).reshape(self.heads, -1) for row in rows])
        out = []
        for h in range(self.heads):
            weights = softmax(k[:, h] @ q[h] / np.sqrt(q.shape[1]))
            out.append(weights @ v[:, h])
        return np.concatenate(out)

    def span(self, span: tuple[int, int]) -> np.ndarray:
        """R_s = [T_s ; F_s ; H_s ; W_k]."""
        a, b = span
        rows = self.hidden[self.words[a][0] : self.words[b - 1][1]]
        scores = [self.w.linear("span_weight.3", relu(self.w.linear("span_weight.0", row)))[0] for row in rows]
        specific = softmax(np.array(scores)) @ rows
        context = self.multi_head("sentence_context", specific, self.sentence)
        return np.concatenate([context, specific, rows[0], rows[-1], self.w["width.weight"][b - a]])

    def entity_logits(self, span: tuple[int, int]) -> np.ndarray:
        return self.w.linear("entity_output", relu(self.w.linear("entity_hidden", self.span(span))))

    def relation_logits(self, head: tuple[int, int], tail: tuple[int, int]) -> np.ndarray:
        w = self.w
        both = np.concatenate([w.feed_forward("reduce", self.span(s)) for s in (head, tail)])
        begin, end = self.words[min(head[1], tail[1]) - 1][1], self.words[max(head[0], tail[0])][0]
        local = self.multi_head("local_context", both, self.hidden[begin:end] if begin < end else self.hidden[:0])
        full = self.multi_head("full_context", both, self.sentence)
        parts = [both, w.feed_forward("local_reduce", local), w.feed_forward("full_reduce", full)]
        return w.linear("relation.3", relu(w.linear("relation.0", np.concatenate(parts))))


@pytest.fixture
def span_model(tiny_encoder) -> span_multihead.System:
    settings = span_multihead.System.test_settings | {"negative_ratio": 10**6}
    return shuffled_weights(span_multihead.System(LABELS, tiny_encoder, **settings))


def test_span_multihead_follows_its_equations(span_model):
    sentences = read_sentences(CORPUS)[:4]
    batch = span_model.collate(sentences)
    first = [0, *np.cumsum([len(s.tokens) for s in sentences]).tolist()]
    # distant, adjacent, nested and overlapping arguments, in both orders
    local = [((0, 1), (3, 5)), ((3, 5), (0, 1)), ((0, 2), (2, 3)), ((1, 4), (2, 3)), ((0, 3), (2, 4))]
    spans = [(a + first[b], e + first[b]) for b in range(4) for pair in local for a, e in pair]
    with torch.no_grad():
        states = span_model.encode(batch)
        rows = torch.tensor(spans)
        specific = states["specific"][rows[:, 0], rows[:, 1] - rows[:, 0] - 1]
        context = span_model.context(states, specific, torch.tensor([2 * len(local)] * 4))
        entity = span_model.entity_logits(states, rows, specific, context)
        pairs = torch.arange(len(rows)).view(-1, 2)
        relation = span_model.pair_logits(batch, states, rows, specific, context, pairs)
    for b, sentence in enumerate(sentences):
        by_hand = SpanByHand(span_model, sentence)
        for i, (head, tail) in enumerate(local):
            number = b * len(local) + i
            for row, span in ((2 * number, head), (2 * number + 1, tail)):
                assert np.allclose(entity[row].numpy(), by_hand.entity_logits(span), atol=1e-3, rtol=1e-4)
            assert np.allclose(relation[number].numpy(), by_hand.relation_logits(head, tail), atol=1e-3, rtol=1e-4)


def test_span_multihead_loss_is_the_weighted_mean_over_its_candidates(span_model):
    """With room for every negative no chance is left."""
    sentence = read_sentences(CORPUS)[3]
    by_hand = SpanByHand(span_model, sentence)
    gold = {(e.start, e.end): LABELS.entity_types.index(e.type) + 1 for e in sentence.entities}
    spans = all_spans(len(sentence.tokens), span_model.settings.max_span_width)
    entity = -np.mean([np.log(softmax(by_hand.entity_logits(s)))[gold.get(s, 0)] for s in spans])
    arguments = [(e.start, e.end) for e in sentence.entities]
    related = {}
    for r in sentence.relations:
        head, tail = arguments[r.head], arguments[r.tail]
        if r.type in LABELS.symmetric and tail < head:
            head, tail = tail, head
        related.setdefault((head, tail), np.zeros(len(LABELS.relation_types)))[LABELS.relation_types.index(r.type)] = 1
    terms = []
    for head in arguments:
        for tail in arguments:
            pair = (head, tail)
            if head != tail:
                p = 1 / (1 + np.exp(-by_hand.relation_logits(*pair)))
                target = related.get(pair, np.zeros(len(p)))
                terms.append(-(target * np.log(p) + (1 - target) * np.log(1 - p)))
    with torch.no_grad():
        loss = float(span_model.loss(span_model.training_batch([sentence])))
    assert loss == pytest.approx(0.4 * entity + 0.6 * np.mean(terms), rel=1e-3)


def test_span_multihead_draws_as_many_negatives_as_its_ratio_allows(tiny_encoder):
    model = span_multihead.System(LABELS, tiny_encoder, **span_multihead.System.test_settings | {"negative_ratio": 2})
    drawn = []
    model.entity_output.register_forward_hook(lambda _, inputs, out: drawn.append(len(out)))
    sentences = read_sentences(CORPUS)
    model.loss(model.training_batch(sentences))
    assert drawn == [sum(3 * len(s.entities) for s in sentences)]


def test_gold_wider_than_the_candidates_is_left_out(tiny_encoder):
    wide = Sentence("wide", tuple("abcdefgh"), (Entity("Method", 0, 7), Entity("Task", 7, 8)))
    for system in (span_multihead.System, dygiepp.System):
        model = system(LABELS, tiny_encoder, **system.test_settings)
        assert model.loss(model.training_batch([wide])).item() > 0


# -- SPTree --------------------------------------------------------------------------------------------------------


def parsed_at_random(sentence: Sentence, number: int, roots: int = 1) -> Sentence:
    """The sentence with a random forest of so many trees (as far as its words go) over its words."""
    draw, words = np.random.default_rng(number), len(sentence.tokens)
    order = draw.permutation(words)
    heads = [-1] * words
    for place in range(roots, words):
        heads[order[place]] = int(order[draw.integers(place)])
    return replace(
        sentence,
        heads=tuple(heads),
        dependencies=tuple("ROOT" if head < 0 else str(draw.choice(parse.DEPENDENCIES[1:])) for head in heads),
        pos=tuple(map(str, draw.choice(parse.TAGS, words))),
    )


class TreesByHand:
    """Miwa and Bansal, ACL 2016, sections 3.2 to 3.5, for one sentence in float64, each LSTM by recursion."""

    def __init__(self, model: sptree.System, sentence: Sentence) -> None:
        self.w, self.sentence = Weights(model), sentence
        self.types, self.relations = model.labels.entity_types, model.labels.relation_types
        self.names = ["O", *(f"{role}-{kind}" for kind in self.types for role in "BILU")]
        hidden, pieces = sentence_arrays(model, sentence)
        x = [
            np.concatenate([hidden[first], self.w["pos.weight"][parse.TAGS.index(tag)]])
            for (first, _), tag in zip(pieces, sentence.pos, strict=False)
        ]
        self.length = len(x)
        size = self.w["word_forward.recurrent.weight"].shape[1]

        def sequence(name: str, words: list) -> list:
            states = [(np.zeros(size), np.zeros(size))]
            for word in words:
                states.append(self.cell(name, word, states[-1:]))
            return [h for h, _ in states[1:]]

        forward, backward = sequence("word_forward", x), sequence("word_backward", x[::-1])[::-1]
        self.s = [np.concatenate(both) for both in zip(forward, backward, strict=True)]

    def cell(self, name: str, x: np.ndarray, children: list) -> tuple[np.ndarray, np.ndarray]:
        """The printed equations: a gate i, o and input u of all children, a gate f for each child."""
        wi, wf, wo, wu = (
            part + bias
            for part, bias in zip(
                np.split(self.w[f"{name}.input.weight"] @ x, 4),
                np.split(self.w[f"{name}.input.bias"], 4),
                strict=True,
            )
        )
        ui, uf, uo, uu = np.split(self.w[f"{name}.recurrent.weight"], 4)
        i = sigmoid(wi + sum(ui @ h for h, _ in children))
        o = sigmoid(wo + sum(uo @ h for h, _ in children))
        u = np.tanh(wu + sum(uu @ h for h, _ in children))
        c = i * u
        for _, of_child in children:
            c = c + sigmoid(wf + sum(uf @ h for h, _ in children)) * of_child
        return o * np.tanh(c), c

    # -- entities

    def allowed(self, before: str, label: str, last: bool) -> bool:
        """BILOU: B and I are followed by I or L of their type alone, and no last word is B or I."""
        if before[0] in "BI" and (label[0] not in "IL" or label[2:] != before[2:]):
            return False
        if before[0] not in "BI" and label[0] in "IL":
            return False
        return not (last and label[0] in "BI")

    def tag(self, gold: list[str] | None = None, fed: list[bool] | None = None) -> tuple[list[str], list[np.ndarray]]:
        """The labels read from left to right, and all logits; `gold` is read at the words of `fed`, where allowed."""
        labels, logits, before = [], [], "O"
        for i, s in enumerate(self.s):
            seen = self.w.linear("label_word", s)
            seen = seen + self.w["label_before.weight"] @ self.w["label.weight"][self.names.index(before)]
            scores = self.w.linear("label_output", np.tanh(seen))
            fits = [self.allowed(before, name, i == self.length - 1) for name in self.names]
            chosen = max((n for n, ok in enumerate(fits) if ok), key=lambda n: scores[n])
            if gold is not None and fed[i] and fits[self.names.index(gold[i])]:
                chosen = self.names.index(gold[i])
            before = self.names[chosen]
            labels.append(before)
            logits.append(scores)
        return labels, logits

    def entities(self, labels: list[str], logits: list[np.ndarray]) -> dict[tuple[str, int, int], float]:
        """Spans with their types, each with the product of the probabilities of its labels."""
        found, start = {}, 0
        for i, label in enumerate(labels):
            start = i if label[0] in "BU" else start
            if label[0] in "LU":
                chances = [softmax(logits[k])[self.names.index(labels[k])] for k in range(start, i + 1)]
                found[label[2:], start, i + 1] = float(np.prod(chances))
        return found

    # -- relations

    def pair(self, left: int, right: int, labels: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Logits of None, every type > and every type <, read from left to right and from right to left."""

        def to_root(word: int) -> list[int]:
            head = self.sentence.heads[word]
            return [word] + (to_root(head) if 0 <= head < self.length else [])

        def x(word: int, edge: bool) -> np.ndarray:
            dependency = 1 + parse.DEPENDENCIES.index(self.sentence.dependencies[word]) if edge else 0
            label = self.w["label.weight"][self.names.index(labels[word])]
            return np.concatenate([self.s[word], label, self.w["path.dependency.weight"][dependency]])

        def up(path: list[int]) -> tuple:
            """The state of the last word of a path that begins at a leaf."""
            return self.cell("path.bottom_up", x(path[-1], True), [up(path[:-1])] if path[1:] else [])

        def down(path: list[int]) -> tuple:
            """The state of the last word of a path that begins at the root."""
            return self.cell("path.top_down", x(path[-1], bool(path[1:])), [down(path[:-1])] if path[1:] else [])

        above = [to_root(left), to_root(right)]
        common = [word for word in above[0] if word in above[1]]
        size = self.w["path.bottom_up.recurrent.weight"].shape[1]
        states = [np.zeros(size)] * 3
        if common:
            root = common[0]
            paths = [path[: path.index(root)] for path in above]
            top = self.cell("path.bottom_up", x(root, False), [up(path) for path in paths if path])
            lows = [down([root, *reversed(path)])[0] for path in paths]
            states = [lows[0], top[0], lows[1]]

        def scores(words: list, tree: list) -> np.ndarray:
            return self.w.linear("pair_output", np.tanh(self.w.linear("pair_hidden", np.concatenate([*words, *tree]))))

        ends = [self.s[left], self.s[right]]
        return scores(ends, states), scores(ends[::-1], states[::-1])

    def decided(self, forth: np.ndarray, back: np.ndarray) -> tuple[str, bool, float] | None:
        """The type, whether the left one is the head, and the probability, of the two readings of a pair."""
        names = [None, *((kind, True) for kind in self.relations), *((kind, False) for kind in self.relations)]
        said = []
        for scores, reversed_ in ((forth, False), (back, True)):
            if (best := int(scores.argmax())) > 0:
                kind, points = names[best]
                said.append((scores[best], kind, points != reversed_, float(softmax(scores)[best])))
        return max(said)[1:] if said else None

    def gold_label(self, left: tuple, right: tuple, reading_back: bool) -> int:
        """The class of a pair of entities (type, start, end), None where one of them is not annotated."""
        spans = [(e.type, e.start, e.end) for e in self.sentence.entities]
        label = 0
        for r in self.sentence.relations:
            ends = spans[r.head], spans[r.tail]
            if {*ends} == {left, right}:
                points = ends[0] == left or r.type in LABELS.symmetric
                label = 1 + self.relations.index(r.type) + len(self.relations) * (points == reading_back)
        return label


def sptree_sentences() -> list[Sentence]:
    """The corpus under random trees; in some sentences words stand in several."""
    return [parsed_at_random(s, n, roots=1 + 2 * (n % 3 == 2)) for n, s in enumerate(read_sentences(CORPUS))]


def sptree_model(encoder: Encoder, labels: Labels = LABELS, **settings: object) -> sptree.System:
    sizes = {"pos_size": 5, "label_size": 6, "dependency_size": 7, "word_size": 8, "tree_size": 9, "hidden_size": 10}
    model = sptree.System(labels, encoder, **sizes | settings).eval()
    torch.manual_seed(7)
    with torch.no_grad():  # weights of which many entities come, and pairs of every class
        for name, parameter in model.named_parameters():
            if not name.startswith("encoder."):
                parameter.normal_(std=0.9)
        model.label_output.weight *= 4.0
        model.label_output.bias.zero_()[0] = -2.0
        model.pair_output.weight *= 2.0
        model.pair_output.bias.zero_()
    return model


def gold_names(sentence: Sentence) -> list[str]:
    names = ["O"] * len(sentence.tokens)
    for e in sentence.entities:
        if names[e.start : e.end] != ["O"] * (e.end - e.start):
            continue  # the corpus has the longer of two first
        names[e.start : e.end] = [f"I-{e.type}"] * (e.end - e.start)
        names[e.start], names[e.end - 1] = f"B-{e.type}", f"L-{e.type}"
        if e.end - e.start == 1:
            names[e.start] = f"U-{e.type}"
    return names


def test_sptree_follows_its_equations(tiny_encoder):
    model, sentences = sptree_model(tiny_encoder), sptree_sentences()
    decoded = model.decode(model.collate([s.without_labels() for s in sentences]))
    seen, apart = set(), 0
    for sentence, found in zip(sentences, decoded, strict=True):
        hand = TreesByHand(model, sentence)
        labels, logits = hand.tag()
        entities = hand.entities(labels, logits)
        spans = [(e.type, e.start, e.end) for e in found.entities]
        assert sorted(spans) == sorted(entities)
        for e in found.entities:
            assert e.score == pytest.approx(entities[e.type, e.start, e.end], rel=1e-4)
        related = {(r.type, spans[r.head], spans[r.tail]): r.score for r in found.relations}
        expected, ordered = {}, sorted(entities, key=lambda e: e[1])
        for n, right in enumerate(ordered):
            for left in ordered[:n]:
                forth, back = hand.pair(left[2] - 1, right[2] - 1, labels)
                if (decision := hand.decided(forth, back)) is not None:
                    kind, points, score = decision
                    pair = (left, right) if points or kind in LABELS.symmetric else (right, left)
                    expected[(kind, *pair)] = score
                    seen |= {(kind, points)}
                apart += int(forth.argmax()) != int(back.argmax())
        assert related.keys() == expected.keys()
        for triple, score in related.items():
            assert score == pytest.approx(expected[triple], rel=1e-4)
    assert len(seen) > 6 and apart > 20, "the readings of a pair must differ somewhere"


@pytest.mark.parametrize("reads", ["gold", "predicted", "both"])
def test_sptree_loss_is_that_of_both_readings(reads, tiny_encoder):
    """Over what it reads: gold labels where they may follow, its own, or by chance either."""
    model, sentences = sptree_model(tiny_encoder), sptree_sentences()
    set_on(model, gold_decay={"gold": 1e12, "predicted": 1.0, "both": 10.0}[reads])
    model.epoch = {"gold": 0, "predicted": 1000, "both": 20}[reads]
    chance = {"gold": 1.0, "predicted": 0.0, "both": 10 / (10 + np.exp(20 / 10))}[reads]
    batch = model.training_batch(sentences)
    torch.manual_seed(4)
    with torch.no_grad():
        terms = model.losses(batch)
    torch.manual_seed(4)
    fed = torch.rand(len(sentences), max(len(s.tokens) for s in sentences)) < chance
    entity, relation, kinds = 0.0, 0.0, set()
    for sentence, row in zip(sentences, fed.tolist(), strict=True):
        hand, gold = TreesByHand(model, sentence), gold_names(sentence)
        labels, logits = hand.tag(gold, row)
        entity -= sum(np.log(softmax(of)[hand.names.index(name)]) for of, name in zip(logits, gold, strict=True))
        ordered = sorted(hand.entities(labels, logits), key=lambda e: e[1])
        for n, right in enumerate(ordered):
            for left in ordered[:n]:
                for back, scores in enumerate(hand.pair(left[2] - 1, right[2] - 1, labels)):
                    kinds.add(label := hand.gold_label(left, right, bool(back)))
                    relation -= np.log(softmax(scores)[label])
    assert float(terms["entity"]) == pytest.approx(entity, rel=1e-5)
    assert float(terms["relation"]) == pytest.approx(relation, rel=1e-5)
    assert len(kinds) > {"gold": 4, "predicted": 0, "both": 2}[reads]
    assert model.divisors([batch]) == {"entity": len(sentences), "relation": len(sentences)}


# -- features of a frozen encoder ----------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [0, 100, 10**6])
def test_cache_gives_back_what_was_put(memory):
    cache = TensorCache(memory)
    made = {
        n: (torch.randn(n, 3), torch.randn(n).to(torch.bfloat16), torch.arange(n).unsqueeze(0)) for n in range(1, 9)
    }
    for key, tensors in made.items():
        cache.put(key, tensors)
    for key, tensors in made.items():
        assert key in cache
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(cache.get(key), tensors, strict=True))
    assert cache._bytes <= memory and bool(cache._stored) == (memory < 1000)
    cache.clear()
    assert 1 not in cache


# -- the recurrence over a table -----------------------------------------------------------------------------------


def recurrence_by_hand(model: TableRecurrence, table: np.ndarray, below: np.ndarray | None, length: int) -> np.ndarray:
    """(2, length, length, hidden) for one sentence, cell by cell; `table` and `below` in rows and columns."""
    w = Weights(model)
    gates = w["state"].shape[2]
    h = gates // (4 if below is None else 6)
    out = np.zeros((2, length, length, h))
    for way, (cells, step) in enumerate(((range(length), -1), (range(length - 1, -1, -1), 1))):
        for i in cells:
            for j in cells:
                states = [
                    out[way, i, j + step] if 0 <= j + step < length else np.zeros(h),
                    out[way, i + step, j] if 0 <= i + step < length else np.zeros(h),
                ]
                if below is not None:
                    states.append(below[way, i, j])
                x = w["input_bias"][way, 0] + table[i, j] @ w["input"][way]
                v = w["state_bias"][way, 0] + np.concatenate(states) @ w["state"][way]
                r, z = sigmoid((x + v)[:h]), sigmoid((x + v)[h : 2 * h])
                n = np.tanh(x[2 * h : 3 * h] + v[2 * h : 3 * h] - r * v[2 * h : 3 * h])
                last = (x + v)[3 * h :]
                two = [sigmoid(last), 1 - sigmoid(last)]
                shares = two if below is None else softmax(last.reshape(3, h), axis=0)
                mixed = sum(share * state for share, state in zip(shares, states, strict=True))
                out[way, i, j] = n + z * (mixed - n)
    return out


def partitions_by_hand(x: np.ndarray, recurrent: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Eqs. 1 to 8 of the partition filter encoder as they are printed, for one sentence: (length, 3, hidden)."""
    hidden = len(recurrent)
    h = cell = np.zeros(hidden)
    found = []
    for step in x:
        candidate, *gates = np.split(step + h @ recurrent, 5)
        candidate = np.tanh(candidate)
        parts = np.zeros((3, hidden))
        for source, (entity, relation) in ((cell, gates[:2]), (candidate, gates[2:])):
            e, r = 1 - softmax(entity).cumsum(), softmax(relation).cumsum()
            overlap = e * r
            upper, lower = r - overlap, e - overlap
            parts += np.stack([upper * source + overlap * source, lower * source + overlap * source, overlap * source])
        found.append(parts)
        cell = weight @ parts.ravel() + bias
        h = np.tanh(cell)
    return np.stack(found)


def test_partition_recurrence_follows_its_equations_and_knows_its_gradient():
    torch.manual_seed(0)
    length, batch, hidden = 4, 2, 3
    shapes = (length, batch, 5 * hidden), (hidden, 5 * hidden), (hidden, 3 * hidden), (hidden,)
    x, *weights = (torch.randn(shape, dtype=torch.double, requires_grad=True) for shape in shapes)
    out = partition_sweep(x, *weights)
    with torch.no_grad():
        assert torch.equal(partition_sweep(x, *weights), out)
    for b in range(batch):
        expected = partitions_by_hand(x.detach()[:, b].numpy(), *(w.detach().numpy() for w in weights))
        assert np.allclose(out.detach()[:, b].numpy(), expected)
    assert torch.autograd.gradcheck(partition_sweep, (x, *weights))


@pytest.mark.parametrize("states", [2, 3])
def test_table_recurrence_follows_its_equations_and_knows_its_gradient(states):
    torch.manual_seed(0)
    length, batch, inputs, hidden = 4, 3, 5, 3
    model = TableRecurrence(inputs, hidden, states)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.7)
    order = Order.of(length, torch.device("cpu"))
    lengths = torch.tensor([4, 2, 1])
    number = torch.arange(length**2).unsqueeze(1)
    mask = (number // length < lengths) & (number % length < lengths)
    table = torch.randn(length**2, batch, inputs, requires_grad=True)
    below = torch.randn(2, length**2, batch, hidden, requires_grad=True) if states == 3 else None
    out = model(table, below, mask, order)
    with torch.no_grad():
        assert torch.allclose(model(table, below, mask, order), out, atol=1e-6)  # vectors end at other places
    ways = torch.arange(2)[:, None, None]
    for b, n in enumerate(lengths.tolist()):
        grid = torch.arange(length**2).view(length, length)[:n, :n]
        met = order.places[:, grid]
        expected = recurrence_by_hand(
            model,
            table.detach()[grid, b].numpy(),
            None if below is None else below.detach()[ways, met, b].numpy(),
            n,
        )
        assert np.allclose(out.detach()[ways, met, b].numpy(), expected, atol=1e-5)
        assert out[:, :, b].abs().sum(-1).count_nonzero() == 2 * n * n, "the states of padding are zero"

    # the written-out gradient against differences of what it is the gradient of
    model.double()
    table, below = (None if t is None else t.detach().double().requires_grad_() for t in (table, below))
    weight = torch.randn(out.shape, dtype=torch.double)
    arguments = [t for t in (table, below, *model.parameters()) if t is not None]

    def total() -> torch.Tensor:
        return (model(table, below, mask, order) * weight).sum()

    for argument, gradient in zip(arguments, torch.autograd.grad(total(), arguments), strict=True):
        direction = torch.randn_like(argument)
        moved = []
        for step in (1e-5, -2e-5):
            argument.data.add_(direction, alpha=step)
            moved.append(total().item())
        argument.data.add_(direction, alpha=1e-5)
        assert (gradient * direction).sum().item() == pytest.approx((moved[0] - moved[1]) / 2e-5, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("states", [2, 3])
def test_the_gradient_in_bfloat16_is_that_in_float32_but_for_rounding(states):
    torch.manual_seed(0)
    length, batch, inputs, hidden = 5, 2, 8, 8
    model, order = TableRecurrence(inputs, hidden, states), Order.of(length, torch.device("cpu"))
    table, mask = torch.randn(length**2, batch, inputs), torch.ones(length**2, batch, dtype=torch.bool)
    below = torch.randn(2, length**2, batch, hidden) if states == 3 else None
    found = []
    for low in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            given = below.bfloat16() if low and below is not None else below
            out = model(table.bfloat16() if low else table, given, mask, order)
        assert out.dtype == (torch.bfloat16 if low else torch.float32)
        found.append(torch.autograd.grad(out.float().square().sum(), list(model.parameters())))
    for exact, rounded in zip(*found, strict=True):
        assert (exact - rounded).norm() < 0.02 * exact.norm()


def test_a_traced_sweep_counts_what_a_sweep_multiplies():
    model = TableRecurrence(5, 3, 3)
    order = Order.of(4, torch.device("cpu"))
    x, below = torch.randn(2, 16, 2, 18), torch.randn(2, 16, 2, 3)
    arguments = (x, below, model.state, model.state_bias, torch.ones(2, 16, 2, 1), order.diagonals)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        out = sweep(*arguments)
    assert 2 * sweep_multiply_adds(x.shape, below.shape, out=out.shape) == counter.get_total_flops()
    assert torch.equal(traced_sweep(*(a.detach() if torch.is_tensor(a) else a for a in arguments)), out)


def test_characters_are_read_as_by_an_lstm():
    size = table_sequence.CHARACTER_SIZE
    model, lstm = (
        table_sequence.CharacterLSTM(size),
        torch.nn.LSTM(size, size // 2, batch_first=True, bidirectional=True),
    )
    with torch.no_grad():
        for bias in (model.input.bias, model.recurrent_bias):
            bias.normal_()
    half = size // 2
    blocks = [1, 0, 3, 2]  # torch: input, forget, cell, output; ours: forget, input, output, cell
    for way, suffix in enumerate(("", "_reverse")):
        rows = model.input.weight[way * 4 * half : (way + 1) * 4 * half], model.recurrent[way].T
        biases = model.input.bias[way * 4 * half : (way + 1) * 4 * half], model.recurrent_bias[way, 0]
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        for name, value in zip(names, (*rows, *biases), strict=True):
            getattr(lstm, name + suffix).data = torch.cat([value.chunk(4)[b] for b in blocks]).detach()
    characters = torch.tensor([[5, 9, 3, 7], [8, 2, 0, 0], [1, 0, 0, 0]])
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        model.embedding(characters), (characters > 0).sum(1), batch_first=True, enforce_sorted=False
    )
    expected = torch.cat(lstm(packed)[1][0].unbind(0), dim=1)
    torch.testing.assert_close(model(characters), expected, atol=1e-6, rtol=0)


def test_frozen_features_are_means_of_layers_and_sums_of_attention(tiny_encoder):
    sentences = [Sentence("a", ("zebra", "uses", "parsers")), Sentence("b", ("qwx",))]  # words of several pieces
    model = table_sequence.System(LABELS, tiny_encoder, **table_sequence.System.test_settings).train()
    batch = model.collate(sentences)
    words, maps = model.features(batch)
    width = batch["input_ids"].shape[1]
    row = 0
    for b, sentence in enumerate(sentences):
        ids = tiny_encoder.collate([sentence])
        out = tiny_encoder.model(ids.input_ids, ids.attention_mask, output_hidden_states=True, output_attentions=True)
        hidden = torch.stack(out.hidden_states[-4:]).mean(0)[0]
        attention = torch.cat(out.attentions)[:, :, :].flatten(0, 1)
        n = len(sentence.tokens)
        extent = [
            (int(batch["word_start"][row + i]) - b * width, int(batch["word_end"][row + i]) - b * width)
            for i in range(n)
        ]
        assert max(e - s for s, e in extent) > 1
        for i, (s, e) in enumerate(extent):
            torch.testing.assert_close(words[b, i], hidden[s:e].mean(0), atol=1e-5, rtol=0)
            for j, (t, f) in enumerate(extent):
                torch.testing.assert_close(maps[b, i, j], attention[:, s:e, t:f].sum((1, 2)), atol=1e-5, rtol=0)
        row += n
    cached = model.cached_features(batch)
    for ours, fresh in zip(cached, (words, maps), strict=True):
        torch.testing.assert_close(ours, fresh * (ours != 0), atol=1e-5, rtol=0)
    assert all(sentence.tokens in model._cache for sentence in sentences)


def test_table_sequence_tags_fill_the_rectangles_of_flat_entities(tiny_encoder):
    sentences = read_sentences(CORPUS)
    model = table_sequence.System(LABELS, tiny_encoder, **table_sequence.System.test_settings)
    batch = model.collate(sentences)
    nested = sentences[9]  # its third entity lies inside the second
    assert batch["entity_tags"][9, :5].tolist() == [3, 0, 1, 2, 2]
    (relation,) = nested.relations
    assert (relation.head, relation.tail) == (1, 0)
    kind = 2 * LABELS.relation_types.index(relation.type)
    assert batch["relation_tags"][9, 2:5, 0].tolist() == [kind + 1] * 3
    assert batch["relation_tags"][9, 0, 2:5].tolist() == [kind + 2] * 3
    assert batch["relation_tags"][9].count_nonzero() == 6


# -- PFN: loss and decoding, by loops over the cells of its tables ---------------------------------------------------


@pytest.mark.parametrize("released", [False, True])
def test_pfn_loss_and_decoding_follow_from_its_tables(released, tiny_encoder):
    sentences = read_sentences(CORPUS)
    model = shuffled_weights(
        pfn.System(LABELS, tiny_encoder, **pfn.System.test_settings | dict.fromkeys(PFN_THRESHOLDS, 0.52))
    )
    batch = model.collate(sentences)
    with torch.no_grad():
        with as_released(model):
            tables = [t(task, summary, ordered=False).sigmoid().double() for t, task, summary in model.encode(batch)]
        model.released = released
        found, loss = model.decode(batch), float(model.loss(batch))
    width, expected, row = batch["input_ids"].shape[1], 0.0, 0
    for b, sentence in enumerate(sentences):
        at = [int(batch["word_start"][row + i]) - b * width for i in range(len(sentence.tokens))]
        row += len(at)
        entities, relations = sentence.entities, sentence.relations
        gold = [
            {(at[e.start], at[e.end - 1], LABELS.entity_types.index(e.type)) for e in entities},
            {
                (at[entities[r.head].start], at[entities[r.tail].start], LABELS.relation_types.index(r.type))
                for r in relations
            },
        ]
        pieces = int(batch["attention_mask"][b].sum())
        for ordered, table, cells in zip((True, False), tables, gold, strict=True):
            for i in range(pieces):
                for j in range(i if ordered else 0, pieces):
                    for t, p in enumerate(table[b, i, j].tolist()):
                        expected -= np.log(p if (i, j, t) in cells else 1 - p)
        n = len(at)
        spans = {
            (LABELS.entity_types[t], i, j + 1)
            for i in range(n)
            for j in range(i, n)
            for t in range(len(LABELS.entity_types))
            if tables[0][b, at[i], at[j], t] >= 0.52
        }
        assert {(e.type, e.start, e.end) for e in found[b].entities} == spans
        for r in found[b].relations:
            head, tail = found[b].entities[r.head], found[b].entities[r.tail]
            p = tables[1][b, :, :, LABELS.relation_types.index(r.type)]
            cell = float(p[at[head.start], at[tail.start]])
            if r.type in LABELS.symmetric:
                cell = max(cell, float(p[at[tail.start], at[head.start]]))
            assert cell >= 0.52
    assert any(p.relations for p in found)
    assert loss == pytest.approx(expected / width, rel=1e-4)


@pytest.mark.parametrize("released", [False, True])
def test_pfn_without_a_threshold_finds_every_span_and_no_other(released, tiny_encoder):
    model = pfn.System(LABELS, tiny_encoder, **pfn.System.test_settings | dict.fromkeys(PFN_THRESHOLDS, 0.0)).eval()
    model.released = released
    sentence = read_sentences(CORPUS)[0]
    with torch.no_grad():
        (found,) = model.decode(model.collate([sentence]))
    words, types = len(sentence.tokens), LABELS.entity_types
    spans = {(t, i, j) for t in types for i in range(words) for j in range(i + 1, words + 1)}
    assert {(e.type, e.start, e.end) for e in found.entities} == spans and len(found.entities) == len(spans)


# -- UniRE: a table by hand ----------------------------------------------------------------------------------------


def hand_made_tables(labels: Labels) -> torch.Tensor:
    """Probabilities of three sentences (3, 4, 4, labels): four words A A None A with R from the first two to the last,
    two words A and B with S between them, a word of which None and B are equally likely."""
    none, a, b, r, s = (torch.eye(5)[i] for i in range(5))
    assert (labels.entity_types, labels.relation_types) == (("A", "B"), ("R", "S"))
    table = none.expand(3, 4, 4, 5).clone()
    table[0, :2, :2], table[0, 3, 3] = a, a
    table[0, 0, 3], table[0, 1, 3] = 0.9 * r + 0.1 * none, 0.2 * r + 0.8 * none
    table[1, 0, 0], table[1, 1, 1] = a, b
    table[1, 0, 1], table[1, 1, 0] = 0.8 * s + 0.2 * none, 0.3 * s + 0.7 * none
    table[2, 0, 0] = 0.5 * none + 0.5 * b
    return table


@pytest.mark.parametrize("threshold", [1.4, 1.7])
def test_unire_decodes_a_table_by_hand(threshold, tiny_encoder, monkeypatch):
    """Rows and columns of the first sentence's words are 0.99 and 0, sqrt(4.08) and 2, sqrt(2) and sqrt(3.7) apart, in
    the mean 0.49, 2.01 and 1.67; of the second sqrt(3.135), both. R has (0.9 + 0.2) / 2 in its rectangle, S
    (0.8 + 0.3) / 2 in either cell, which None exceeds in the second alone. Where None and a type are equally likely,
    the type is taken."""
    labels = Labels(("A", "B"), ("R", "S"), frozenset({"S"}))
    settings = unire.System.test_settings | {"split_threshold": threshold}
    model = unire.System(labels, tiny_encoder, **settings).eval()
    batch = model.collate([Sentence(str(n), ("neural",) * n) for n in (4, 2, 1)])
    real = torch.arange(4) < batch["lengths"].unsqueeze(1)
    logits = hand_made_tables(labels).clamp(min=1e-30).log()
    monkeypatch.setattr(model, "scores", lambda *_: (logits, real))
    between = unire.distances(model.symmetrised(logits, real))
    assert between[0].tolist() == pytest.approx([0.98**0.5 / 2, (4.08**0.5 + 2) / 2, (2**0.5 + 3.7**0.5) / 2], abs=1e-5)
    assert between[1, 0].item() == pytest.approx(3.135**0.5, abs=1e-5)
    first, second, third = model.decode(batch)
    entities, relations = [("A", 0, 2, 1.0)], []
    if threshold == 1.4:
        entities, relations = [*entities, ("A", 3, 4, 1.0)], [("R", 0, 1, 0.55)]
    assert [(e.type, e.start, e.end, e.score) for e in first.entities] == entities
    assert [(r.type, r.head, r.tail) for r in first.relations] == [r[:3] for r in relations]
    assert [r.score for r in first.relations] == pytest.approx([r[3] for r in relations])
    assert [(e.type, e.start, e.end) for e in second.entities] == [("A", 0, 1), ("B", 1, 2)]
    assert [(r.type, r.head, r.tail) for r in second.relations] == [("S", 0, 1)]
    assert second.relations[0].score == pytest.approx(0.55)
    assert third.entities == (Entity("B", 0, 1, 0.5),) and not third.relations


def test_plmarker_multiplies_little_more_than_its_markers_need(tiny_encoder):
    """A pass is padded to the longest beside it: the last of a sentence must not be much shorter than the others."""
    assert plmarker.pass_numbers(torch.tensor([3, 3, 3, 3, 3, 7]), 4).tolist() == [0, 0, 0, 1, 1, 2]
    model = plmarker.System(LABELS, tiny_encoder).eval()
    model.stage = "entity"
    sizes, layers = tiny_encoder.model.config, tiny_encoder.model.config.num_hidden_layers
    hidden, wide = sizes.hidden_size, sizes.intermediate_size
    for words in (20, 36):  # 132 spans in one pass, 260 in two
        markers = 2 * sum(min(8, words - start) for start in range(words))
        needed = layers * (words + 2 + markers) * (4 * hidden**2 + 2 * hidden * wide)
        counted = flops.count_batch(model, model.collate([Sentence("s", ("parsers",) * words)]))["encoder"]["linear"]
        assert needed <= counted < 1.1 * needed


def test_plmarker_reads_the_document_around_a_sentence_and_no_other_split(tiny_encoder, tmp_path):
    texts = [{"tokens": s.tokens, "document": "d"} for s in read_sentences(CORPUS)[:3]]
    for name, lines in (("train", texts[:2]), ("dev", texts[2:])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    windows = {"entity_window": 60, "relation_window": 40}
    model = plmarker.System(LABELS, tiny_encoder, **plmarker.System.test_settings | windows).eval()
    first, second = read_sentences(tmp_path / "train.jsonl")
    (last,) = read_sentences(tmp_path / "dev.jsonl")
    batch = model.collate([first, last])
    pieces = tiny_encoder.piece_counts([replace(s, text=()) for s in (first, second, last)])
    assert batch["attention_mask"].sum(1).tolist() == [pieces[0] + pieces[1] + 2, pieces[2] + 2]
    assert batch["relation_attention_mask"].sum(1).tolist() == [min(pieces[0] + pieces[1] + 2, 38), pieces[2] + 2]
    spans = torch.tensor([[0, 1]])
    with torch.no_grad():
        beside, alone = (
            model.entity_scores(model.collate([s]), spans, torch.tensor([0])) for s in (first, replace(first, text=()))
        )
    assert not torch.allclose(beside, alone, atol=1e-4)


def test_plmarker_reads_a_sentence_longer_than_its_window_to_its_end(tiny_encoder):
    entities = tuple(Entity("Method", i, i + 1) for i in (2, 45, 50, 55))
    long = Sentence("long", ("graph", "kernels") * 30, entities, text=("graph", "kernels") * 40)
    scores = []
    for window in (0, 40):
        torch.manual_seed(0)
        settings = plmarker.System.test_settings | {"relation_window": window, "objects_at_once": 4}
        model = plmarker.System(LABELS, Encoder(copy.deepcopy(tiny_encoder.model), tiny_encoder.tokenizer), **settings)
        batch = model.eval().collate([long])
        pairs = torch.cartesian_prod(torch.arange(4), torch.arange(4))
        with torch.no_grad():
            found = model.relation_scores(batch, batch["gold_spans"], batch["gold_types"], pairs, pairs[:, 0])
        scores.append(torch.cat(found, dim=1))
    torch.testing.assert_close(scores[1], scores[0])


def test_raw_text_is_read_with_the_document_around_a_sentence(tiny_encoder, monkeypatch):
    settings = pure.System.test_settings | {"entity_window": 12, "relation_window": 12}
    predictor = object.__new__(extract.Predictor)
    predictor.model = pure.System(LABELS, tiny_encoder, **settings).eval()
    predictor.device, predictor.precision = torch.device("cpu"), "float32"
    seen: list[Sentence] = []
    collate = predictor.model.collate
    predictor.model.collate = lambda batch: seen.extend(batch) or collate(batch)
    monkeypatch.setattr(extract, "CHUNK", 1)
    long = "graph " * tiny_encoder.max_pieces
    list(predictor.stream([("x", 0, "Graph kernels. Neural parsers."), ("x", 40, "Parsing."), ("y", 0, long)]))
    assert {(s.tokens[0], s.context(12)) for s in seen if s.document == "x"} == {
        ("Graph", ((), ("Neural", "parsers", ".", "Parsing", "."))),
        ("Neural", (("Graph", "kernels", "."), ("Parsing", "."))),
        ("Parsing", (("kernels", ".", "Neural", "parsers", "."), ())),
    }
    windows = [s for s in seen if s.document == "y"]
    assert len(windows) > 1 and all(s.text[s.offset :][: len(s.tokens)] == s.tokens for s in windows)


# -- SciIE and DyGIE -----------------------------------------------------------------------------------------------


def coupled_lstm_by_hand(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, cell: np.ndarray, state: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """One direction over the words of a sentence, (words, hidden)."""
    found = []
    for word in x:
        i, j, o = np.split(np.concatenate([word, mask * state]) @ weight + bias, 3)
        i, o = 1 / (1 + np.exp(-i)), 1 / (1 + np.exp(-o))
        cell = (1 - i) * cell + i * np.tanh(j)
        state = np.tanh(cell) * o
        found.append(state)
    return np.stack(found)


def crossing(one: tuple, other: tuple) -> bool:
    return one[0] < other[0] < one[1] < other[1] or other[0] < one[0] < other[1] < one[1]


def greedily_kept(scores: dict, keep: int) -> list[tuple]:
    """The best spans of which none crosses a better one, in order of position."""
    kept: list[tuple] = []
    for span in sorted(scores, key=lambda s: -scores[s]):
        if len(kept) < keep and not any(crossing(span, other) for other in kept):
            kept.append(span)
    return sorted(kept)


def best_flat_set(scores: dict[tuple, float], begin: int, length: int) -> tuple[float, list[tuple]]:
    """Of all sets of spans that do not overlap, found one after another, that of the greatest sum."""
    if begin >= length:
        return 0.0, []
    best = best_flat_set(scores, begin + 1, length)
    for (a, b), score in scores.items():
        if a == begin and score > 0:
            total, rest = best_flat_set(scores, b, length)
            best = max(best, (score + total, [(a, b), *rest]), key=lambda found: found[0])
    return best


class LuanByHand:
    """SciIE and DyGIE over the sentences of one document by the notes' equations, in float64, span by span."""

    def __init__(self, model: sciie.System, sentences: list[Sentence]) -> None:
        self.w, self.model, self.settings, self.sentences = Weights(model), model, model.settings, sentences
        self.g, self.lengths, self.gold_clusters, row = {}, [len(s.tokens) for s in sentences], {}, 0
        for sentence in sentences:
            self.read(sentence, row)
            for a, b, cluster in sentence.coreference:
                self.gold_clusters[row + a, row + b] = cluster
            row += len(sentence.tokens)
        self.coreference_loss = self.propagate_coreference() if model.settings.coreference_weight else 0.0
        self.entity, self.relation, self.kept, row = {}, {}, [], 0
        for length in self.lengths:
            self.relate(row, length)
            row += length
        for span in self.g:
            self.entity[span] = np.concatenate([[0.0], self.w.network("entity", self.g[span])])

    def gated(self, name: str, one: np.ndarray, other: np.ndarray, x: np.ndarray) -> np.ndarray:
        gate = 1 / (1 + np.exp(-self.w.linear(name, x)))
        return gate * one + (1 - gate) * other

    def read(self, sentence: Sentence, row: int) -> None:
        """g of every span of a sentence: both ends of the BiLSTM, width, words by attention."""
        w, (hidden, pieces) = self.w, sentence_arrays(self.model, sentence)
        x = np.stack([hidden[a:b].mean(0) for a, b in pieces])
        weights = [w[f"context.{name}"] for name in ("weight", "bias", "cell", "state")]
        forward = coupled_lstm_by_hand(x, *(each[0] for each in weights), mask=1.0)
        backward = coupled_lstm_by_hand(x[::-1], *(each[1] for each in weights), mask=1.0)[::-1]
        h = np.concatenate([forward, backward], axis=1)
        for a, b in all_spans(len(x), self.settings.max_span_width):
            shares = softmax(np.array([w.linear("head", h[k])[0] for k in range(a, b)]))
            head = sum(share * x[k] for share, k in zip(shares, range(a, b), strict=True))
            self.g[row + a, row + b] = np.concatenate([h[a], h[b - 1], w["width.weight"][b - a - 1], head])

    def distance(self, rank: int) -> np.ndarray:
        return self.w["coreference.distance.weight"][distance_bucket(rank)]

    def candidates(self, spans: list, vectors: list, mention: list) -> list[dict[int, float]]:
        """Of each kept span its antecedents and what their scores have besides the network's: the nearest, or those of
        the best coarse scores."""
        limit, found = self.settings.max_antecedents, []
        for i in range(len(spans)):
            rough = {j: mention[i] + mention[j] for j in range(i)}
            if isinstance(self.model, dygie.System):
                for j in rough:
                    rough[j] += self.w.linear("coreference.source", vectors[i]) @ vectors[j]
                chosen = sorted(rough, key=lambda j: -rough[j])[:limit]
            else:
                chosen = sorted(rough)[-limit:]
            found.append({j: rough[j] for j in sorted(chosen)})
        return found

    def antecedent_scores(self, vectors: list, candidates: list[dict[int, float]]) -> list[np.ndarray]:
        """Of none and of each antecedent."""
        found = []
        for i, known in enumerate(candidates):
            scores = [0.0]
            for j, rough in known.items():
                pair = [vectors[i], vectors[j], vectors[i] * vectors[j], self.distance(i - j)]
                scores.append(self.w.network("coreference.antecedent", np.concatenate(pair))[0] + rough)
            found.append(np.array(scores))
        return found

    def propagate_coreference(self) -> float:
        scores = {s: self.w.network("coreference.mention", self.g[s])[0] for s in self.g}
        keep = max(1, int(np.floor(self.settings.coreference_spans_per_word * sum(self.lengths) + 1e-9)))
        self.mentions = spans = greedily_kept(scores, keep)
        vectors, mention = [self.g[s] for s in spans], [scores[s] for s in spans]
        candidates = self.candidates(spans, vectors, mention)
        for _ in range(getattr(self.settings, "coreference_rounds", 0)):
            updated = []
            for i, scored in enumerate(self.antecedent_scores(vectors, candidates)):
                p = softmax(scored)
                a = p[0] * vectors[i] + sum(q * vectors[j] for q, j in zip(p[1:], candidates[i], strict=True))
                if self.settings.gate == "paper":
                    a = self.gated("coreference.gate", vectors[i], a, np.concatenate([vectors[i], a]))
                updated.append(a)
            vectors = updated
            self.g |= dict(zip(spans, vectors, strict=True))
        if getattr(self.settings, "coreference_rounds", 0):
            mention = [self.w.network("coreference.mention", g)[0] for g in vectors]
            candidates = self.candidates(spans, vectors, mention)
        loss, self.links = 0.0, []
        for i, scored in enumerate(self.antecedent_scores(vectors, candidates)):
            own = self.gold_clusters.get(spans[i])
            gold = [False, *(own is not None and self.gold_clusters.get(spans[j]) == own for j in candidates[i])]
            gold[0] = not any(gold)
            loss -= np.log(softmax(scored)[gold].sum())
            self.links.append(dict(zip([None, *candidates[i]], scored, strict=True)))
        return loss

    def relate(self, row: int, length: int) -> None:
        """Relation scores between the kept spans of a sentence, whose g are updated along them."""
        spans = [s for s in self.g if row <= s[0] < row + length]
        score = {s: self.w.network("mention", self.g[s])[0] for s in spans}
        keep = max(1, int(np.floor(self.settings.spans_per_word * length + 1e-6)))
        kept = sorted(sorted(spans, key=lambda s: -score[s])[:keep])
        self.kept += kept
        g, rounds = {s: self.g[s] for s in kept}, getattr(self.settings, "relation_rounds", 0)
        seen = getattr(self.settings, "relation_updates_entities", False)  # and so the last update
        for number in range(max(1, rounds)):
            found = {
                (i, j): self.w.network("relation", np.concatenate([g[i], g[j], g[i] * g[j]])) + score[i] + score[j]
                for i in kept
                for j in kept
            }
            if number < rounds - (not seen):
                u = {i: sum(self.w.linear("transition", relu(found[i, j])) * g[j] for j in kept) for i in kept}
                g = {i: self.gated("relation_gate", u[i], g[i], np.concatenate([u[i], g[i]])) for i in kept}
        self.relation |= {pair: np.concatenate([[0.0], scores]) for pair, scores in found.items()}
        if seen:
            self.g |= g

    def losses(self) -> dict[str, float]:
        gold, related, row = {}, {}, 0
        for sentence in self.sentences:
            placed = [(row + e.start, row + e.end) for e in sentence.entities]
            for e, span in zip(sentence.entities, placed, strict=True):
                gold[span] = LABELS.entity_types.index(e.type) + 1
            for r in sentence.relations:
                related[placed[r.head], placed[r.tail]] = LABELS.relation_types.index(r.type) + 1
            row += len(sentence.tokens)
        s = self.settings
        terms = {
            "entity": -s.entity_weight * sum(np.log(softmax(self.entity[x]))[gold.get(x, 0)] for x in self.entity),
            "relation": -s.relation_weight
            * sum(np.log(softmax(scores))[related.get(pair, 0)] for pair, scores in self.relation.items()),
        }
        return terms | ({"coreference": s.coreference_weight * self.coreference_loss} if s.coreference_weight else {})

    def decoded(self) -> list[tuple[set, set]]:
        """Of each sentence the typed spans and the relations between them."""
        found, row = [], 0
        for length in self.lengths:
            typed = {s: int(self.entity[s].argmax()) for s in self.entity if row <= s[0] < row + length}
            typed = {s: kind for s, kind in typed.items() if kind}
            if not isinstance(self.model, dygie.System):
                flat = best_flat_set({(a - row, b - row): self.entity[a, b].max() for a, b in typed}, 0, length)[1]
                typed = {(row + a, row + b): typed[row + a, row + b] for a, b in flat}
            related = {
                (i, j, int(scores.argmax()))
                for (i, j), scores in self.relation.items()
                if i in typed and j in typed and i != j and scores.argmax()
            }
            found.append(({(a, b, kind) for (a, b), kind in typed.items()}, related))
            row += length
        return found


SCIIE = sciie.System.test_settings | {"spans_per_word": 0.5, "context_size": 6}
ROUNDS = [(0, False), (1, False), (1, True), (2, True), (3, False)]
LUAN = [
    (sciie, {}),
    (sciie, {"relation_weight": 1.0, "entity_weight": 0.5, "max_span_width": 2, "spans_per_word": 0.3}),
]
LUAN += [(dygie, {"relation_rounds": n, "relation_updates_entities": updates}) for n, updates in ROUNDS]


def luan_model(encoder: Encoder, system: ModuleType, **settings: object) -> sciie.System:
    return shuffled_weights(system.System(LABELS, encoder, **SCIIE | settings), 0.15)


def check_by_hand(model: sciie.System, documents: list[list[Sentence]]) -> None:
    """All figures of a batch against those of its documents, each computed alone."""
    sentences = [sentence for document in documents for sentence in document]
    batch = model.collate(sentences)
    by_hand = [LuanByHand(model, document) for document in documents]
    with torch.no_grad():
        scores, terms = model.scores(batch), model.losses(batch)
        decoded = model.decode(batch)
    expected = {name: sum(found.losses()[name] for found in by_hand) for name in terms}
    assert {name: float(term) for name, term in terms.items()} == pytest.approx(expected, rel=1e-4)
    row, places, mentions, kept, entity, relation = 0, [], [], [], [], []
    for found in by_hand:
        move = lambda spans, row=row: [(row + a, row + b) for a, b in spans]  # noqa: E731
        places += move(found.entity)
        kept += move(found.kept)
        mentions += move(getattr(found, "mentions", []))
        entity += found.entity.values()
        relation += found.relation.values()
        row += sum(found.lengths)
    assert [(a, a + k + 1) for a, k in scores.fits.nonzero().tolist()] == places
    assert [(a, a + k + 1) for a, k in scores.kept.tolist()] == kept
    assert np.allclose(scores.entity[scores.fits].numpy(), np.stack(entity), atol=1e-4, rtol=1e-4)
    assert np.allclose(scores.relation.numpy(), np.stack(relation), atol=2e-4, rtol=1e-4)
    if scores.links is not None:
        assert [(a, a + k + 1) for a, k in scores.links.spans.tolist()] == mentions
        links, begin, reach = scores.links.scores, 0, scores.links.scores.shape[1] - 1
        for found in by_hand:
            for i, known in enumerate(found.links):
                expected = np.full(1 + reach, -np.inf)
                for j, score in known.items():
                    expected[0 if j is None else 1 + reach - (i - j)] = score
                assert np.allclose(links[begin + i].numpy(), expected, atol=1e-4, rtol=1e-4)
            begin += len(found.links)
    row, of_sentence = 0, iter(decoded)
    for found in by_hand:
        row = 0
        for sentence, (typed, related) in zip(found.sentences, found.decoded(), strict=True):
            ours = next(of_sentence)
            spans = [(row + e.start, row + e.end) for e in ours.entities]
            kinds = [LABELS.entity_types.index(e.type) + 1 for e in ours.entities]
            assert {(a, b, kind) for (a, b), kind in zip(spans, kinds, strict=True)} == typed
            # a symmetric relation has the argument that starts first as head, as everywhere here
            folded = {
                (j, i, k) if LABELS.relation_types[k - 1] in LABELS.symmetric and j[0] < i[0] else (i, j, k)
                for i, j, k in related
            }
            types = [LABELS.relation_types.index(r.type) + 1 for r in ours.relations]
            assert {(spans[r.head], spans[r.tail], k) for r, k in zip(ours.relations, types, strict=True)} == folded
            row += len(sentence.tokens)


@pytest.mark.parametrize("system, settings", LUAN)
def test_sciie_and_dygie_follow_their_equations(system, settings, tiny_encoder):
    check_by_hand(luan_model(tiny_encoder, system, **settings), [[s] for s in read_sentences(CORPUS)])


def luan_documents() -> list[list[Sentence]]:
    """The corpus in two documents and a single sentence; what is annotated alike in a document is one cluster."""
    found = []
    for name, sentences in zip("abc", np.split(np.array(read_sentences(CORPUS), dtype=object), [4, 5]), strict=True):
        numbers: dict[str, int] = {}
        document = []
        for s in sentences:
            mentions = [(e.start, e.end, numbers.setdefault(e.type, len(numbers))) for e in s.entities]
            document.append(replace(s, document=name, coreference=tuple(mentions)))
        found.append(document)
    return found


@pytest.mark.parametrize("max_antecedents", [250, 3])
@pytest.mark.parametrize(
    "system, settings",
    [
        (sciie, {}),
        (sciie, {"coreference_weight": 0.5, "coreference_spans_per_word": 1.5}),
        (dygie, {"coreference_rounds": 0}),
        (dygie, {"coreference_spans_per_word": 1.0}),
        (dygie, {"gate": "paper", "coreference_rounds": 1}),
        (dygie, {"gate": "paper", "coreference_rounds": 2, "relation_rounds": 0}),
        (dygie, {"coreference_rounds": 2, "relation_updates_entities": False}),
    ],
)
def test_sciie_and_dygie_link_and_propagate_by_their_equations(system, settings, max_antecedents, tiny_encoder):
    settings = {"coreference_weight": 1.0, "max_antecedents": max_antecedents} | settings
    check_by_hand(luan_model(tiny_encoder, system, **settings), luan_documents())


def test_spans_that_cross_better_ones_are_not_kept():
    torch.manual_seed(0)
    for case in range(60):
        lengths = torch.randint(1, 12, (3,))
        left = torch.cat([torch.arange(n, 0, -1) for n in lengths.tolist()])
        fits = torch.arange(5) < left.unsqueeze(1)
        scores = torch.randn(len(left), 5)
        if case % 3 == 0:  # each span crosses a better one, which crosses a better one, ...
            scores = torch.arange(5 * len(left)).view(-1, 5).float()
        ours = {(a, a + k + 1) for a, k in without_crossing(scores, fits).nonzero().tolist()}
        by_score = {(a, a + k + 1): float(scores[a, k]) for a, k in fits.nonzero().tolist()}
        assert ours == set(greedily_kept(by_score, 10**6))


def test_entities_of_sciie_are_the_best_that_do_not_overlap():
    torch.manual_seed(0)
    for _ in range(40):
        lengths = torch.randint(1, 9, (4,))
        scores = torch.randn(int(lengths.sum()), 4)
        left = torch.cat([torch.arange(n, 0, -1) for n in lengths.tolist()])
        scores = scores.masked_fill(torch.arange(4) >= left.unsqueeze(1), 0.0)
        ours, row = sciie.flat_set(scores.clamp(min=0), lengths), 0
        for n in lengths.tolist():
            of_sentence = {(a, a + k + 1): float(scores[row + a, k]) for a in range(n) for k in range(4)}
            found = [(a, a + k + 1) for a, k in ours[row : row + n].nonzero().tolist()]
            assert found == best_flat_set(of_sentence, 0, n)[1]
            row += n


def test_coupled_lstm_follows_its_equations_and_knows_its_gradient(tiny_encoder):
    torch.manual_seed(0)
    steps, count, hidden = 4, 2, 3
    shapes = (steps, 2, count, 3 * hidden), (2, hidden, 3 * hidden), *2 * [(2, count, hidden)]
    arguments = [torch.randn(shape, dtype=torch.double, requires_grad=True) for shape in shapes]
    mask = torch.randint(0, 2, (2, count, hidden)).double() * 2
    assert torch.autograd.gradcheck(lambda *given: coupled_sweep(*given, mask), arguments)
    x, recurrent, cell, state = (argument.detach() for argument in arguments)
    with torch.no_grad():
        out = coupled_sweep(x, recurrent, cell, state, mask)
    for way in range(2):
        weight = np.concatenate([np.eye(3 * hidden), recurrent[way].numpy()])
        for b in range(count):
            begin = (each[way, b].numpy() for each in (cell, state, mask))
            expected = coupled_lstm_by_hand(x[:, way, b].numpy(), weight, np.zeros(3 * hidden), *begin)
            assert np.allclose(out[:, way, b].numpy(), expected)


def test_the_recurrent_mask_of_a_sentence_is_one_for_all_its_words(tiny_encoder, monkeypatch):
    model = luan_model(tiny_encoder, sciie).train()
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(coupled_lstm, "sweep", lambda *given: seen.append(given[-1]) or coupled_sweep(*given))
    batch = model.collate(read_sentences(CORPUS))
    model.scores(batch)
    (mask,) = seen
    assert mask.shape == (2, len(batch), SCIIE["context_size"])
    assert sorted(set(mask.flatten().tolist())) == pytest.approx(
        [0.0, 1 / (1 - model.settings.context_dropout)], rel=1e-4
    )
    model.eval().scores(batch)
    assert (seen[1] == 1).all()


def test_sciie_drops_words_apart_for_context_and_heads(tiny_encoder, monkeypatch):
    """Half of the words' figures before the BiLSTM, others before the sum over a span; and of the BiLSTM's states."""
    model, read = luan_model(tiny_encoder, sciie).train(), []
    model.context.register_forward_hook(lambda _, given, out: read.append((given[0], out)))
    states, means = model.words(model.collate(read_sentences(CORPUS)))
    ((words, out),) = read
    dropped, of_heads = words == 0, means.rows == 0
    assert 0.4 < float(dropped.float().mean()) < 0.6 and 0.4 < float(of_heads.float().mean()) < 0.6
    assert (dropped != of_heads).any() and torch.allclose(words[~dropped & ~of_heads], means.rows[~dropped & ~of_heads])
    assert 0.3 < float((states == 0).float().mean()) < 0.5
    assert torch.allclose(states[states != 0], out[states != 0] / 0.6, rtol=1e-3)


def test_the_gates_of_the_coupled_lstm_begin_orthonormal(tiny_encoder):
    context = sciie.System(LABELS, tiny_encoder).context
    for direction in context.weight.detach():
        for gate in direction.split(context.hidden, dim=1):
            product = gate.T @ gate if len(gate) >= gate.shape[1] else gate @ gate.T
            torch.testing.assert_close(product, torch.eye(len(product)), atol=1e-5, rtol=0)
    assert not context.bias.any() and context.cell.any() and context.state.any()


@pytest.mark.parametrize("kernels", [(2, 3, 4), (1,), (5, 1)])
def test_spe_convolutions_are_those_of_each_span_alone(kernels):
    """Of every span of nine words, empty ones too, without a loop over spans; the gradients as well."""
    torch.manual_seed(0)
    words = torch.randn(9, 6, dtype=torch.double, requires_grad=True)
    spans = torch.tensor([[start, end] for start in range(10) for end in range(start, 10)])
    convolutions = SpanConvolutions(6, 5, kernels).double()
    found = convolutions.maxima(convolutions(words), spans)
    expected = torch.zeros_like(found)
    for row, (start, end) in enumerate(spans.tolist()):
        if start < end:
            reversed_words = words[start:end].flip(0).T
            maps = [torch.nn.functional.gelu(layer(reversed_words)).amax(1) for layer in convolutions.layers]
            expected[row] = torch.cat(maps)
    torch.testing.assert_close(found, expected)
    of = [words, *convolutions.parameters()]
    gradients = (torch.autograd.grad(features.square().sum(), of) for features in (found, expected))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)
    convolutions.released = True
    torch.testing.assert_close(convolutions.maxima(convolutions(words), spans), found)


def test_spe_spans_of_tags():
    """B and U open, what follows O opens, I and E after an end open; nothing but O or the next opening closes."""
    tags = {"BIE": ["012"], "BOE": ["0", "2"], "UIE": ["0", "12"], "IEE": ["01", "2"], "BBI": ["0", "12"]}
    tags |= {"OPI": ["12"], "BPI": ["012"], "EPU": ["01", "2"], "OOO": [], "IIO": ["01"], "UUE": ["0", "1", "2"]}
    sentences = [Sentence(name, tuple("abc")) for name in tags]
    classes = torch.tensor(["PBIEOU".index(tag) for name in tags for tag in name])
    index = torch.arange(3).repeat(len(sentences))
    batch = Batch(sentences, {"word_index": index, "word_sentence": index})
    found = [[] for _ in tags]
    for start, end in spe.boundaries(classes, batch).tolist():
        found[start // 3].append("".join(str(word % 3) for word in range(start, end)))
    assert found == list(tags.values())


def spe_sentences() -> list[Sentence]:
    """Two of which the first has an entity inside another, which a flat sentence has not."""
    tokens, outer = tuple("abcdef"), (Entity("Task", 0, 1), Entity("Task", 2, 4), Entity("Method", 4, 6))
    relations = (Relation("Used-for", 2, 0), Relation("Part-of", 0, 2), Relation("Used-for", 1, 1))
    inside = Sentence("inside", tokens, (*outer, Entity("Task", 3, 4)))
    return [inside, *(Sentence(f"flat {n}", tokens, outer, relations) for n in range(2))]


def test_spe_learns_from_flat_sentences_and_one_label_a_pair(tiny_encoder):
    model = spe.System(LABELS, tiny_encoder, **spe.System.test_settings)
    items = model.training_items(spe_sentences())
    assert [s.id for s in items] == ["flat 0", "flat 1"]
    batch = model.training_batch(items[:1])
    assert [spe.TAGS[tag] for tag in batch["tags"].tolist()] == ["U", "O", "B", "E", "B", "E"]
    assert batch["spans"].tolist() == [[0, 1], [2, 4], [4, 6]] and batch["pairs"].tolist() == [[0, 1], [0, 2], [1, 2]]
    assert batch["pair_labels"].tolist() == [0, 1 + 2 * 1, 0], "the later of two, left to right; none with itself"


def test_spe_draws_boundaries_and_types_of_each_sentence(tiny_encoder, monkeypatch):
    model = spe.System(LABELS, tiny_encoder, **spe.System.test_settings | {"dropout": 0.0}).train()
    batch = model.training_batch(model.training_items(spe_sentences()))
    with torch.no_grad():  # every word a span, which has the first type
        model.tag.bias[spe.TAGS.index("U")], model.entity.bias[1] = 100.0, 100.0
    seen, segments = [], model.segments

    def recorded(windows: list, spans: torch.Tensor, features: torch.Tensor, pairs: torch.Tensor, of: Batch) -> list:
        seen[:] = [(spans // 6)[:, 0].bincount().tolist(), (spans[pairs[:, 0], 0] // 6).bincount().tolist()]
        return segments(windows, spans, features, pairs, of)

    monkeypatch.setattr(model, "segments", recorded)
    model.epoch = 1
    draws = {((0.0, 0.0), (0.0, 0.0)): [[3, 3], [3, 3]], ((0.0, 1.0), (0.0, 0.0)): [[3, 8], [3, 3]]}
    draws |= {((1.0, 1.0), (0.0, 1.0)): [[8, 8], [3, 26]]}
    for drawn, expected in draws.items():
        monkeypatch.setattr(torch, "rand", lambda *size, device, drawn=drawn: torch.tensor(drawn))
        model.losses(batch)
        assert seen == expected
    model.epoch = 0  # nothing is drawn
    monkeypatch.setattr(torch, "rand", None)
    model.losses(batch)
    assert seen == [[3, 3], [3, 3]]


def test_spe_begins_with_the_pretrained_pooler(tiny_encoder):
    weight, bias = (
        torch.randn(tiny_encoder.hidden_size, tiny_encoder.hidden_size),
        torch.randn(tiny_encoder.hidden_size),
    )
    assert not spe.System(LABELS, tiny_encoder).pooler.bias.any()
    tiny_encoder.pooler = weight, bias
    model = spe.System(LABELS, tiny_encoder).eval()
    assert torch.equal(model.pooler.weight, weight) and torch.equal(model.pooler.bias, bias)
    batch = model.collate(read_sentences(CORPUS)[:2])
    with torch.no_grad():
        first = model.encoder(batch["input_ids"], batch["attention_mask"])[:, 0]
        torch.testing.assert_close(model.encode(batch)[1], torch.tanh(first @ weight.T + bias))


def test_spe_pairs_in_parts_are_those_of_one_pass(tiny_encoder, monkeypatch):
    """Of a sentence whose every word is a span, too."""
    torch.manual_seed(0)
    model = spe.System(LABELS, tiny_encoder, **spe.System.test_settings).eval()
    with torch.no_grad():
        model.tag.bias[spe.TAGS.index("U")], model.entity.bias[1] = 100.0, 100.0
    batch = model.collate([Sentence("long", ("parsers",) * 30), *read_sentences(CORPUS)[:2]])
    whole = model.decode(batch)
    monkeypatch.setattr(spe, "PAIRS", 7)
    parts = model.decode(batch)
    for one, other in zip(whole, parts, strict=True):
        assert [(r.type, r.head, r.tail) for r in one.relations] == [(r.type, r.head, r.tail) for r in other.relations]
        assert [r.score for r in one.relations] == pytest.approx([r.score for r in other.relations], abs=1e-5)
    assert len(whole[0].relations) > 50
