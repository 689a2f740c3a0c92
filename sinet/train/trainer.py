"""The one trainer: every system, encoder and dataset goes through this loop.

A recipe says how (`sinet.grid.recipes`): optimiser, rates by group, schedule, clipping, batches, length, selection.
The models of a system may be trained one after another. A killed run goes on from its last save, bit for bit; a run
that has finished before is not trained again but taken from its state.
"""

import csv
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import torch
from safetensors.torch import load_file

from sinet import machine, provenance, systems
from sinet.contract import Extractor, Labels, Sentence
from sinet.data.sentence import against_roles, read_sentences
from sinet.encoders.encoder import MOST_UNKNOWN, Encoder
from sinet.encoders.located import Located, locate_encoder
from sinet.encoders.pretrained import load_encoder, save_encoder
from sinet.errors import Diverged, UserError
from sinet.evaluate.metrics import METRICS, score
from sinet.files import DIVERGED, link_or_copy, read_sealed, write_sealed, write_sum
from sinet.grid.recipes import SELECTIONS, needs_documents
from sinet.infer.finished import run_sums
from sinet.infer.predict import predict
from sinet.model.weights import write_weights
from sinet.schema import RunSpec, TrainingRecipe
from sinet.train.checkpoints import StateFolder, StopSignal
from sinet.train.optimiser import parameter_groups
from sinet.train.steps import Training

log = logging.getLogger("sinet")

LOG_COLUMNS = ("stage", "epoch", "loss", "sentences_per_s", "dev_ent", "dev_rel", "dev_rel_plus", "train_s", "dev_s")
OUTPUTS = ("model.safetensors", "log.csv", "model.json")


class Selected(TypedDict):
    """The selected weights' epoch and step, and their F1 on dev by metric; None before any are."""

    epoch: float
    step: int
    scores: dict[str, float] | None


@dataclass
class Data:
    """What a run may learn from: never the test set."""

    labels: Labels
    train: list[Sentence]
    dev: list[Sentence]

    @classmethod
    def read(cls, folder: Path) -> "Data":
        labels = Labels.read(folder / "labels.json")
        return cls(labels, read_sentences(folder / "train.jsonl"), read_sentences(folder / "dev.jsonl"))


def train_run(run: RunSpec, data_folder: Path, out: Path, state_root: Path, mirrors: Sequence[str] = ()) -> None:
    """Train one run of a plan and leave its outputs in `out`.

    Args:
        run: a run of a plan.
        data_folder: a prepared dataset.
        out: receives `model.safetensors`, `model.json`, `tokenizer/`, `log.csv`, `training.json`;
            of a training that diverges `diverged.json` alone, which a search counts as a finished trial.
        state_root: states are kept below it, in a folder named by a digest of all that determines the result.
        mirrors: folders to look for the encoder in.

    Raises:
        UserError: an encoder that is not to be had, settings it cannot carry. Diverged: a loss or weights that are
            no numbers.
    """
    device = machine.use_device()
    setting = run.recipe.precision
    precision = machine.resolve_precision(setting, device)
    located = locate_encoder(run.encoder, mirrors)
    described = machine.describe(device, precision) | {"git_commit": provenance.git_commit()}
    key = {
        "system": run.system,
        "settings": run.settings,
        "encoder": run.encoder.model_dump(include={"architecture", "cased", "tokenizer"}) | located.sha256,
        "recipe": run.recipe.model_dump(exclude={"name"}),
        "seed": run.seed,
        "versions": [described["versions"][package] for package in ("torch", "transformers", "tokenizers")],
        "code": provenance.digest("sinet.train.trainer.train_run", systems.entry(run.system)),
        "data": [provenance.file_sha256(data_folder / f) for f in ("train.jsonl", "dev.jsonl", "labels.json")],
    }
    kind = provenance.digest_of([described["device_name"], described["threads"]])[:8]
    folders = {p: state_root / f"{provenance.digest_of(key | {'precision': p})}-{kind}" for p in machine.PRECISIONS}
    if setting == "auto" and (begun := [p for p in machine.PRECISIONS if folders[p].is_dir()]):
        # what is faster was measured: a training that was begun goes on as it was begun, whatever comes out today
        precision = precision if precision in begun else begun[0]
        described |= {"precision": precision}
    state = StateFolder(folders[precision])
    with state.locked():
        if (finished := state.finished()) is None:
            try:
                _train(run, Data.read(data_folder), located, described, device, precision, state)
            except Diverged:
                out.mkdir(parents=True, exist_ok=True)
                write_sealed(out / DIVERGED, {"run": run.model_dump()} | described)
                raise
            finished = state.folder
        else:
            log.info("trained before with the same settings, code and data: taken from %s", finished)
            if finished == state.folder:
                state.clear()  # a process may have been killed before it came to that
    (out / "tokenizer").mkdir(parents=True, exist_ok=True)
    for path in sorted((finished / "tokenizer").iterdir()):
        link_or_copy(path, out / "tokenizer" / path.name)
    for name in OUTPUTS:
        link_or_copy(finished / name, out / name)
    # what a run is called is no part of its result: two names may share one state
    write_sum(out / "log.csv")
    measured = read_sealed(finished / "measured.json")
    write_sealed(out / "training.json", {"run": run.model_dump()} | measured)


