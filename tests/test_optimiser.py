"""The optimiser against torch's AdamW after torch's clipping, and against transformers'."""

import copy
import io

import pytest
import torch
from torch import nn

from sinet import systems
from sinet.grid.config import read_config
from sinet.grid.recipes import spell_out
from sinet.train.optimiser import RecipeAdamW, parameter_groups
from sinet.train.schedules import inverse_time, schedule, slanted_triangular
from sinet.train.steps import new_optimizer
from tests.conftest import ARCHITECTURES, LABELS, recipe_of

CLOSE = {"atol": 1e-6, "rtol": 1e-6}  # the factor of clipping is float32
ROWS = [[1, 2, 2], [2, 3], [9, 1], [3], [7, 2]]


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(12, 4)
        self.linear = nn.Linear(4, 3)

    def loss(self, rows: list[int]) -> torch.Tensor:
        return (self.linear(self.embedding(torch.tensor(rows))) ** 3).sum()


def models() -> tuple[Model, Model]:
    torch.manual_seed(0)
    plain = Model().double()  # in which nothing but a mistake shows
    return plain, copy.deepcopy(plain)


def groups(model: Model, decay: float) -> list[dict]:
    return [
        {"params": [model.embedding.weight], "lr": 0.05, "weight_decay": decay},
        {"params": [*model.linear.parameters()], "lr": 0.1, "weight_decay": 0.0},
    ]


def falling(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))


def stepped(
    model: Model, optimizer: RecipeAdamW, schedule: object, rows: list[int], *limit: float | bool | None
) -> None:
    optimizer.zero_grad(set_to_none=True)
    model.loss(rows).backward()
    optimizer.clipped_step(*limit)
    schedule.step()


@pytest.mark.parametrize("decay", [0.0, 0.5])
@pytest.mark.parametrize(
    ("limit", "by_part", "clipped"),
    [
        (0.3, True, [["embedding.weight"], ["linear.weight", "linear.bias"]]),
        (1e6, True, [["embedding.weight"], ["linear.weight", "linear.bias"]]),
        (0.3, False, [["embedding.weight", "linear.weight", "linear.bias"]]),
        (None, True, []),
    ],
)
def test_weights_are_those_of_torch(decay, limit, by_part, clipped):
    """Parts of a system that share no loss are clipped apart, or by one norm; without a limit nothing is."""
    plain, ours = models()
    apart = groups(ours, decay)
    apart[1]["part"] = 1
    theirs, optimizer = torch.optim.AdamW(groups(plain, decay)), RecipeAdamW(apart)
    schedules = falling(theirs), falling(optimizer)
    for rows in ROWS:
        theirs.zero_grad(set_to_none=True)
        plain.loss(rows).backward()
        for names in clipped:
            nn.utils.clip_grad_norm_([plain.get_parameter(name) for name in names], limit)
        theirs.step()
        schedules[0].step()
        stepped(ours, optimizer, schedules[1], rows, limit, by_part)
        for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(one, other, **CLOSE)


def test_a_step_without_a_limit_is_not_clipped_by_the_one_before():
    plain, ours = models()
    theirs, optimizer = torch.optim.AdamW(groups(plain, 0.5)), RecipeAdamW(groups(ours, 0.5))
    schedules = falling(theirs), falling(optimizer)
    for limit, rows in zip([0.3, None, 0.3, None, 1e6], ROWS, strict=True):
        theirs.zero_grad(set_to_none=True)
        plain.loss(rows).backward()
        if limit is not None:
            nn.utils.clip_grad_norm_(plain.parameters(), limit)
        theirs.step()
        schedules[0].step()
        stepped(ours, optimizer, schedules[1], rows, limit)
        for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(one, other, **CLOSE)


def test_a_gradient_that_is_missing_is_zero_after_the_first_one():
    plain, ours = models()
    theirs, optimizer = torch.optim.AdamW(groups(plain, 0.5)), RecipeAdamW(groups(ours, 0.5))
    for number in range(3):
        theirs.zero_grad(set_to_none=True)
        optimizer.zero_grad(set_to_none=True)
        for model in (plain, ours):
            if number == 1:
                model.loss(ROWS[0]).backward()
            else:  # without the embedding
                model.linear(torch.ones(4, dtype=torch.double)).sum().backward()
        if number == 2:
            plain.embedding.weight.grad = torch.zeros_like(plain.embedding.weight)
        theirs.step()
        optimizer.clipped_step(None)
        for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(one, other, **CLOSE)


def test_a_resumed_one_goes_on_with_the_same_bits():
    _, whole = models()
    optimizer = RecipeAdamW(groups(whole, 0.5))
    rates = falling(optimizer)
    file = io.BytesIO()
    for number, rows in enumerate(ROWS):
        if number == 2:
            torch.save((whole.state_dict(), optimizer.state_dict(), rates.state_dict()), file)
        stepped(whole, optimizer, rates, rows, 0.3)
    _, resumed = models()
    optimizer = RecipeAdamW(groups(resumed, 0.5))
    rates = falling(optimizer)
    file.seek(0)
    for target, state in zip((resumed, optimizer, rates), torch.load(file, weights_only=True), strict=True):
        target.load_state_dict(state)
    for rows in ROWS[2:]:
        stepped(resumed, optimizer, rates, rows, 0.3)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


