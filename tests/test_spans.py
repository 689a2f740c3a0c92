"""Span arithmetic against plain loops."""

import itertools

import pytest
import torch

from sinet.data.sentence import Sentence
from sinet.model import spans as S
from tests.conftest import CORPUS, LABELS, read_sentences


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("rows, longest", [(1, 1), (7, 7), (33, 8), (33, 33), (40, 31)])
def test_range_maxima_are_exact(rows, longest):
    values = torch.randn(rows, 5)
    ranges = [(a, b) for a in range(rows + 1) for b in range(a, min(rows, a + longest) + 1)]
    expected = [values[a:b].max(0).values if b > a else torch.zeros(5) for a, b in ranges]
    assert torch.equal(S.range_max(values, torch.tensor(ranges)), torch.stack(expected))
    assert torch.equal(S.range_max(values, torch.tensor([[3 % rows, 0]])), torch.zeros(1, 5)), "reversed is empty"
    assert S.range_max(values, torch.tensor([[rows, rows]])).tolist() == [[0.0] * 5]
    assert S.range_max(values, torch.tensor(ranges)[:0]).shape == (0, 5)


def test_range_maxima_have_the_gradient_of_maxima():
    values = torch.randn(40, 3, dtype=torch.float64, requires_grad=True)
    ranges = [(1, 8), (0, 40), (5, 6), (9, 9), (1, 8), (30, 39), (12, 16)]
    weights = torch.randn(len(ranges), 3, dtype=torch.float64)
    (S.range_max(values, torch.tensor(ranges)) * weights).sum().backward()
    found, values.grad = values.grad, None
    maxima = [values[a:b].amax(0) if b > a else torch.zeros(3, dtype=torch.float64) for a, b in ranges]
    (torch.stack(maxima) * weights).sum().backward()
    assert torch.allclose(found, values.grad)
    equal = torch.zeros(6, 1, requires_grad=True)
    S.range_max(equal, torch.tensor([[0, 5]])).sum().backward()
    assert equal.grad.sum() == 1, "equal elements share it"


@pytest.mark.parametrize("grad", [True, False])
def test_word_maxima_equal_loops(tiny_encoder, grad):
    rare = Sentence("rare", ("Nasal", "neural", "parsers", "nasal", "🙂", "abcdefghijklmnopqrst"))
    batch = S.collate([rare, *read_sentences(CORPUS)], tiny_encoder, LABELS)
    pieces = list(zip(batch["word_start"].tolist(), batch["word_end"].tolist(), strict=True))
    assert max(b - a for a, b in pieces) > 2
    states = [torch.randn(*batch["input_ids"].shape, 3, requires_grad=grad) for _ in range(2)]
    for rows, found in zip(states, S.word_maxima(batch, *states), strict=True):
        expected = torch.stack([rows.flatten(0, 1)[a:b].amax(0) for a, b in pieces])
        assert torch.equal(found, expected)
        if grad:
            weights = torch.randn_like(found)
            (ours,) = torch.autograd.grad(found, rows, weights, retain_graph=True)
            (loops,) = torch.autograd.grad(expected, rows, weights)
            assert torch.equal(ours, loops)


def test_what_lies_between_spans_equals_loops():
    spans = torch.tensor([[0, 2], [4, 5], [1, 3], [2, 4]])
    head, tail = torch.cartesian_prod(torch.arange(4), torch.arange(4)).unbind(1)
    found = S.context_span(spans[head], spans[tail]).tolist()
    for i, j, (start, end) in zip(head.tolist(), tail.tolist(), found, strict=True):
        ahead, behind = (i, j) if spans[i, 0] <= spans[j, 0] else (j, i)
        assert list(range(start, end)) == [row for row in range(5) if spans[ahead, 1] <= row < spans[behind, 0]]


def test_pairs_within_groups():
    group = [2, 0, 2, 1, 0, 2]
    expected = [(i, j) for i, j in itertools.permutations(range(6), 2) if group[i] == group[j]]
    found = S.pairs_within(torch.tensor(group), 3)
    assert sorted(map(tuple, found.tolist())) == expected
    assert found.tolist().index([0, 5]) < found.tolist().index([5, 0]), "the item that comes first is first head"
    assert S.pairs_within(torch.tensor([0, 1]), 2).shape == (0, 2)


def test_ordered_pairs():
    counts = [2, 0, 1, 3]
    first = [0, 2, 2, 3]
    expected = [
        (a + i, a + j) for a, n in zip(first, counts, strict=True) for i, j in itertools.permutations(range(n), 2)
    ]
    assert sorted(map(tuple, S.ordered_pairs(torch.tensor(counts)).tolist())) == sorted(expected)
    assert S.ordered_pairs(torch.tensor([0, 1])).shape == (0, 2)


def test_sampling_takes_at_most_n_of_each_group_and_all_are_possible():
    group = torch.tensor([2, 0, 0, 2, 0, 0, 0, 2])
    seen = set()
    for _ in range(50):
        chosen = S.sample_per_group(group, torch.full((4,), 3))
        assert torch.bincount(group[chosen], minlength=4).tolist() == [3, 0, 3, 0]
        assert len(set(chosen.tolist())) == 6
        seen.update(chosen.tolist())
    assert seen == set(range(8))


def test_symmetric_pairs_are_folded_and_their_reverses_negatives_if_wanted(tiny_encoder):
    sentence = read_sentences(CORPUS)[3]  # Compare is annotated right to left there
    batch = S.collate([sentence, sentence], tiny_encoder, LABELS)
    spans = batch["gold_spans"].tolist()
    assert spans[3:] == [[a + 10, b + 10] for a, b in spans[:3]]
    compare = LABELS.relation_types.index("Compare")
    for reverses in (True, False):
        pairs, types, negative = S.fold_pairs(batch, LABELS, reverses)
        oriented = [tuple(p) for p, t in zip(pairs.tolist(), types, strict=True) if t[compare]]
        assert oriented == [(0, 1), (3, 4)]
        negative = {tuple(p) for p in negative.tolist()}
        assert ({(1, 0), (4, 3)} <= negative) == reverses
        assert not negative & {tuple(p) for p in pairs.tolist()}
        assert all(i // 3 == j // 3 for i, j in negative), "pairs stay in their sentence"
