"""The one trainer: every system, encoder and dataset goes through this loop.

AdamW with separate rates for encoder and heads, linear warm-up and decay, clipping by global norm, length-bucketed
batches, bfloat16 autocast or float32, model selection on dev or the last epoch. A killed run goes on from its last
save, bit for bit; a run that has finished before is not trained again but taken from its state.
"""

import csv
import json
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from sinet import provenance, systems
from sinet.contract import Batch, Extractor, Labels, Sentence
from sinet.data.sentence import read_sentences
from sinet.errors import UserError
from sinet.files import link_or_copy, write_json
from sinet.model.encoder import Encoder
from sinet.model.pretrained import Located, load_encoder, locate_encoder, save_encoder
from sinet.run import machine
from sinet.run.batches import bucketed
from sinet.run.predict import predict
from sinet.run.state import StateFolder, StopSignal, write_weights
from sinet.score.metrics import METRICS, score

log = logging.getLogger("sinet")

LOG_COLUMNS = ("epoch", "loss", "sentences_per_s", "dev_ent", "dev_rel", "dev_rel_plus", "train_s", "dev_s")
SAVE_SECONDS = 300.0
"""Between two saves within an epoch; every epoch is saved besides."""
OUTPUTS = ("model.safetensors", "log.csv", "model.json")


@dataclass
class Data:
    """What a run may learn from: never the test set."""

    labels: Labels
    train: list[Sentence]
    dev: list[Sentence]

    @classmethod
    def read(cls, folder: Path) -> "Data":
        labels = Labels.from_json(json.loads((folder / "labels.json").read_text(encoding="utf-8")))
        return cls(labels, read_sentences(folder / "train.jsonl"), read_sentences(folder / "dev.jsonl"))


def train_run(run: dict, data_folder: Path, out: Path, state_root: Path, mirrors: Sequence[str] = ()) -> None:
    """Train one run of a plan and leave its outputs in `out`.

    Args:
        run: an entry of `python -m sinet plan`: system, settings, encoder, recipe, seed, and what it is called.
        data_folder: a prepared dataset.
        out: receives `model.safetensors`, `model.json`, `tokenizer/`, `log.csv`, `training.json`.
        state_root: states are kept below it, in a folder named by a digest of all that determines the result.
        mirrors: folders to look for the encoder in.

    Raises:
        UserError: an encoder that is not to be had, settings it cannot carry, or a loss that diverges.
    """
    device = machine.use_device()
    precision = machine.resolve_precision(run["recipe"]["precision"], device)
    located = locate_encoder(run["encoder"], mirrors)
    described = machine.describe(device, precision) | {"git_commit": provenance.git_commit()}
    key = {
        "system": run["system"],
        "settings": run["settings"],
        "encoder": {k: v for k, v in run["encoder"].items() if k == "architecture"} | located.sha256,
        "recipe": {k: v for k, v in run["recipe"].items() if k != "name"},
        "seed": run["seed"],
        "precision": precision,
        "versions": [described["versions"][package] for package in ("torch", "transformers", "tokenizers")],
        "code": provenance.digest("sinet.run.train", systems.module_name(run["system"])),
        "data": [provenance.file_sha256(data_folder / f) for f in ("train.jsonl", "dev.jsonl", "labels.json")],
    }
    kind = provenance.digest_of([described["device_name"], described["threads"]])[:8]
    state = StateFolder(state_root / f"{provenance.digest_of(key)}-{kind}")
    with state.locked():
        if (finished := state.finished((*OUTPUTS, "measured.json"))) is None:
            _train(run, Data.read(data_folder), located, described, device, precision, state)
            finished = state.folder
        else:
            log.info("trained before with the same settings, code and data: taken from %s", finished)
    (out / "tokenizer").mkdir(parents=True, exist_ok=True)
    for path in sorted((finished / "tokenizer").iterdir()):
        link_or_copy(path, out / "tokenizer" / path.name)
    for name in OUTPUTS:
        link_or_copy(finished / name, out / name)
    # what a run is called is no part of its result: two names may share one state
    measured = json.loads((finished / "measured.json").read_text(encoding="utf-8"))
    write_json(out / "training.json", {"run": run} | measured)