def _train(
    run: RunSpec,
    data: Data,
    located: Located,
    described: dict,
    device: torch.device,
    precision: str,
    state: StateFolder,
) -> None:
    torch.manual_seed(run.seed)
    stages = run.recipe.trainings
    if any(t.train_on == "train+dev" for _, t in stages):
        data = Data(data.labels, [*data.train, *data.dev], [])
    elif not data.dev and any(t.selection != "last" for _, t in stages):
        raise UserError(f"{run.dataset} has no dev sentences to select on; set selection: last in the recipe")
    _refuse_unfit(run, data)
    encoder = load_encoder(run.encoder, located)
    unknown = encoder.unknown_share(word for sentence in data.train for word in sentence.tokens)
    if unknown > MOST_UNKNOWN:
        raise UserError(
            f"encoder {located.name!r}: {unknown:.0%} of the words of {run.dataset} are [UNK] to its tokenizer; "
            "take an encoder of their language"
        )
    model = new_model(run, data.labels, encoder, device)
    if unread := model.truncated_words(data.train):
        log.warning(
            "%d words of the training sentences lie beyond what the encoder reads, or the system, and teach nothing",
            unread,
        )
    for model.stage, _ in stages:
        if not model.training_items(data.train):
            what = "sentence" if model.stage is None else f"item for the {model.stage} model"
            raise UserError(f"{run.dataset}: the training split holds no {what}")
    saved = state.load()
    if saved is None and (others := state.elsewhere()):
        log.warning(
            "begun on another kind of machine or with other threads, where the last bits differ, and not continued "
            "here: %s; on a cluster ask for one kind of node (site.yaml: constraint)",
            ", ".join(map(str, others)),
        )
    rows: list[dict] = [] if saved is None else saved["rows"]
    for number, (stage, training) in enumerate(stages):
        if saved is not None and number < saved["stage"]:
            continue
        resumed = saved if saved is not None and number == saved["stage"] else None
        model.stage = stage
        if stage is not None and number and resumed is None:
            # what the part before it has learned, as it was selected
            model.load_state_dict(load_file(_selected(state, number - 1)))
        best = _train_stage(run, model, number, stage, training, data, device, precision, state, rows, resumed)
    model.stage = None
    _finish(
        run, model, encoder_source=located.record(), described=described, data=data, rows=rows, best=best, state=state
    )
    state.mark_complete()
    state.clear()


