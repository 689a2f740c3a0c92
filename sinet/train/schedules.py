"""Learning rates over the steps of a training; `torch.optim.lr_scheduler` counts them from 0."""

import math

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import get_constant_schedule, get_linear_schedule_with_warmup

from sinet.schema import TrainingRecipe

CUT, RATIO = 0.1, 32
"""Of the slanted triangle: the share of the steps that rise, and how many times the lowest rate the highest is."""
DECAY_STEPS = 1000
"""Steps after which the rate of the inverse time decay changes."""


def schedule(optimizer: torch.optim.Optimizer, recipe: TrainingRecipe, steps: int) -> LRScheduler:
    """The schedule of a spelled-out recipe over so many steps."""
    match recipe.schedule:
        case "linear":
            warmup = recipe.warmup * steps
            warmup = int(warmup) if recipe.whole_warmup_steps else warmup
            return get_linear_schedule_with_warmup(optimizer, warmup, steps)
        case "constant":
            return get_constant_schedule(optimizer)
        case "inverse_time":
            return LambdaLR(optimizer, lambda step: inverse_time(step, recipe.warmup_steps, recipe.decay_rate))
        case "exponential":
            return LambdaLR(optimizer, lambda step: exponential(step, recipe.decay_rate, recipe.decay_steps))
        case "slanted_triangular":
            return LambdaLR(optimizer, lambda step: slanted_triangular(step, steps))


def inverse_time(step: int, warmup: int, decay: float) -> float:
    """Wang and Lu, EMNLP 2020, as released: up over the warm-up, whose first step is not idle, then a staircase."""
    if step < warmup:
        return (step + 1) / warmup
    return 1 / (1 + decay * (step // DECAY_STEPS))


def exponential(step: int, decay: float, every: int) -> float:
    """Luan et al., EMNLP 2018, as released: multiplied by `decay` after every so many steps, a staircase."""
    return decay ** (step // every)


def slanted_triangular(step: int, steps: int) -> float:
    """Howard and Ruder, ACL 2018, equation 3, with the step that is about to be made counted, as AllenNLP does."""
    cut = math.floor(steps * CUT)
    step = min(step + 1, steps)
    share = step / cut if step < cut else 1 - (step - cut) / max(1, steps - cut)
    return (1 + share * (RATIO - 1)) / RATIO
