"""Training steps, and all that a later process needs to go on with the same bits from any of them."""

import random
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from sinet.contract import Batch, Extractor, Sentence
from sinet.errors import UserError
from sinet.model.embedding import RowEmbedding
from sinet.run import machine
from sinet.run.optimiser import RowAdamW
from sinet.run.state import StopSignal

SAVE_SECONDS = 300.0
"""Between two saves within an epoch; every epoch is saved besides."""


class Training:
    """A model in training, and all that a later process needs to go on with the same bits from any step."""

    def __init__(
        self,
        model: Extractor,
        optimizer: RowAdamW,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        device: torch.device,
        precision: str,
        clip: float,
    ) -> None:
        self.model, self.optimizer, self.schedule = model, optimizer, schedule
        self.device, self.precision, self.clip = device, precision, clip
        self.next_epoch()

    def next_epoch(self) -> None:
        """Begin an epoch: no step done, no loss, no time."""
        self.step, self.seconds = 0, 0.0
        self.loss = torch.zeros((), device=self.device)

    def saved(self) -> dict:
        """The state: batches depend on seed and epoch alone, so the number of steps is the sampler's position.

        Raises:
            UserError: weights that are no numbers; the state before them is the one to keep.
        """
        if lost := [name for name, p in self.model.named_parameters() if not torch.isfinite(p).all()]:
            raise UserError(
                f"step {self.step}: {len(lost)} of the weights' tensors are no longer finite ({lost[0]}): it diverged; "
                "lower encoder_lr or head_lr in the recipe"
            )
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "random": random_state(self.device),
            "step": self.step,
            "seconds": self.seconds,
            "loss": self.loss,
        }

    def restore(self, saved: dict) -> None:
        """Go on from what `saved` gave: weights, optimiser, schedule, random numbers and counts."""
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        restore_random_state(saved["random"], self.device)
        self.step, self.seconds, self.loss = saved["step"], saved["seconds"], saved["loss"].to(self.device)

    def epoch(
        self,
        sentences: list[Sentence],
        batches: list[list[int]],
        bar: tqdm,
        save: Callable[[], None],
        stop: StopSignal,
    ) -> float:
        """The steps of this epoch that are still to be done; returns the mean loss of a batch.

        The state is saved every `SAVE_SECONDS`, and at once when the scheduler asks the job to end.

        Raises:
            Interrupted: after such a request. UserError: a loss that is no number, or memory that does not suffice.
        """
        self.model.train()
        began, last_saved = time.perf_counter() - self.seconds, time.monotonic()
        while self.step < len(batches):
            batch = self.model.collate([sentences[i] for i in batches[self.step]])
            try:
                loss = train_step(
                    self.model,
                    batch.to(self.device),
                    self.optimizer,
                    self.schedule,
                    self.clip,
                    self.device,
                    self.precision,
                )
            except torch.OutOfMemoryError:
                longest = max(self.model.encoder.piece_counts(batch.sentences))
                raise UserError(
                    f"step {self.step + 1} of {len(batches)}: out of GPU memory at a batch of {len(batch)} sentences "
                    f"of up to {longest} word pieces; lower batch_size in the recipe"
                ) from None
            self.loss += loss
            self.step += 1
            bar.update(len(batch))
            save_now = bool(stop.asked) or time.monotonic() - last_saved > SAVE_SECONDS
            # a GPU is asked now and then only, as reading the loss waits for it, and before what it did is saved
            look = self.device.type == "cpu" or self.step % 50 == 0 or self.step == len(batches) or save_now
            if look and not torch.isfinite(self.loss):
                terms = ", ".join(f"{name} {float(term):.4g}" for name, term in self.model.terms.items())
                raise UserError(
                    f"step {self.step} of {len(batches)}: the loss is {float(loss)} ({terms}): it diverged; lower "
                    "encoder_lr or head_lr in the recipe"
                )
            self.seconds = time.perf_counter() - began
            if save_now:
                save()
                last_saved = time.monotonic()
                stop.obey()
        self.optimizer.settle()
        return float(self.loss) / len(batches)


def optimisation(model: Extractor, recipe: dict, steps: int) -> tuple[RowAdamW, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW over the model's groups, and the schedule of its rates over so many steps."""
    groups = model.param_groups(recipe["encoder_lr"], recipe["head_lr"], recipe["weight_decay"])
    optimizer = RowAdamW(groups, [module for module in model.modules() if isinstance(module, RowEmbedding)])
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, linear_schedule(recipe["warmup"], steps))


def train_step(
    model: Extractor,
    batch: Batch,
    optimizer: RowAdamW,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    clip: float,
    device: torch.device,
    precision: str,
) -> Tensor:
    """One step on a batch on `device`; returns its loss, a scalar."""
    with machine.autocast(device, precision):
        loss = model.loss(batch)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.clipped_step(clip)
    schedule.step()
    return loss.detach()


def linear_schedule(warmup: float, steps: int) -> Callable[[int], float]:
    """Factor of the learning rate by step: up over the first `warmup` share of the steps, then down to zero."""
    rising = round(warmup * steps)

    def factor(step: int) -> float:
        if step < rising:
            return step / rising
        return max(0.0, (steps - step) / max(1, steps - rising))

    return factor


def random_state(device: torch.device) -> dict:
    """Every generator's state, in types that a weights-only load accepts."""
    name, keys, position, has_gauss, gauss = np.random.get_state()
    version, internal, gauss_next = random.getstate()
    state = {
        "cpu": torch.get_rng_state(),
        "numpy": [name, keys.tolist(), position, has_gauss, gauss],
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