@pytest.mark.parametrize("beta2", [0.9, 0.999])
@pytest.mark.parametrize("bias_correction", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_the_step_is_transformers_adamw(decay, bias_correction, beta2):
    """Held against that class's formula, written out; a parameter that no batch reaches has a zero gradient after its
    first one."""
    plain, ours = models()
    optimizer = RecipeAdamW(
        groups(ours, decay), eps=1e-3, beta2=beta2, bias_correction=bias_correction, transformers=True
    )
    rates = falling(optimizer)
    moments = {n: (torch.zeros_like(p), torch.zeros_like(p)) for n, p in plain.named_parameters()}
    for t, rows in enumerate(ROWS, 1):
        stepped(ours, optimizer, rates, rows, None)
        plain.zero_grad()
        plain.loss(rows).backward()
        with torch.no_grad():
            for name, p in plain.named_parameters():
                in_table = name.startswith("embedding")
                lr, wd = (0.05 / t, decay) if in_table else (0.1 / t, 0.0)
                m, v = moments[name]
                m.mul_(0.9).add_(p.grad, alpha=0.1)
                v.mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
                size = lr * ((1 - beta2**t) ** 0.5 / (1 - 0.9**t) if bias_correction else 1)
                p.sub_(size * m / (v.sqrt() + 1e-3))
                p.mul_(1 - lr * wd)
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("system", ["spert", "pure"])
def test_rates_fall_from_layer_to_layer(system, kind, fresh_encoder):
    """In every encoder of a system; a rate by name, embeddings and what is no encoder's do not fall."""
    model = systems.load(system)(LABELS, fresh_encoder(kind))
    names = {id(p): name for name, p in model.named_parameters()}
    recipe = recipe_of(encoder_lr=1.0, head_lr=2.0, layer_decay=0.5, lr_of={"width.": 3.0})
    rates = {names[id(p)]: group["lr"] for group in parameter_groups(model, recipe) for p in group["params"]}
    for name, rate in rates.items():
        if not name.startswith(model.encoders):
            assert rate == (3.0 if name.startswith("width.") else 2.0)
        else:
            assert rate == (0.5 if ("layer.0." in name or "layers.0." in name) and kind != "albert" else 1.0), name
    assert any(rate == 0.5 for rate in rates.values()) == (kind != "albert")
    plain = {group["lr"] for group in parameter_groups(model, recipe_of(encoder_lr=1.0, head_lr=2.0))}
    assert plain == {1.0, 2.0}


def test_a_recipe_sets_the_second_moment(tiny_encoder):
    model = systems.load("spert")(LABELS, tiny_encoder)
    assert {group["betas"] for group in new_optimizer(model, recipe_of(beta2=0.8)).param_groups} == {(0.9, 0.8)}


def rates_of(steps: int, **recipe: object) -> list[float]:
    """The factor of the rate at each step of a recipe."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    rates, found = schedule(optimizer, recipe_of(**recipe), steps), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        rates.step()
    return found


def test_schedules():
    linear = rates_of(100, warmup=0.1)
    assert [linear[s] for s in (0, 5, 10, 55)] == pytest.approx([0, 0.5, 1, 0.5])
    assert rates_of(4, warmup=0.0) == pytest.approx([1, 0.75, 0.5, 0.25])
    # of 24 steps 2.4 rise: a fraction, unless it is cut
    assert rates_of(24, warmup=0.1)[:4] == pytest.approx([0, 1 / 2.4, 2 / 2.4, 21 / 21.6])
    assert rates_of(24, warmup=0.1, whole_warmup_steps=True)[:4] == pytest.approx([0, 0.5, 1, 21 / 22])
    assert rates_of(3, schedule="constant") == [1, 1, 1]
    stairs = [inverse_time(step, 1000, 0.05) for step in (0, 499, 999, 1000, 1999, 2000, 20000)]
    assert stairs == pytest.approx([0.001, 0.5, 1, 1 / 1.05, 1 / 1.05, 1 / 1.1, 1 / 2])
    assert rates_of(3, schedule="inverse_time", warmup_steps=2) == pytest.approx([0.5, 1, 1])
    assert rates_of(8, schedule="exponential", decay_rate=0.5, decay_steps=3) == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]
    # cut at a tenth, 32 times from the lowest to the highest rate
    triangle = [slanted_triangular(step, 100) for step in (0, 8, 9, 54, 99)]
    assert triangle == pytest.approx([(1 + 31 / 10) / 32, (1 + 31 * 0.9) / 32, 1, (1 + 31 / 2) / 32, 1 / 32])
    assert rates_of(100, schedule="slanted_triangular")[9] == 1


@pytest.mark.parametrize(("system", "rate"), [("sciie", 5e-4), ("dygie", 1e-3)])
def test_sciie_and_dygie_train_at_the_released_rates(system, rate):
    """Their configurations' `decay_rate` 0.999 and `decay_frequency` 100, as TensorFlow's staircase reads them."""
    recipe, _ = spell_out(read_config(), "own", system, "")
    factors = rates_of(350, **recipe.model_dump(include={"schedule", "decay_rate", "decay_steps"}))
    expected, current = [], rate
    for step in range(350):
        if step and step % 100 == 0:
            current *= 0.999
        expected.append(current)
    assert [recipe.head_lr * factor for factor in factors] == pytest.approx(expected, rel=1e-12)