def _refuse_unfit(run: RunSpec, data: Data) -> None:
    """Raise `UserError` for data that lack what the system, or its recipe, reads or is trained on."""
    system = systems.settings(run.system)(**run.settings)
    documents = {sentence.document for sentence in data.train}
    of_documents = None not in documents and len(documents) < len(data.train)
    if not of_documents and (what := needs_documents(run.recipe, run.system, run.settings)):
        raise UserError(
            f"{run.model} needs documents ({what}), and {run.dataset} does not say which sentences are of one; change "
            "that to a number of sentences, or a window of 0, or take a dataset with documents such as scierc-documents"
        )
    if system.learns_clusters and not any(sentence.coreference for sentence in data.train):
        raise UserError(
            f"{run.model} is trained on coreference, and {run.dataset} annotates none; take a dataset with clusters "
            "such as scierc-documents"
        )
    if system.two_roles and (what := against_roles(data.train, data.labels)):
        raise UserError(f"{run.model} cannot read {run.dataset}: {what}")
    if system.needs_parses and not all(sentence.heads for sentence in (*data.train, *data.dev)):
        raise UserError(
            f"{run.model} reads parses, and {run.dataset} was prepared without; prepare it by this plan, or with "
            f"`sinet step prepare {run.dataset} --parses --out DIR`"
        )


def _train_stage(
    run: RunSpec,
    model: Extractor,
    number: int,
    stage: str | None,
    recipe: TrainingRecipe,
    data: Data,
    device: torch.device,
    precision: str,
    state: StateFolder,
    rows: list[dict],
    saved: dict | None,
) -> Selected:
    """One training of a recipe, from its beginning or a saved state: `rows` of the log are added, and the state's
    folder gets the selected weights. A system without a parameter to train is scored on dev as it is."""

    def dev_scores() -> dict[str, float]:
        figures = score(data.dev, predict(model, data.dev, device, precision), data.labels)[recipe.matching]
        return {f"dev_{m}": figures[m]["f1"] for m in METRICS}

    if not parameter_groups(model, recipe):
        began = time.perf_counter()
        row: dict = {"stage": stage or "", "epoch": 0, "loss": 0.0, "train_s": 0.0, "sentences_per_s": 0.0}
        rows.append(row | (dev_scores() if data.dev else {}) | {"dev_s": time.perf_counter() - began})
        write_weights(_selected(state, number), model)
        return {"epoch": 0, "step": 0, "scores": _scores(rows[-1])}
    training = Training(model, model.training_items(data.train), recipe, run.seed, device, precision)
    best: Selected = {"epoch": 0, "step": 0, "scores": None}
    if saved is not None:
        training.restore(saved)
        best = saved["best"]
        log.info(
            "resumed in epoch %.4g, step %d of %d from %s", training.epoch, training.step, training.steps, state.folder
        )

    def impatient() -> bool:
        if recipe.patience is None:
            return False
        waited = training.step - max(best["step"], training.in_steps(recipe.select_after))
        return not training.round_steps and waited >= training.in_steps(recipe.patience)

    def save() -> None:
        state.save(number, training.step, training.saved() | {"stage": number, "rows": rows, "best": best})

    with StopSignal() as stop:
        while (training.step < training.steps or training.round_steps) and not impatient():
            try:
                loss = training.round(save, stop)
            except UserError as error:
                raise type(error)(f"{error}; {state.newest()}") from None
            row = {"stage": stage or "", "epoch": training.epoch, "loss": loss}
            began = time.perf_counter()
            looks, ends = training.evaluates(training.step), training.step == training.steps
            selects = recipe.selection != "last"
            if data.dev and ((looks and selects) or ends):
                row |= dev_scores()
            row |= {
                "train_s": training.seconds,
                "sentences_per_s": training.round_items / training.seconds,
                "dev_s": time.perf_counter() - began,
            }
            rows.append(row)
            # what is not looked at cannot be selected, unless nothing else is there in the end
            if (looks or not selects or (ends and best["scores"] is None)) and better(
                row, best["scores"], recipe.selection
            ):
                best = {"epoch": row["epoch"], "step": training.step, "scores": _scores(row)}
                write_weights(_selected(state, number), model)
            training.report(row)
            training.next_round()
            save()
            stop.raise_if_requested(training.epoch)
    if training.step < training.steps:
        log.info("ended after step %d: nothing was selected since epoch %.4g", training.step, best["epoch"])
    return best


