"""What the trainings of a grid cost, before any of them runs: sentences, steps, FLOPs, hours, memory, disk.

FLOPs (two a multiply-add) and operators of training steps are counted as torch runs them, loss and gradient, on real
batches of the recipe. Nothing large is computed: the encoder's tensors have no data (device "meta"), and products give
zeros, as a count needs their shapes alone; so ALBERT-xxlarge is counted as fast as MiniLM.

The time of a training is FLOPs / (peak x efficiency) + operators x the time that calling one takes: the second is all
that a GPU sees of small batches. Both are stated of a device, or fitted to finished trainings.
"""

import collections
import copy
import csv
import dataclasses
import functools
import itertools
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry
from tqdm import tqdm

from sinet import systems
from sinet.contract import Entity, Extractor, Labels, Relation, Sentence
from sinet.data.prepare import declared_labels, prepare
from sinet.data.sources import find_file
from sinet.encoders.encoder import Encoder
from sinet.encoders.located import locate_encoder
from sinet.encoders.pretrained import load_encoder
from sinet.errors import UserError, counted
from sinet.files import read_sealed
from sinet.grid.config import absent_files, encoder_at_hand
from sinet.grid.plan import Plan
from sinet.mirrors import DOWNLOADS
from sinet.schema import Config, Dataset, RunSpec, TrainingRecipe
from sinet.train.checkpoints import KEPT
from sinet.train.optimiser import parameter_groups
from sinet.train.steps import Steps, batch_parts, train_step
from sinet.train.trainer import Data

COUNTED_ITEMS = 16
"""Of each training, in at least two batches, at even steps of the batches' lengths."""
DEV_SHARE = 1 / 3
"""Of the time of a training step that predicting the same sentences takes: forward without backward."""
Item = TypeVar("Item", Entity, Relation)
CPU, META = torch.device("cpu"), torch.device("meta")
PRODUCTS = {
    getattr(getattr(torch.ops.aten, name), kind): factors
    for name, factors in {"mm": (0, 1), "bmm": (0, 1), "addmm": (1, 2), "baddbmm": (1, 2)}.items()
    for kind in ("default", "out")
}
"""Products of matrices, and which of their arguments are the factors."""


@dataclass(frozen=True)
class Work:
    """FLOPs of products and operators called."""

    flops: float = 0.0
    operators: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.flops + other.flops, self.operators + other.operators)

    def __mul__(self, times: float) -> "Work":
        return Work(self.flops * times, self.operators * times)


@dataclass(frozen=True)
class Device:
    """`flops_per_s` that are reached and the seconds that calling an operator takes; `name` says how they are known."""

    name: str
    flops_per_s: float
    operator_s: float

    def seconds(self, work: Work) -> float:
        return work.flops / self.flops_per_s + work.operators * self.operator_s


@dataclass(frozen=True)
class Cost:
    """Of one training: `work` of all steps with the looks at dev, and sizes in bytes.

    `memory` is weights, gradients and moments (16 bytes a trained weight in float32) and what the backward pass of the
    largest batch needs; `state` the states while it trains; `disk` what stays.
    """

    sentences: int
    steps: int
    work: Work
    memory: float
    state: float
    disk: float


@functools.cache
def _is_view(function: OpOverload) -> bool:
    return function.is_view


