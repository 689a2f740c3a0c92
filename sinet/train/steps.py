"""Training steps, and all that a later process needs to go on with the same bits from any of them."""

import logging
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sinet import machine
from sinet.contract import Batch, Extractor
from sinet.errors import Diverged, UserError
from sinet.model.batches import training_batches
from sinet.model.prefetch import prefetched
from sinet.schema import TrainingRecipe
from sinet.train.checkpoints import StopSignal
from sinet.train.optimiser import RecipeAdamW, parameter_groups
from sinet.train.schedules import schedule

log = logging.getLogger("sinet")

SAVE_SECONDS = 300.0
"""Between two saves within an epoch; every epoch is saved besides."""
REPORT_SECONDS = 10.0
"""Between two lines of the log within an epoch; every look at dev has one besides."""


class Steps:
    """Which items each step of a training takes, how many steps there are, and after which dev is evaluated.

    Args:
        items: what batches are made of (`Extractor.training_items`). recipe: one training, spelled out.
    """

    def __init__(self, model: Extractor, items: Sequence, recipe: TrainingRecipe, seed: int) -> None:
        self.items, self.recipe, self.seed = items, recipe, seed
        self._lengths = model.item_lengths(items)
        self._documents = [item.document for item in items] if recipe.batch_size == "document" else []
        if not (batches := self.batches(1)):
            raise UserError(f"batch_size: {recipe.batch_size} is more than the {len(items)} items, and drop_last is on")
        self.steps_per_epoch = len(batches)
        self.steps: int = recipe.steps or (recipe.epochs or 0) * self.steps_per_epoch

    def batches(self, epoch: int) -> list[list[int]]:
        """Positions of the items of each batch of an epoch, counted from 1."""
        return training_batches(self._lengths, self.recipe, self.seed, epoch, self._documents)

    def in_steps(self, length: int) -> int:
        """A length that the recipe gives in epochs, or in steps where its own length is in steps."""
        return length if self.recipe.steps else length * self.steps_per_epoch

    def evaluates(self, step: int) -> bool:
        """Whether the recipe looks at dev after so many steps."""
        return step > self.in_steps(self.recipe.select_after) and self.ends_round(step)

    def ends_round(self, step: int) -> bool:
        """Whether a row of the log is due after so many steps: every so many steps or epochs, or so often in an
        epoch."""
        every = self.recipe.evaluate_every
        if self.recipe.steps:
            return step % int(every) == 0
        if every >= 1:
            return step % (int(every) * self.steps_per_epoch) == 0
        # PURE counts whole steps within each epoch
        steps = max(1, int(round(every * self.steps_per_epoch, 6)))
        return (step % self.steps_per_epoch or self.steps_per_epoch) % steps == 0


