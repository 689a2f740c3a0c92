"""The optimiser against torch's AdamW after torch's clipping: rows touched late, again and never, and a resumed one."""

import copy
import gc
import io
import weakref

import pytest
import torch
from torch import nn

from sinet import systems
from sinet.encoders.embedding import RowEmbedding
from sinet.grid.config import read_config
from sinet.grid.recipes import spell_out
from sinet.train.optimiser import RowAdamW, parameter_groups
from sinet.train.schedules import inverse_time, schedule, slanted_triangular
from sinet.train.steps import new_optimizer
from tests.conftest import ARCHITECTURES, LABELS, recipe_of

CLOSE = {"atol": 1e-6, "rtol": 1e-6}  # the factor of clipping is float32
ROWS = [[1, 2, 2], [2, 3], [9, 1], [3], [7, 2]]


class Model(nn.Module):
    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self.embedding = embedding
        self.linear = nn.Linear(4, 3)

    def loss(self, rows: list[int]) -> torch.Tensor:
        return (self.linear(self.embedding(torch.tensor(rows))) ** 3).sum()


def models() -> tuple[Model, Model]:
    torch.manual_seed(0)
    plain = Model(nn.Embedding(12, 4)).double()  # in which nothing but a mistake shows
    ours = copy.deepcopy(plain)
    ours.embedding = RowEmbedding(ours.embedding)
    return plain, ours


def groups(model: Model, decay: float) -> list[dict]:
    return [
        {"params": [model.embedding.weight], "lr": 0.05, "weight_decay": decay},
        {"params": [*model.linear.parameters()], "lr": 0.1, "weight_decay": 0.0},
    ]


def made(model: Model, decay: float) -> tuple[RowAdamW, torch.optim.lr_scheduler.LRScheduler]:
    optimizer = RowAdamW(groups(model, decay), [model.embedding])
    return optimizer, falling(optimizer)


def falling(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))


def stepped(model: Model, optimizer: RowAdamW, schedule: object, rows: list[int], clip: float) -> None:
    optimizer.zero_grad(set_to_none=True)
    model.loss(rows).backward()
    optimizer.clipped_step(clip)
    schedule.step()


@pytest.mark.parametrize("clip", [0.3, 1e6])
def test_models_that_share_no_loss_are_clipped_apart(clip):
    plain, ours = models()
    apart = groups(ours, 0.5)
    apart[1]["part"] = 1
    theirs, optimizer = torch.optim.AdamW(groups(plain, 0.5)), RowAdamW(apart, [ours.embedding])
    schedules = falling(theirs), falling(optimizer)
    for rows in ROWS:
        theirs.zero_grad(set_to_none=True)
        plain.loss(rows).backward()
        for weights in ([plain.embedding.weight], plain.linear.parameters()):
            nn.utils.clip_grad_norm_(weights, clip)
        theirs.step()
        schedules[0].step()
        stepped(ours, optimizer, schedules[1], rows, clip)
    optimizer.apply_pending_decay()
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


@pytest.mark.parametrize("clip", [0.3, 1e6])
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_weights_are_those_of_torch(decay, clip):
    plain, ours = models()
    before = ours.embedding.weight.detach().clone()
    theirs = torch.optim.AdamW(groups(plain, decay))
    schedule = falling(theirs)
    optimizer, own_schedule = made(ours, decay)
    for rows in ROWS:
        theirs.zero_grad(set_to_none=True)
        plain.loss(rows).backward()
        nn.utils.clip_grad_norm_(plain.parameters(), clip)
        theirs.step()
        schedule.step()
        stepped(ours, optimizer, own_schedule, rows, clip)
        if rows == ROWS[1]:
            optimizer.apply_pending_decay()  # as at the end of an epoch: others go on to owe what comes after
            torch.testing.assert_close(ours.embedding.weight, plain.embedding.weight, **CLOSE)
            before = ours.embedding.weight.detach().clone()
        touched = torch.tensor(rows)
        torch.testing.assert_close(ours.embedding.weight[touched], plain.embedding.weight[touched], **CLOSE)
    assert torch.equal(ours.embedding.weight[[0, 4, 11]], before[[0, 4, 11]]), "rows that none has read wait"
    optimizer.apply_pending_decay()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, **CLOSE)
    settled = ours.embedding.weight.detach().clone()
    optimizer.apply_pending_decay()
    assert torch.equal(ours.embedding.weight, settled), "nothing is owed twice"