def _train(
    run: dict, data: Data, located: Located, described: dict, device: torch.device, precision: str, state: StateFolder
) -> None:
    recipe, seed = run["recipe"], run["seed"]
    torch.manual_seed(seed)
    if recipe["selection"] == "best_dev" and not data.dev:
        raise UserError(f"{run['dataset']} has no dev sentences to select on; set selection: last in the recipe")
    model = new_model(run, data.labels, load_encoder(run["encoder"], located), device)
    steps_per_epoch = -(-len(data.train) // recipe["batch_size"])
    optimizer, schedule = optimisation(model, recipe, recipe["epochs"] * steps_per_epoch)
    lengths = model.encoder.piece_counts(data.train)
    training = Training(model, optimizer, schedule, device, precision, recipe["clip"])
    rows: list[dict] = []
    best = {"epoch": 0, "scores": None}
    if (saved := state.load()) is not None:
        training.restore(saved)
        rows, best = saved["rows"], saved["best"]
        where = f"epoch {len(rows) + 1} of {recipe['epochs']}, step {training.step} of {steps_per_epoch}"
        log.info("resumed in %s from %s", where, state.folder)
    elif others := state.elsewhere():
        log.warning(
            "begun on another kind of machine or with other threads, where the last bits differ, and not continued "
            "here: %s; on a cluster ask for one kind of node (site.yaml: constraint)",
            ", ".join(map(str, others)),
        )

    def save() -> None:
        state.save(len(rows), training.step, training.saved() | {"rows": rows, "best": best})

    with (
        StopSignal() as stop,
        tqdm(
            total=recipe["epochs"] * len(data.train),
            initial=len(rows) * len(data.train) + min(training.step * recipe["batch_size"], len(data.train)),
            desc=f"{run['dataset']}/{run['encoder']['name']}/{run['model']}/{seed}",
            unit="sent",
            mininterval=2,
            maxinterval=20,
        ) as bar,
    ):
        for epoch in range(len(rows) + 1, recipe["epochs"] + 1):
            batches = bucketed(lengths, recipe["batch_size"], seed, epoch)
            try:
                loss = training.epoch(data.train, batches, bar, save, stop)
            except UserError as error:
                raise UserError(f"epoch {epoch}, {error}; {state.newest()}") from None
            row = {"epoch": epoch, "loss": loss}
            began = time.perf_counter()
            if data.dev and (recipe["selection"] == "best_dev" or epoch == recipe["epochs"]):
                scores = score(data.dev, predict(model, data.dev, device, precision), data.labels)["symmetric"]
                row |= {f"dev_{m}": scores[m]["f1"] for m in ("ent", "rel", "rel_plus")}
                bar.set_postfix_str(f"dev Ent {row['dev_ent']:.1f} Rel+ {row['dev_rel_plus']:.1f}")
            row |= {
                "train_s": training.seconds,
                "sentences_per_s": len(data.train) / training.seconds,
                "dev_s": time.perf_counter() - began,
            }
            rows.append(row)
            if better(row, best["scores"], recipe["selection"]):
                best = {"epoch": epoch, "scores": {m: row[f"dev_{m}"] for m in METRICS if f"dev_{m}" in row}}
                write_weights(state.folder / "best.safetensors", model)
            training.next_epoch()
            save()
            stop.obey()
            log.info("epoch %d/%d: %s", epoch, recipe["epochs"], ", ".join(f"{k} {v:.4g}" for k, v in row.items()))

    _finish(
        run, model, encoder_source=located.record(), described=described, data=data, rows=rows, best=best, state=state
    )
    state.clear()


def _finish(
    run: dict,
    model: Extractor,
    encoder_source: dict,
    described: dict,
    data: Data,
    rows: list[dict],
    best: dict,
    state: StateFolder,
) -> None:
    """Leave in the state's folder what a finished run is made of, `measured.json` last."""
    write_log(state.folder / "log.csv", rows)
    (state.folder / "tokenizer").mkdir(exist_ok=True)
    encoder_config = save_encoder(model.encoder, state.folder / "tokenizer")
    link_or_copy(state.folder / "best.safetensors", state.folder / "model.safetensors")
    write_json(
        state.folder / "model.json",
        {
            "system": run["system"],
            "settings": run["settings"],
            "labels": data.labels.to_json(),
            "encoder": run["encoder"]["name"],
            "encoder_config": encoder_config,
            "precision": described["precision"],
        },
    )
    write_json(
        state.folder / "measured.json",
        {
            "cites": model.cites,
            "encoder_source": encoder_source,
            "selected_epoch": best["epoch"],
            "dev": best["scores"],
            "train_sentences": len(data.train),
            "dev_sentences": len(data.dev),
            "truncated_words": model.encoder.truncated_words([*data.train, *data.dev]),
            "parameters": sum(p.numel() for p in model.parameters()),
            "seconds": {"train": sum(r["train_s"] for r in rows), "dev": sum(r["dev_s"] for r in rows)},
            "sentences_per_s": sum(r["sentences_per_s"] for r in rows) / len(rows),
            "peak_memory_mib": machine.peak_memory_mib(torch.device(described["device"])),
            **described,
        },
    )


def new_model(run: dict, labels: Labels, encoder: Encoder, device: torch.device) -> Extractor:
    """The untrained model of a run, its new layers drawn by torch's generator.

    Raises:
        UserError: when its settings do not go together with the encoder.
    """
    try:
        model = systems.load(run["system"])(labels, encoder, **run["settings"]).to(device)
    except ValueError as error:
        raise UserError(f"{run['model']} with {run['encoder']['name']}: {error}") from None
    if run["recipe"]["encoder_lr"] is None and any(p.requires_grad for p in encoder.parameters()):
        raise UserError(f"{run['model']} trains its encoder: encoder_lr should be a rate, not null")
    return model


def optimisation(
    model: Extractor, recipe: dict, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW over the model's groups, and the schedule of its rates over so many steps."""
    groups = model.param_groups(recipe["encoder_lr"], recipe["head_lr"], recipe["weight_decay"])
    optimizer = torch.optim.AdamW(groups, fused=True)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, linear_schedule(recipe["warmup"], steps))


def train_step(
    model: Extractor,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
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
    nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    schedule.step()
    return loss.detach()


class Training:
    """A model in training, and all that a later process needs to go on with the same bits from any step."""

    def __init__(
        self,
        model: Extractor,
        optimizer: torch.optim.Optimizer,
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
        stop: "StopSignal",
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
        return float(self.loss) / len(batches)


def linear_schedule(warmup: float, steps: int) -> Callable[[int], float]:
    """Factor of the learning rate by step: up over the first `warmup` share of the steps, then down to zero."""
    rising = round(warmup * steps)

    def factor(step: int) -> float:
        if step < rising:
            return step / rising
        return max(0.0, (steps - step) / max(1, steps - rising))

    return factor


def better(row: dict, best: dict | None, selection: str) -> bool:
    """`last` takes every epoch; `best_dev` the highest dev Rel+, then Ent, the earlier epoch on a tie."""
    if selection == "last" or best is None:
        return True
    return (row["dev_rel_plus"], row["dev_ent"]) > (best["rel_plus"], best["ent"])


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
    torch.set_rng_state(state["cpu"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def write_log(path: Path, rows: list[dict]) -> None:
    """`log.csv`: one row an epoch; loss is the mean over batches, dev scores are F1 x 100, times in seconds."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, LOG_COLUMNS, restval="")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" for k, v in row.items()} for row in rows)
