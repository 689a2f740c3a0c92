"""The one trainer: every system, encoder and dataset goes through this loop.

AdamW with separate rates for encoder and heads, linear warm-up and decay, clipping by global norm, length-bucketed
batches, bfloat16 autocast or float32, model selection on dev or the last epoch. A killed run goes on from its last
epoch; a run that has finished before is not trained again but taken from its state.
"""

import csv
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

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
from sinet.run.state import StateFolder, write_weights
from sinet.score.metrics import METRICS, score

log = logging.getLogger("sinet")

LOG_COLUMNS = ("epoch", "loss", "sentences_per_s", "dev_ent", "dev_rel", "dev_rel_plus", "train_s", "dev_s")
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
        "machine": [described[k] for k in ("device_name", "threads", "precision")],
        "versions": [described["versions"][package] for package in ("torch", "transformers", "tokenizers")],
        "code": provenance.digest("sinet.run.train", systems.module_name(run["system"])),
        "data": [provenance.file_sha256(data_folder / f) for f in ("train.jsonl", "dev.jsonl", "labels.json")],
    }
    state = StateFolder(state_root / provenance.digest_of(key))
    if all((state.folder / name).is_file() for name in (*OUTPUTS, "measured.json")):
        log.info("trained before with the same settings, code and data: taken from %s", state.folder)
    else:
        _train(run, Data.read(data_folder), located, described, device, precision, state)
    (out / "tokenizer").mkdir(parents=True, exist_ok=True)
    for path in sorted((state.folder / "tokenizer").iterdir()):
        link_or_copy(path, out / "tokenizer" / path.name)
    for name in OUTPUTS:
        link_or_copy(state.folder / name, out / name)
    # what a run is called is no part of its result: two names may share one state
    measured = json.loads((state.folder / "measured.json").read_text(encoding="utf-8"))
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
    rows: list[dict] = []
    best = {"epoch": 0, "scores": None}
    if (saved := state.load()) is not None:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        restore_random_state(saved["random"], device)
        rows, best = saved["rows"], saved["best"]
        log.info("resumed after epoch %d of %d from %s", len(rows), recipe["epochs"], state.folder)

    with tqdm(
        total=recipe["epochs"] * len(data.train),
        initial=len(rows) * len(data.train),
        desc=f"{run['dataset']}/{run['encoder']['name']}/{run['model']}/{seed}",
        unit="sent",
        mininterval=2,
        maxinterval=20,
    ) as bar:
        for epoch in range(len(rows) + 1, recipe["epochs"] + 1):
            began = time.perf_counter()
            batches = bucketed(lengths, recipe["batch_size"], seed, epoch)
            loss = train_epoch(model, data.train, batches, optimizer, schedule, recipe["clip"], device, precision, bar)
            trained = time.perf_counter()
            row = {"epoch": epoch, "loss": loss}
            if data.dev and (recipe["selection"] == "best_dev" or epoch == recipe["epochs"]):
                scores = score(data.dev, predict(model, data.dev, device, precision), data.labels)["symmetric"]
                row |= {f"dev_{m}": scores[m]["f1"] for m in ("ent", "rel", "rel_plus")}
                bar.set_postfix_str(f"dev Ent {row['dev_ent']:.1f} Rel+ {row['dev_rel_plus']:.1f}")
            row |= {
                "train_s": trained - began,
                "sentences_per_s": len(data.train) / (trained - began),
                "dev_s": time.perf_counter() - trained,
            }
            rows.append(row)
            if better(row, best["scores"], recipe["selection"]):
                best = {"epoch": epoch, "scores": {m: row[f"dev_{m}"] for m in METRICS if f"dev_{m}" in row}}
                write_weights(state.folder / "best.safetensors", model)
            state.save(
                epoch,
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "schedule": schedule.state_dict(),
                    "random": random_state(device),
                    "rows": rows,
                    "best": best,
                },
            )
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


def train_epoch(
    model: Extractor,
    sentences: list[Sentence],
    batches: list[list[int]],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    clip: float,
    device: torch.device,
    precision: str,
    bar: tqdm,
) -> float:
    """One pass over the training batches; returns the mean loss of a batch."""
    model.train()
    total = torch.zeros((), device=device)
    for positions in batches:
        batch = model.collate([sentences[i] for i in positions]).to(device)
        total += train_step(model, batch, optimizer, schedule, clip, device, precision)
        bar.update(len(positions))
    mean = float(total) / len(batches)
    if not mean < float("inf"):
        epoch = schedule.last_epoch // len(batches)
        raise UserError(f"the mean loss of epoch {epoch} is {mean}: it diverged; lower encoder_lr or head_lr")
    return mean


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


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Torch's generators; batches depend on seed and epoch alone, and nothing else draws."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def write_log(path: Path, rows: list[dict]) -> None:
    """`log.csv`: one row an epoch; loss is the mean over batches, dev scores are F1 x 100, times in seconds."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, LOG_COLUMNS, restval="")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" for k, v in row.items()} for row in rows)