def _scores(row: dict) -> dict[str, float]:
    """The dev F1 in a row of the log, none where it was not looked at."""
    return {m: row[f"dev_{m}"] for m in METRICS if f"dev_{m}" in row}


def _selected(state: StateFolder, stage: int) -> Path:
    """The selected weights of a training of the recipe: each has its own, so that the next can be begun again."""
    return state.folder / f"best-{stage}.safetensors"


def _finish(
    run: RunSpec,
    model: Extractor,
    encoder_source: dict,
    described: dict,
    data: Data,
    rows: list[dict],
    best: Selected,
    state: StateFolder,
) -> None:
    """Leave in the state's folder what a finished run is made of."""
    write_log(state.folder / "log.csv", rows)
    (state.folder / "tokenizer").mkdir(exist_ok=True)
    encoder_config = save_encoder(model.encoder, state.folder / "tokenizer")
    link_or_copy(_selected(state, len(run.recipe.trainings) - 1), state.folder / "model.safetensors")
    write_sealed(
        state.folder / "model.json",
        {
            "system": run.system,
            "settings": run.settings,
            "labels": data.labels.to_json(),
            "encoder": run.encoder_name,
            "encoder_config": encoder_config,
            "precision": described["precision"],
            "files": run_sums(state.folder),
        },
    )
    write_sealed(
        state.folder / "measured.json",
        {
            "citation": model.citation,
            "encoder_source": encoder_source,
            "selected_epoch": best["epoch"],
            "dev": best["scores"],
            "trained_on": run.recipe.trainings[0][1].train_on,
            "train_sentences": len(data.train),
            "dev_sentences": len(data.dev),
            "truncated_words": model.truncated_words([*data.train, *data.dev]),
            "parameters": sum(p.numel() for p in model.parameters()),
            "seconds": {"train": sum(r["train_s"] for r in rows), "dev": sum(r["dev_s"] for r in rows)},
            "sentences_per_s": sum(r["sentences_per_s"] for r in rows) / len(rows),
            "peak_memory_mib": machine.peak_memory_mib(torch.device(described["device"])),
            **described,
        },
    )


def new_model(run: RunSpec, labels: Labels, encoder: Encoder, device: torch.device) -> Extractor:
    """The untrained model of a run, its new layers drawn by torch's generator.

    Raises:
        UserError: when its settings do not go together with the encoder.
    """
    try:
        model = systems.load(run.system)(labels, encoder, **run.settings).to(device)
        for model.stage, training in run.recipe.trainings:
            parameter_groups(model, training)
            if model.settings.whole_documents and (training.batch_size != "document" or training.micro_batch_size):
                raise ValueError("it reads whole documents; write batch_size: document and micro_batch_size: null")
        model.stage = None
    except ValueError as error:
        raise UserError(f"{run.model} with {run.encoder_name}: {error}") from None
    return model


def better(row: dict, best: dict | None, selection: str) -> bool:
    """Whether a row of the log is selected over the best so far: always with `last`, else by the sum of the F1 that the
    selection names (`sinet.grid.recipes.SELECTIONS`), an earlier one on a tie; of equal Rel+ the better entities."""
    if selection == "last" or best is None:
        return True
    metrics = SELECTIONS[selection]
    new, old = sum(row[f"dev_{m}"] for m in metrics), sum(best[m] for m in metrics)
    return new > old or (new == old and selection == "dev_rel_plus" and row["dev_ent"] > best["ent"])


def write_log(path: Path, rows: list[dict]) -> None:
    """`log.csv`: one row a round (`evaluate_every`), by default an epoch; loss is the mean over batches, its terms not
    weighed, dev scores are F1 x 100, times in seconds."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, LOG_COLUMNS, restval="")
        writer.writeheader()
        writer.writerows({k: v if k == "stage" else f"{v:.6g}" for k, v in row.items()} for row in rows)