class _Counter(TorchDispatchMode):
    """Counts what is run within it, FLOPs as `FlopCounterMode` does. `saved`: bytes that are kept for the backward
    pass, each tensor once, without the `weights`."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        super().__init__()
        self.flops = self.operators = self.saved = 0
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._save, lambda tensor: tensor)
        # storages are held, so that no other gets their address
        self._seen = {storage._cdata: storage for storage in (w.untyped_storage() for w in weights)}

    def _save(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen[storage._cdata] = storage
            self.saved += storage.nbytes()
        return tensor

    def __enter__(self) -> "_Counter":
        self._hooks.__enter__()
        return super().__enter__()

    def __exit__(self, *raised: object) -> None:
        super().__exit__(*raised)
        self._hooks.__exit__(*raised)

    def __torch_dispatch__(
        self, function: OpOverload, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        kwargs = kwargs or {}
        if function is torch.ops.aten._local_scalar_dense.default and args[0].device == META:
            return False  # transformers asks whether a batch has no padding
        if place := PRODUCTS.get(function):
            a, b = args[place[0]], args[place[1]]
            result = kwargs["out"] if "out" in kwargs else a.new_zeros(*a.shape[:-1], b.shape[-1])
        else:
            result = function(*args, **kwargs)
        if (formula := flop_registry.get(function.overloadpacket)) is not None:
            self.flops += formula(*args, **kwargs, out_val=result)
        self.operators += not _is_view(function)
        return result


class _IntoEncoders:
    """In place of an optimiser and its schedule: a gradient that has come to the states of an encoder without data goes
    on through it."""

    def __init__(self, model: Extractor) -> None:
        self.model = model
        self.states: list[Tensor] = []
        for module in model.modules():
            if isinstance(module, Encoder):
                for name in ("forward", "all_layers"):
                    setattr(module, name, self._made_real(getattr(module, name)))

    def _made_real(self, encode: Callable) -> Callable:
        def encoded(*inputs: Tensor | None, **options: Tensor | None) -> object:
            there = tree_map_only(Tensor, lambda t: t.to(META), (inputs, options))
            made = encode(*there[0], **there[1])
            self.states += [t for t in tree_leaves(made) if t.requires_grad]
            return tree_map_only(Tensor, lambda t: torch.zeros(t.shape, requires_grad=t.requires_grad), made)

        return encoded

    def zero_grad(self, set_to_none: bool) -> None:
        self.model.zero_grad(set_to_none)

    def clipped_step(self, limit: float | None, by_part: bool) -> None:
        for states in self.states:
            states.backward(torch.empty_like(states))
        self.states.clear()

    def step(self) -> None:
        pass


class Counted:
    """A run's system around an encoder without data, of which training steps are counted."""

    def __init__(self, run: RunSpec, labels: Labels, encoder: Encoder) -> None:
        self.model = systems.load(run.system)(labels, encoder, **run.settings).train()
        self._into_encoders = _IntoEncoders(self.model)

    def step(self, items: Sequence, recipe: TrainingRecipe) -> tuple[Work, float]:
        """The work of a step on training items, the optimiser's own arithmetic apart, and the bytes that its backward
        pass needs, of a batch in parts (`micro_batch_size`) that of a mean one, as each is freed before the next."""
        parts = batch_parts(self.model, items, recipe)
        with _Counter(self.model.parameters()) as counter:
            train_step(self.model, parts, self._into_encoders, self._into_encoders, recipe, CPU, "float32")
        return Work(counter.flops, counter.operators), counter.saved / len(parts)

    def mean_step(self, steps: Steps) -> tuple[Work, Work, float]:
        """The mean work of a step in the first epoch and in a later one, for which a system may remember the states of
        a frozen encoder, and the bytes that the backward pass of the largest batch needs: in proportion to word pieces
        and their squares, as those of the batches that are counted."""
        batches = [[steps.items[i] for i in batch] for batch in steps.batches(1)]
        shapes = {id(items): (len(items), max(self.model.item_lengths(items)) + 2) for items in batches}
        sizes = {key: (count * longest, count * longest**2) for key, (count, longest) in shapes.items()}
        batches.sort(key=lambda items: sizes[id(items)])
        number = min(len(batches), max(2, -(-COUNTED_ITEMS // len(batches[len(batches) // 2]))))
        chosen = [batches[(2 * k + 1) * len(batches) // (2 * number)] for k in range(number)]
        works, saved = zip(*(self.step(items, steps.recipe) for items in chosen), strict=True)
        first = later = sum(works, Work()) * (1 / number)
        if not any(p.requires_grad for p in self.model.encoder.parameters()):
            later = sum((self.step(items, steps.recipe)[0] for items in chosen), Work()) * (1 / number)
        factors = _relative_fit([sizes[id(items)] for items in chosen], saved)
        return first, later, max(float(factors @ size) for size in sizes.values())


def _relative_fit(measures: Sequence[Sequence[float]], values: Sequence[float]) -> np.ndarray:
    """The factors, none negative, whose product with the measures comes closest to the values, relative to these."""
    shares = np.array(measures, dtype=float) / np.array(values, dtype=float)[:, None]
    scale = shares.max(0)
    return nnls(shares / scale, np.ones(len(shares)))[0] / scale


def run_cost(run: RunSpec, data: Data, encoder: Encoder) -> Cost:
    """What a run of a plan costs on some data; `encoder` is on "meta", and not used again."""
    stages = run.recipe.trainings
    train = [*data.train, *data.dev] if any(t.train_on == "train+dev" for _, t in stages) else data.train
    encoder.word_pieces([word for sentence in train for word in sentence.tokens])  # at once is faster
    model = (counted := Counted(run, data.labels, encoder)).model
    weights = sum(p.numel() for p in model.parameters())
    sentences, number, work, memory, state = 0, 0, Work(), 4.0 * weights, 0.0
    for stage, recipe in stages:
        model.stage = stage
        trained = sum(p.numel() for group in parameter_groups(model, recipe) for p in group["params"])
        if not trained:
            continue
        steps = Steps(model, model.training_items(train), recipe, run.seed)
        first, later, saved = counted.mean_step(steps)
        begun = min(steps.steps, steps.steps_per_epoch)
        selects = recipe.selection != "last"
        looks = 1 + selects * sum(map(steps.evaluates, range(1, steps.steps)))
        on_dev = looks * DEV_SHARE * steps.steps_per_epoch * len(data.dev) / len(train)
        work += first * begun + later * (steps.steps - begun + on_dev)
        sentences += round(steps.steps / steps.steps_per_epoch * len(train))
        number += steps.steps
        memory = max(memory, 4 * (weights + 3 * trained) + saved)
        # a state holds weights and two moments; one more while it is written, and the selected weights
        state = max(state, 4 * ((KEPT + 1) * (weights + 2 * trained) + weights))
    return Cost(sentences, number, work, memory, state, 4.0 * weights)


# -- what is at hand -------------------------------------------------------------------------------------------------


class Material:
    """The data and the encoders of a configuration's runs, and in `remarks` what stands in for those that are not here.

    Raises:
        UserError: where no dataset at all is here, whose sentences could stand in.
    """

    def __init__(self, config: Config) -> None:
        self.config = config.model_copy(update={"mirrors": [*config.mirrors, str(DOWNLOADS)]})
        self.remarks: dict[str, str] = {}

    def encoder(self, name: str) -> Encoder:
        """The declared encoder on "meta", a copy; of one that is not here the `sizes`, with another's tokenizer."""
        loaded = self._loaded(name)
        return Encoder(copy.deepcopy(loaded.model), loaded.tokenizer)

    @functools.cache  # noqa: B019 - lives as long as the command
    def _loaded(self, name: str) -> Encoder:
        declared = self.config.encoders[name]
        if not encoder_at_hand(self.config, name):
            if declared.sizes is None:
                raise UserError(f"{name} is not here, and no sizes of it are declared: sinet step fetch {name}")
            self.remarks[name] = f"{name} is not here: the sizes of {declared.sizes}, another's tokenizer"
            name = declared.sizes
        whole = self.config.encoder_spec(name)
        located = locate_encoder(whole, self.config.mirrors)
        with torch.device("meta" if located.folder is None else "cpu"):
            return load_encoder(whole, located).to(META)

    @functools.cache  # noqa: B019
    def data(self, name: str) -> Data | None:
        """A dataset as it was prepared or can be from the mirrors; else as many sentences as are declared, taken from
        another dataset; None where nobody says how many those are."""
        if (data := self._here(name)) is not None:
            return data
        declared = self.config.datasets[name]
        counts = _declared_sentences(declared)
        if counts is None:
            self.remarks[name] = f"{name} is not here, nor said how many sentences it has: unknown until prepared"
            return None
        stand_in = next(((n, found) for n in self.config.datasets if (found := self._here(n)) is not None), None)
        if stand_in is None:
            raise UserError("no dataset is here to count on; prepare one: sinet step prepare scierc --out DIR")
        (other, shown), labels = stand_in, declared_labels(declared)
        self.remarks[name] = f"{name} is not here: as many sentences as declared, those of {other}"
        documents = _listed_documents(name, declared, self.config.mirrors) or counts["train"]
        made = {
            split: [
                _relabelled(sentence, shown.labels, labels, f"{i * documents // counts[split]}")
                for i, sentence in zip(range(counts[split]), itertools.cycle(shown.train))
            ]
            for split in ("train", "dev")
        }
        return Data(labels, made["train"], made["dev"])

    @functools.cache  # noqa: B019
    def _here(self, name: str) -> Data | None:
        prepared = Path(self.config.results) / "data" / name
        if (prepared / "train.jsonl").is_file():
            return Data.read(prepared)
        declared, mirrors = self.config.datasets[name], self.config.mirrors
        folder, files = declared.folder or name, declared.files.all()
        if not all(find_file(folder, f.path, mirrors) for f in files) or absent_files(name, declared, mirrors):
            return None
        with tempfile.TemporaryDirectory() as made:
            prepare(name, declared, mirrors, Path(made) / name)
            return Data.read(Path(made) / name)


def _declared_sentences(declared: Dataset) -> dict[str, int] | None:
    """Sentences of train and dev, from `counts` or else `published_counts`; of folds their share of all."""
    counts = {
        split: each["sentences"]
        for key in ("published_counts", "counts")
        for split, each in (declared.declared().get(key) or {}).items()
        if "sentences" in each
    }
    if "all" in counts:
        files = declared.files.train
        rest = counts["all"] * len(files) // (len(files) + 1)
        dev = round(rest * (declared.dev_share or 1 / len(files)))
        counts |= {"train": rest - dev, "dev": dev}
    return counts if counts.keys() >= {"train", "dev"} else None


def _listed_documents(name: str, declared: Dataset, mirrors: Sequence[str]) -> int | None:
    """Documents of the training split of an ACE corpus, whose lists may be here where the corpus is not."""
    files = declared.files.train if declared.format == "ace" else []
    lists = [path for f in files if (path := find_file(declared.folder or name, f.path, mirrors))]
    return sum(len(path.read_text().split()) for path in lists) if files and len(lists) == len(files) else None


def _relabelled(sentence: Sentence, labels: Labels, other: Labels, document: str) -> Sentence:
    """The sentence with types of another inventory in the place of its own, as of another document."""

    def renamed(item: Item, old: tuple[str, ...], new: tuple[str, ...]) -> Item:
        return dataclasses.replace(item, type=new[old.index(item.type) % len(new)])

    entities = tuple(renamed(e, labels.entity_types, other.entity_types) for e in sentence.entities)
    relations = tuple(renamed(r, labels.relation_types, other.relation_types) for r in sentence.relations)
    return dataclasses.replace(sentence, entities=entities, relations=relations, document=document)


# -- time ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finished:
    """A finished training: its run, where it ran, its seconds, and those that it would have taken at the pace of its
    fastest epoch: what others did on the machine meanwhile is no part of its cost."""

    run: RunSpec
    place: str
    seconds: float
    undisturbed: float

    @classmethod
    def read(cls, training: Path) -> "Finished":
        """From `training.json` and the `log.csv` beside it."""
        record = read_sealed(training, "run")
        rounds: dict[str, list[float]] = {}
        with open(training.with_name("log.csv"), newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                rounds.setdefault(row.get("stage") or "", []).append(float(row["train_s"]))
        place = f"{record['device_name']}, {counted(record['threads'], 'thread')}, {record['precision']}"
        undisturbed = sum(min(seconds) * len(seconds) for seconds in rounds.values())
        return cls(RunSpec.model_validate(record["run"]), place, record["seconds"]["train"], undisturbed)


def fit(place: str, works: Sequence[Work], seconds: Sequence[float]) -> Device:
    """The device on which trainings of these works take these seconds, by least squares of the relative errors."""
    per_flop, per_operator = _relative_fit([dataclasses.astuple(work) for work in works], seconds)
    return Device(place, 1 / max(per_flop, 1e-18), per_operator)


def calibrate(folders: Sequence[Path], material: Material) -> Device | None:
    """A device fitted to the finished trainings below some folders, with encoders that are here: of the place that has
    most of them one of each system, the least disturbed. None where there are none."""
    finished = [Finished.read(path) for folder in folders for path in sorted(folder.glob("**/training.json"))]
    datasets = material.config.datasets
    encoders = {name for name in material.config.encoders if encoder_at_hand(material.config, name)}
    finished = [f for f in finished if f.run.dataset in datasets and f.run.encoder_name in encoders]
    if not finished:
        return None
    place = collections.Counter(f.place for f in finished).most_common(1)[0][0]
    chosen: dict[str, tuple[Work, float]] = {}
    for f in sorted((f for f in finished if f.place == place), key=lambda f: f.seconds / f.undisturbed):
        if f.run.system not in chosen and (work := measured_work(f.run, material)) is not None:
            chosen[f.run.system] = work, f.undisturbed
    works, seconds = [work for work, _ in chosen.values()], [took for _, took in chosen.values()]
    return fit(f"{place}; fitted to {counted(len(works), 'finished training')}", works, seconds)


def measured_work(run: RunSpec, material: Material) -> Work | None:
    """What the steps of a run do, evaluations on dev apart, as `Finished` has their time; None of unknown data."""
    if (data := material.data(run.dataset)) is None:
        return None
    return run_cost(run, Data(data.labels, data.train, []), material.encoder(run.encoder_name)).work


# -- the grid --------------------------------------------------------------------------------------------------------


def grid_costs(runs: Iterable[RunSpec], material: Material) -> list[tuple[list[RunSpec], Cost | None]]:
    """The runs that differ by seed or fold alone, and what one of them costs; None where its dataset is unknown."""
    alike: dict[tuple, list[RunSpec]] = {}
    for run in runs:
        whole = material.config.datasets[run.dataset].fold_of or run.dataset
        alike.setdefault((whole, run.encoder_name, run.model), []).append(run)
    costs: list[tuple[list[RunSpec], Cost | None]] = []
    for group in tqdm(alike.values(), desc="counting", unit="training", mininterval=2):
        data = material.data(group[0].dataset)
        costs.append(
            (group, None if data is None else run_cost(group[0], data, material.encoder(group[0].encoder_name)))
        )
    return costs


def table(costs: Sequence[tuple[list[RunSpec], Cost | None]], device: Device, memory_gb: float | None) -> str:
    """A line for all runs that differ by seed or fold alone, with the figures of one of them, then those of all."""
    head = ("dataset", "encoder", "model", "runs", "sentences", "steps", "PFLOP", "hours", "memory", "state", "disk")
    lines: list[tuple[str, ...]] = [head]
    hours, total = 0.0, Work()
    disk = largest = 0.0
    for group, cost in costs:
        run, count = group[0], len(group)
        dataset = f"{run.dataset} ..." if len({r.dataset for r in group}) > 1 else run.dataset
        named = (dataset, run.encoder_name, run.model, f"{count}")
        if cost is None:
            lines.append((*named, *["?"] * (len(head) - len(named))))
            continue
        each = device.seconds(cost.work) / 3600
        sizes = [f"{size / 1e9:.2f}" for size in (cost.memory, cost.state, cost.disk)]
        sizes[0] += " !" if memory_gb and cost.memory > memory_gb * 1e9 else ""
        flops = f"{cost.work.flops / 1e15:,.3g}"
        lines.append((*named, f"{cost.sentences:,}", f"{cost.steps:,}", flops, f"{each:.2f}", *sizes))
        hours, total = hours + each * count, total + cost.work * count
        disk, largest = disk + cost.disk * count, max(largest, cost.state)
    known, unknown = (sum(len(group) for group, cost in costs if bool(cost) == there) for there in (True, False))
    beside = f" Not among them, as unknown: {counted(unknown, 'run')}." if unknown else ""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = [
        "  ".join(
            cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in lines
    ]
    return "\n".join(
        [
            *(line.rstrip() for line in aligned),
            "",
            f"In all, {counted(known, 'run')}: {total.flops / 1e15:,.1f} PFLOP, {hours:,.1f} hours of one device, "
            f"{disk / 1e9:,.1f} GB of weights, and up to {largest / 1e9:.1f} GB of state for each run under way."
            f"{beside}",
        ]
    )


def print_costs(plan: Plan, device: Device | None, records: Sequence[Path], memory_gb: float | None) -> None:
    """Print what the runs of a plan cost, those skipped among them, and what that rests on.

    Args:
        device: None for one that is fitted to the finished trainings below `records`.

    Raises:
        UserError: there is no such training.
    """
    material = Material(plan.config)
    if device is None and (device := calibrate(records, material)) is None:
        folders = ", ".join(map(str, records))
        lacking = f"no finished training with an encoder that is here below {folders} to calibrate on"
        raise UserError(f"{lacking}; state the device: --peak-tflops N")
    asked = [run for run in (*plan.runs, *plan.skipped) if not plan.predictions(run)]
    costs = grid_costs([plan.spec(run) for run in asked], material)
    print(table(costs, device, memory_gb))
    print(
        f"Device: {device.name}: {device.flops_per_s / 1e9:,.0f} GFLOP/s, {device.operator_s * 1e6:.0f} us an operator."
    )
    print(
        "Figures are of one run. PFLOP and hours: with evaluations on dev. Sizes in GB: memory on the device in "
        "float32, without what torch itself takes; state while it trains; disk afterwards."
    )
    planned = {name for run in asked for name in run.split("/")[:2]}
    for name, remark in material.remarks.items():
        print(f"- {remark}{'' if name in planned else ' (of the trainings that the device is fitted to)'}")
