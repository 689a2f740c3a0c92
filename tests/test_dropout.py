"""The CPU dropout: its rate, its scale, its gradient, and that it draws from torch's generator."""

import pytest
import torch
from torch import nn

from sinet.encoders.dropout import Dropout, replace_dropout


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.999])
def test_rate_scale_and_gradient(p):
    torch.manual_seed(0)
    values = torch.ones(401, 501, requires_grad=True)
    out = Dropout(p)(values)
    kept = out != 0
    n = values.numel()
    assert abs(float(kept.float().mean()) - (1 - p)) < 4 * (p * (1 - p) / n) ** 0.5
    assert torch.allclose(out[kept], torch.tensor(1 / (1 - p)), rtol=2e-2 if p > 0.9 else 1e-4)
    out.sum().backward()
    assert torch.equal(values.grad, out.detach())


def test_neighbours_are_independent():
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(400_000)) != 0).float()
    for lag in (1, 2, 3, 4, 8):
        together = float((kept[lag:] * kept[:-lag]).mean())
        assert abs(together - 0.25) < 0.005, lag


def test_seeded_and_silent_where_it_should_be():
    drop, values = Dropout(0.3), torch.randn(7, 5)
    torch.manual_seed(1)
    first = drop(values)
    torch.manual_seed(1)
    assert torch.equal(first, drop(values)) and not torch.equal(first, drop(values))
    assert drop.eval()(values) is values and Dropout(0.0)(values) is values
    assert torch.equal(Dropout(1.0)(values), torch.zeros(7, 5))


def test_takes_the_place_of_every_dropout():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(0.2)))
    replace_dropout(model)
    assert type(model[1][0]) is Dropout and model[1][0].p == 0.2