def test_a_step_without_the_embedding_and_a_foreign_gradient():
    _, ours = models()
    optimizer, schedule = made(ours, 0.5)
    stepped(ours, optimizer, schedule, ROWS[0], 0.3)
    before = ours.embedding.weight.detach().clone()
    moment, root = (optimizer.state[ours.embedding.weight][key].clone() for key in ("exp_avg", "exp_avg_sq"))
    optimizer.zero_grad(set_to_none=True)
    ours.linear(torch.ones(4, dtype=torch.double)).sum().backward()
    optimizer.clipped_step(0.3)
    optimizer.apply_pending_decay()
    owed = 1 - 0.05 / 2 * 0.5  # the rate has fallen to a half
    # a gradient that is missing is zero: rows that were read go on by their moments
    rate = 0.05 / 2 / (1 - 0.9**2)
    moved = before[[1, 2]] * owed - rate * 0.9 * moment / ((0.999 * root / (1 - 0.999**2)).sqrt() + 1e-8)
    torch.testing.assert_close(ours.embedding.weight[[1, 2]], moved, **CLOSE)
    torch.testing.assert_close(ours.embedding.weight[[0, 5]], before[[0, 5]] * owed * (1 - 0.05 * 0.5), **CLOSE)
    ours.embedding.weight.grad = torch.ones_like(ours.embedding.weight)
    with pytest.raises(RuntimeError, match="was not made by reading rows"):
        optimizer.clipped_step(0.3)


def test_a_copy_of_the_model_has_nothing_to_do_with_its_optimiser():
    _, ours = models()
    optimizer, schedule = made(ours, 0.5)
    stepped(ours, optimizer, schedule, ROWS[0], 0.3)
    copied = copy.deepcopy(ours)
    copied.loss(ROWS[1]).backward()
    assert optimizer.state[ours.embedding.weight]["rows"].tolist() == [1, 2]
    alive = weakref.ref(optimizer)
    del optimizer, schedule
    gc.collect()
    assert alive() is None
    ours.loss(ROWS[2]).backward()


def test_a_resumed_one_goes_on_with_the_same_bits():
    _, whole = models()
    optimizer, schedule = made(whole, 0.5)
    file = io.BytesIO()
    for number, rows in enumerate(ROWS):
        if number == 2:
            states = whole.state_dict(), optimizer.state_dict(), schedule.state_dict()
            torch.save(states, file)
        stepped(whole, optimizer, schedule, rows, 0.3)
    optimizer.apply_pending_decay()
    _, resumed = models()
    optimizer, schedule = made(resumed, 0.5)
    file.seek(0)
    for target, state in zip((resumed, optimizer, schedule), torch.load(file, weights_only=True), strict=True):
        target.load_state_dict(state)
    for rows in ROWS[2:]:
        stepped(resumed, optimizer, schedule, rows, 0.3)
    optimizer.apply_pending_decay()
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


@pytest.mark.parametrize("beta2", [0.9, 0.999])
@pytest.mark.parametrize("bias_correction", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_the_step_is_transformers_adamw(decay, bias_correction, beta2):
    """Held against that class's formula, written out; a parameter that no batch reaches has a zero gradient after its
    first one."""
    plain, ours = models()
    optimizer = RowAdamW(
        groups(ours, decay),
        [ours.embedding],
        eps=1e-3,
        beta2=beta2,
        bias_correction=bias_correction,
        transformers=True,
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
    optimizer.apply_pending_decay()
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


def test_without_a_limit_nothing_is_clipped_and_by_one_norm_all_is():
    for limit, by_part in ((None, True), (0.3, False)):
        plain, ours = models()
        apart = groups(ours, 0.0)
        apart[1]["part"] = 1
        theirs, optimizer = torch.optim.AdamW(groups(plain, 0.0)), RowAdamW(apart, [ours.embedding])
        for rows in ROWS:
            theirs.zero_grad(set_to_none=True)
            plain.loss(rows).backward()
            if limit is not None:
                nn.utils.clip_grad_norm_(plain.parameters(), limit)
            theirs.step()
            optimizer.zero_grad(set_to_none=True)
            ours.loss(rows).backward()
            optimizer.clipped_step(limit, by_part)
        optimizer.apply_pending_decay()
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