class Training(Steps):
    """A model, or one of its parts, in training, and all that a later process needs to go on with the same bits."""

    def __init__(
        self, model: Extractor, items: Sequence, recipe: TrainingRecipe, seed: int, device: torch.device, precision: str
    ) -> None:
        super().__init__(model, items, recipe, seed)
        self.model, self.device, self.precision = model, device, precision
        self.optimizer = new_optimizer(model, recipe)
        self.schedule = schedule(self.optimizer, recipe, self.steps)
        self.step = 0
        self.epoch_losses: list[dict[str, float]] = []
        self._term_sums: dict[str, Tensor] = {}
        self.next_round()

    @property
    def epoch(self) -> float:
        """How many epochs have been trained, the begun one by its share."""
        whole, begun = divmod(self.step, self.steps_per_epoch)
        return whole + begun / self.steps_per_epoch if begun else whole

    def next_round(self) -> None:
        """Begin the steps up to the next row of the log, or the end: no loss, no time."""
        self.round_steps, self.round_items, self.seconds = 0, 0, 0.0
        self.loss = torch.zeros((), device=self.device)

    def saved(self) -> dict:
        """The state: batches depend on seed and epoch alone, so the number of steps is the sampler's position.

        Raises:
            Diverged: weights that are no numbers; the state before them is the one to keep.
        """
        if lost := [name for name, p in self.model.named_parameters() if not torch.isfinite(p).all()]:
            raise Diverged(
                f"step {self.step}: {len(lost)} of the weights' tensors are no longer finite ({lost[0]}): it diverged; "
                "lower encoder_lr or head_lr in the recipe"
            )
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "random": random_state(self.device),
            "step": self.step,
            "round_steps": self.round_steps,
            "round_items": self.round_items,
            "seconds": self.seconds,
            "loss": self.loss,
            "epoch_losses": self.epoch_losses,
            "term_sums": self._term_sums,
        }

    def restore(self, saved: dict) -> None:
        """Go on from what `saved` gave: weights, optimiser, schedule, random numbers and counts."""
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        restore_random_state(saved["random"], self.device)
        self.step, self.seconds, self.loss = saved["step"], saved["seconds"], saved["loss"].to(self.device)
        self.round_steps, self.round_items = saved["round_steps"], saved["round_items"]
        self.epoch_losses = saved["epoch_losses"]
        self._term_sums = {name: total.to(self.device) for name, total in saved["term_sums"].items()}

    def round(self, save: Callable[[], None], stop: StopSignal) -> float:
        """The steps still to be done up to the next row of the log, or the end; returns the mean loss of a batch.

        The state is saved every `SAVE_SECONDS`, and at once when the scheduler asks the job to end.

        Raises:
            Interrupted: after such a request. Diverged: a loss that is no number. UserError: memory that does not
                suffice.
        """
        self.model.train()
        began, last_saved = time.perf_counter() - self.seconds, time.monotonic()
        last_reported = last_saved
        while self.step < self.steps and not (self.round_steps and self.ends_round(self.step)):
            with prefetched(self._parts, self._upcoming(), self.device) as prepared:
                for items, parts in prepared:
                    terms = self._step(items, parts)
                    self.loss += sum(terms.values())
                    self.step += 1
                    self.round_steps += 1
                    self.round_items += len(items)
                    save_now = bool(stop.asked) or time.monotonic() - last_saved > SAVE_SECONDS
                    # a GPU is asked now and then only, as reading the loss waits for it, and before its work is saved
                    ends = self.step == self.steps or self.ends_round(self.step)
                    look = self.device.type == "cpu" or self.step % 50 == 0 or ends or save_now
                    if look and not torch.isfinite(self.loss):
                        told = ", ".join(f"{name} {float(term):.4g}" for name, term in terms.items())
                        raise Diverged(
                            f"{self._where()}: the loss is {float(sum(terms.values()))} ({told}): it diverged; lower "
                            "encoder_lr or head_lr in the recipe"
                        )
                    self.seconds = time.perf_counter() - began
                    if time.monotonic() - last_reported > REPORT_SECONDS:
                        self.report({"epoch": self.epoch})
                        last_reported = time.monotonic()
                    if save_now:
                        break
            if save_now:  # what was prepared ahead is no part of the state
                save()
                last_saved = time.monotonic()
                stop.raise_if_requested(self.epoch)
        return float(self.loss) / self.round_steps

    def report(self, row: dict) -> None:
        """One line of the log: the step, a row's figures, speed, and the seconds left without those of dev; the
        workflow's display reads it."""
        speed = {"sentences_per_s": self.round_items / self.seconds}
        speed["left_s"] = self.seconds / self.round_steps * (self.steps - self.step)
        told = ", ".join(f"{key} {value:.4g}" for key, value in (row | speed).items() if key != "stage")
        log.info("%sstep %d of %d: %s", f"{self.model.stage} " * bool(self.model.stage), self.step, self.steps, told)

    def _upcoming(self) -> Iterator[list]:
        """The items of each batch from here on up to the next row of the log, or the end."""
        epoch, batches = 0, []
        for step in range(self.step, self.steps):
            if epoch != (epoch := step // self.steps_per_epoch + 1):
                batches = self.batches(epoch)
            yield [self.items[i] for i in batches[step % self.steps_per_epoch]]
            if self.ends_round(step + 1):
                return

    def _parts(self, items: list) -> list[Batch]:
        return batch_parts(self.model, items, self.recipe)

    def _step(self, items: list, parts: list[Batch]) -> dict[str, Tensor]:
        self.model.epoch, done = divmod(self.step, self.steps_per_epoch)
        if self.step and not done:
            sums, self._term_sums = self._term_sums, {}
            self.epoch_losses.append({name: float(total) / self.steps_per_epoch for name, total in sums.items()})
        self.model.epoch_losses = self.epoch_losses
        try:
            terms = train_step(
                self.model, parts, self.optimizer, self.schedule, self.recipe, self.device, self.precision
            )
        except torch.OutOfMemoryError:
            longest = max(self.model.item_lengths(items))
            at_once = self.recipe.micro_batch_size or len(items)
            raise UserError(
                f"{self._where()}: out of GPU memory at {at_once} of a batch of {len(items)} with up to {longest} "
                "word pieces; lower micro_batch_size in the recipe: the batch is cut, its gradient stays the same"
            ) from None
        for name, term in terms.items():
            self._term_sums[name] = self._term_sums.get(name, 0) + term.double()
        return terms

    def _where(self) -> str:
        return f"epoch {math.ceil(self.epoch) or 1}, step {self.step} of {self.steps}"


def new_optimizer(model: Extractor, recipe: TrainingRecipe) -> RecipeAdamW:
    """The optimiser of a spelled-out recipe over what is trained of a model."""
    return RecipeAdamW(
        parameter_groups(model, recipe),
        eps=recipe.eps,
        beta2=recipe.beta2,
        bias_correction=recipe.bias_correction,
        transformers=recipe.optimizer == "transformers_adamw",
    )


def batch_parts(model: Extractor, items: Sequence, recipe: TrainingRecipe) -> list[Batch]:
    """A batch of training items, on the CPU; with `micro_batch_size` cut into parts of so many, which have the whole
    batch's padding where it enters the loss."""
    size = recipe.micro_batch_size or len(items)
    whole_width = model.collate(items)["input_ids"].shape[1] if size < len(items) and not model.mask_padding else 0
    with model.encoder.padded_to(whole_width):
        return [model.training_batch(items[i : i + size]) for i in range(0, len(items), size)]


class ClippedSteps(Protocol):
    """What a training step needs of `RecipeAdamW`."""

    def zero_grad(self, set_to_none: bool) -> None: ...

    def clipped_step(self, limit: float | None, by_part: bool) -> None: ...


class Scheduled(Protocol):
    """What it needs of a schedule."""

    def step(self) -> None: ...


def train_step(
    model: Extractor,
    parts: Sequence[Batch],
    optimizer: ClippedSteps,
    schedule: Scheduled,
    recipe: TrainingRecipe,
    device: torch.device,
    precision: str,
) -> dict[str, Tensor]:
    """One step on a batch in `parts`; returns the terms of its loss, scalars, not weighed.

    The gradients of the parts are added up: what a term is averaged over is counted over the whole batch first.
    """
    divisors = model.divisors(parts)
    optimizer.zero_grad(set_to_none=True)
    whole: dict[str, Tensor] = {}
    for part in parts:
        with machine.autocast(device, precision):
            terms = {name: term / divisors.get(name, 1) for name, term in model.losses(part.to(device)).items()}
        model.weighed(terms).backward()
        for name, term in terms.items():
            whole[name] = whole.get(name, 0) + term.detach()
    optimizer.clipped_step(recipe.clip, recipe.clip_by_part)
    schedule.step()
    return whole


def random_state(device: torch.device) -> dict:
    """Every generator's state, in types that a weights-only load accepts."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, internal, gauss_next = random.getstate()
    state = {
        "cpu": torch.get_rng_state(),
        "numpy": [name, np.asarray(keys).tolist(), position, has_gauss, gauss],
        "python": [version, list(internal), gauss_next],
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(state: dict, device: torch.device) -> None:
    """Set every generator to what `random_state` gave."""
    torch.set_rng_state(state["cpu"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
