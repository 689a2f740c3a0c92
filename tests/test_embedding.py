"""The embedding's gradient against torch's own, over steps, repeated rows, padding and several uses in one step."""

import copy

import pytest
import torch
from torch import nn
from transformers import BertModel

from sinet.encoders.embedding import RowEmbedding, replace_embeddings
from tests.conftest import tiny_config


def steps(embedding: nn.Embedding, batches: list[list[torch.Tensor]]) -> list[torch.Tensor]:
    """Weights after each of several steps with clipping; the gradient before clipping is checked where it is dense."""
    optimizer = torch.optim.AdamW(embedding.parameters(), lr=0.1, weight_decay=0.1)
    found = []
    for batch in batches:
        optimizer.zero_grad(set_to_none=True)
        loss = sum((embedding(rows) ** 3).sum() + embedding(rows).sin().sum() for rows in batch)
        loss.backward()
        found.append(embedding.weight.grad.clone())
        nn.utils.clip_grad_norm_(embedding.parameters(), 0.5)
        optimizer.step()
        found.append(embedding.weight.detach().clone())
    return found


@pytest.mark.parametrize("padding", [None, 0])
def test_gradients_and_steps_are_those_of_torch(padding):
    torch.manual_seed(0)
    plain = nn.Embedding(50, 6, padding_idx=padding)
    ours = RowEmbedding(copy.deepcopy(plain))
    batches = [[torch.randint(0, 50, (3, 5)) for _ in range(n)] for n in (1, 2, 1, 3)]
    batches[1][0][:] = 7  # one row, many times
    batches[2][0][0] = 0
    for a, b in zip(steps(plain, batches), steps(ours, batches), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)


def test_gradients_add_up_until_they_are_cleared():
    plain = nn.Embedding(9, 2)
    ours = RowEmbedding(copy.deepcopy(plain))
    for embedding in (plain, ours):
        for rows in ([1, 2], [2, 3]):
            embedding(torch.tensor(rows)).sum().backward()
    assert torch.equal(plain.weight.grad, ours.weight.grad)
    for embedding in (plain, ours):
        embedding.zero_grad()
        embedding(torch.tensor([5])).sum().backward()
    assert torch.equal(plain.weight.grad, ours.weight.grad)
    ours.weight.grad = torch.ones_like(ours.weight)  # given by someone else: added to, and not taken for ours
    ours(torch.tensor([4])).sum().backward()
    assert ours.weight.grad.sum() == 18 + 2
    ours.zero_grad()
    ours(torch.tensor([8])).sum().backward()
    assert ours.weight.grad.nonzero()[:, 0].unique().tolist() == [8]


def test_a_model_keeps_its_weights_and_names():
    model = BertModel(tiny_config("bert"))
    model.distances = nn.Module()
    model.distances.table = nn.Embedding(4, 32)  # as DeBERTa's, which is read whole: the row-wise one would not learn
    before = {name: p.data_ptr() for name, p in model.named_parameters()}
    replace_embeddings(model)
    assert {n: p.data_ptr() for n, p in model.named_parameters()} == before
    kinds = {name.split(".")[-1]: type(m) for name, m in model.named_modules() if isinstance(m, nn.Embedding)}
    beside = ("word_embeddings", "position_embeddings", "token_type_embeddings")
    assert kinds == dict.fromkeys(beside, RowEmbedding) | {"table": nn.Embedding}
    with torch.inference_mode():
        words = model.get_input_embeddings()
        assert torch.equal(words(torch.tensor([2])), words.weight[2:3])
