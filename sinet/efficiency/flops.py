"""Multiply-adds of a model's inference, counted by fvcore on the model as it runs; nothing is dropped silently.

fvcore counts one multiply-add as one FLOP and traces the model, so it sees every operator. An operator it has no
count for must be on `UNCOUNTED` (element-wise arithmetic, comparisons, moving data: no multiply-adds of products);
any other leaves the system uncounted, with the reason. Attention must be eager: the counter does not see fused kernels.
"""

import contextlib
import functools
import logging
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from fvcore.nn.jit_handles import bmm_flop_jit, get_shape
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from sinet import machine, provenance, systems
from sinet.contract import Batch, Entity, Extractor, Labels, Relation, Sentence
from sinet.data.sentence import read_sentences
from sinet.encoders.encoder import Encoder
from sinet.encoders.located import locate_encoder
from sinet.encoders.pretrained import load_encoder
from sinet.errors import UserError
from sinet.files import write_sealed
from sinet.grid.plan import COUNTED, Plan
from sinet.infer.predict import load_run
from sinet.model.batches import inference_batches, sample_by_length
from sinet.schema import EncoderSpec

log = logging.getLogger("sinet")

OF_EACH_LENGTH = 2
"""Sentences that are counted of each length."""

UNCOUNTED = frozenset(
    "aten::" + name
    for names in (
        # element-wise
        "abs add add_ addcmul addcmul_ lerp sub rsub mul mul_ div div_ neg exp frexp log pow sqrt tanh sigmoid",
        "sigmoid_ softmax gelu gelu_ relu elu ceil clamp clamp_min clamp_max minimum maximum eq ne lt le gt ge where",
        "log_softmax sign sin cos masked_fill masked_fill_ fill_",
        "dropout logical_and logical_not logical_or bitwise_not __and__ __or__ __iand__ remainder floor_divide",
        # reductions and searches without products
        "sum mean max min amax argmax cumsum cumsum_ cummin bincount isin bucketize nonzero nonzero_numpy sort argsort",
        "scatter_reduce topk any all _unique2 unique_dim unique_consecutive",
        # making and moving data
        "arange triu_indices full_like",
        "randn tril triu triu_ zeros ones full empty new_ones new_zeros new_empty new_full zeros_like ones_like",
        "empty_like rand tensor copy_ clone resolve_conj resolve_neg numpy_T pad_sequence to cat stack split unbind",
        "narrow unfold unflatten movedim flip index index_select index_copy index_copy_ index_put_",
        "index_put gather scatter scatter_ index_add index_add_",
        "reshape_as repeat repeat_interleave broadcast_tensors expand expand_as pad constant_pad_nd embedding",
    )
    for name in names.split()
)

NORMALISATION = frozenset({"layer_norm", "batch_norm", "group_norm"})
"""Counted by fvcore, and not by torch, which counts products of matrices only."""


class _Decoding(nn.Module):
    """Decoding as a function from tensors to tensors, the form that tracing needs.

    A trace drops whatever its outputs do not depend on, and predictions are no tensors; so every floating-point
    result that nothing else uses is an output.
    """

    def __init__(self, model: Extractor, batch: Batch) -> None:
        super().__init__()
        self.model = model
        self.names = list(batch.tensors)
        self.sentences, self.gold_entities = batch.sentences, batch.gold_entities

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        with _Results() as results:
            self.model.decode(Batch(self.sentences, dict(zip(self.names, tensors, strict=True)), self.gold_entities))
        return tuple(results.kept.values())


class _Results(TorchFunctionMode):
    """The floating-point results on which no later one depends: few, and the trace of every other hangs on them."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[int, Tensor] = {}

    def __torch_function__(
        self, function: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.is_floating_point():
            for used in args:
                for part in used if isinstance(used, list | tuple) else (used,):
                    self.kept.pop(id(part), None)
            self.kept[id(result)] = result
        return result


def encoder_multiply_adds(config: PreTrainedConfig, pieces: int, attention: bool = True) -> int:
    """The closed formula of a transformer encoder over a sequence of so many pieces, normalisation not counted: four
    projections, two products of attention (unless left out) and two of the feed-forward network a layer, and ALBERT's
    wider embedding."""
    hidden, wide = config.hidden_size, config.intermediate_size
    layer = pieces * (4 * hidden**2 + 2 * hidden * wide) + (2 * pieces**2 * hidden if attention else 0)
    narrow = getattr(config, "embedding_size", hidden)
    return config.num_hidden_layers * layer + (pieces * narrow * hidden if narrow != hidden else 0)


def _handle(multiply_adds: Callable[..., int]) -> Callable[[list, list], int]:
    """fvcore's form of a count from shapes."""
    return lambda inputs, outputs: multiply_adds(*map(get_shape, inputs), out=get_shape(outputs[0]))


def _analysis(module: nn.Module, inputs: tuple, operators: dict[str, Callable[..., int]]) -> FlopCountAnalysis:
    """fvcore's count of a module, with handles for what it does not know.

    Raises:
        RuntimeError: naming operators that are neither counted nor known to hold no multiply-adds.
    """
    analysis = FlopCountAnalysis(module, inputs)
    # fvcore knows the product alone: not bmm(a, b, out), into a tensor that is there, nor the sum baddbmm(added, a, b)
    analysis.set_op_handle("aten::bmm", lambda inputs, outputs: bmm_flop_jit(inputs[:2], outputs))
    analysis.set_op_handle("aten::baddbmm", lambda inputs, outputs: bmm_flop_jit(inputs[1:3], outputs))
    for operator, multiply_adds in operators.items():
        analysis.set_op_handle(operator, _handle(multiply_adds))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    analysis.total()  # traces the module; what it met is known afterwards
    if unknown := set(analysis.unsupported_ops()) - UNCOUNTED:
        raise RuntimeError(
            f"operators without a count: {', '.join(sorted(unknown))}; count them, or add them to UNCOUNTED in "
            "sinet/efficiency/flops.py if they hold no multiply-adds"
        )
    return analysis


class _Encoding(nn.Module):
    """An encoder's own products, whatever answers in its place while heads are counted."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        # markers share the places of pieces: there may be more in a row than the encoder has places
        place = torch.arange(input_ids.shape[1], device=input_ids.device) % self.encoder.max_pieces
        more = input_ids.shape[1] > self.encoder.max_pieces
        places = place.expand_as(input_ids) if more else None
        return self.encoder.transformer(input_ids, attention_mask, places).last_hidden_state


ENCODER_COUNTS: dict[tuple[str, str, torch.Size], Counter[str]] = {}
"""What `count_encoder` has counted: each architecture is traced once for a shape, whichever system asks."""


def count_encoder(encoder: Encoder, shape: torch.Size) -> Counter[str]:
    """Multiply-adds of an encoder over a batch (rows, pieces), by operator."""
    config = encoder.model.config
    key = (config.to_json_string(), config._attn_implementation, shape)
    if key not in ENCODER_COUNTS:
        ids = torch.zeros(shape, dtype=torch.long, device=encoder.model.device)
        ENCODER_COUNTS[key] = _analysis(_Encoding(encoder), (ids, torch.ones_like(ids)), {}).by_operator()
    return ENCODER_COUNTS[key]


@contextlib.contextmanager
def _encoded_once(model: Extractor) -> Iterator[list[tuple[Encoder, torch.Size]]]:
    """Within it, encoders run while nothing is traced and give the same again, in the same order, to a trace, which
    sees the heads alone; which encoder was asked, and for what shape."""
    asked: list[tuple[Encoder, torch.Size]] = []
    states: list[Any] = []

    def answering(encoder: Encoder, compute: Callable[..., Any]) -> Callable[..., Any]:
        def answer(input_ids: Tensor, *rest: Tensor, **options: Tensor) -> Any:
            if torch.jit.is_tracing():
                return states.pop(0)
            asked.append((encoder, input_ids.shape))
            states.append(compute(input_ids, *rest, **options))
            return states[-1]

        return answer

    encoders = [module for module in model.modules() if isinstance(module, Encoder)]
    for encoder in encoders:
        for name in ("forward", "all_layers"):
            vars(encoder)[name] = answering(encoder, getattr(encoder, name))
    try:
        yield asked
    finally:
        for encoder in encoders:
            del vars(encoder)["forward"], vars(encoder)["all_layers"]


def count_batch(model: Extractor, batch: Batch, checked: bool = True) -> dict[str, Counter]:
    """Multiply-adds of decoding one batch.

    Args:
        checked: torch's own counter is held against fvcore's; it takes longer than the count.

    Returns:
        `encoder` and `heads`, each operator -> multiply-adds; normalisation stands under `layer_norm`. And how many
        `rows` the encoders read, under `passes`.

    Raises:
        RuntimeError: naming operators that are neither counted nor known to hold no multiply-adds, or when torch's
            own counter sees other products than fvcore does.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        with _encoded_once(model) as asked:
            model.decode(batch)
            analysis = _analysis(_Decoding(model, batch), tuple(batch.tensors.values()), model.flop_handlers)
        heads = analysis.by_operator()
        by_encoder = [(encoder, count_encoder(encoder, shape)) for encoder, shape in asked]
        if checked:
            with FlopCounterMode(display=False) as torch_counter:
                model.decode(batch)
            here = sum((counted for encoder, counted in by_encoder if not isinstance(encoder, Sizes)), heads)
            products = sum(n for operator, n in here.items() if operator not in NORMALISATION)
            if 2 * products != torch_counter.get_total_flops():
                raise RuntimeError(
                    f"fvcore counts {products} multiply-adds, torch {torch_counter.get_total_flops() / 2}"
                )
    encoded = sum((counted for _, counted in by_encoder), Counter())
    return {"encoder": encoded, "heads": heads, "passes": Counter(rows=sum(shape[0] for _, shape in asked))}


def count_sentences(
    model: Extractor, sentences: Sequence[Sentence], progress: str | None = None, given: bool = False
) -> dict:
    """Mean multiply-adds per sentence, decoded in batches of equal numbers of pieces and words: nothing is padded. Of a
    model that reads whole documents these are the batches, and their sentences are padded to the longest.

    What a batch does once for all is counted once (in SINET the product of the width table with the classifiers, less
    than a thousandth of the total). torch's own counter is held against the batch in the middle. `given`: relations are
    decided between the gold entities (`Batch.gold_entities`).
    """
    # torch's counter fails where a weight that learns goes into a module, as DeBERTa's table of distances does
    model.eval().requires_grad_(False)
    seen = [sentence if given else sentence.without_labels() for sentence in sentences]
    read = [
        tuple(t.shape[1] for name, t in model.collate([sentence]).tensors.items() if name.endswith("input_ids"))
        for sentence in seen
    ]
    batches = inference_batches(model, seen, 1) if model.settings.whole_documents else _equal_lengths(seen, read)
    totals: dict[str, Counter[str]] = {"encoder": Counter(), "heads": Counter(), "passes": Counter()}
    shown = tqdm(batches, desc=progress, unit="batch", disable=progress is None, mininterval=2)
    for number, positions in enumerate(shown):
        batch = model.collate([seen[i] for i in positions])
        batch.gold_entities = given
        for part, counted in count_batch(model, batch, checked=number == len(batches) // 2).items():
            totals[part].update(counted)
    mean = {part: sum(counted.values()) / len(sentences) for part, counted in totals.items()}
    return {
        "unit": "multiply-adds per sentence, mean",
        "sentences": len(sentences),
        "word_pieces": sum(pieces for pieces, *_ in read) / len(sentences),
        "passes": mean["passes"],
        "encoder": mean["encoder"],
        "heads": mean["heads"],
        "total": mean["encoder"] + mean["heads"],
        "operators": {
            p: {op: n / len(sentences) for op, n in sorted(c.items())} for p, c in totals.items() if p != "passes"
        },
    }


def _equal_lengths(sentences: Sequence[Sentence], read: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """Positions of the sentences of equal numbers of pieces that are `read`, and of words, the shortest first."""
    groups = defaultdict(list)
    for i, (sentence, pieces) in enumerate(zip(sentences, read, strict=True)):
        groups[pieces, len(sentence.tokens)].append(i)
    return [groups[lengths] for lengths in sorted(groups)]


@contextlib.contextmanager
def as_released(model: Extractor) -> Iterator[None]:
    """The model decodes by the products of its authors' released code: the same figures (`Extractor.released_form`)."""
    for module in model.modules():
        vars(module)["released"] = True
    try:
        yield
    finally:
        for module in model.modules():
            vars(module)["released"] = False


def count_forms(model: Extractor, count: Callable[[], dict]) -> dict:
    """What `count` says of a model as it decodes here (`ours`) and as `released`; how they differ (`released_form`)."""
    ours = count()
    with as_released(model):
        released = count() if model.released_form else ours
    return {"released_form": model.released_form, "ours": ours, "released": released}


def count_or_reason(name: str, count: Callable[[], dict]) -> dict:
    """What is counted of a system, or `not_counted`: why it cannot be; the others are counted all the same."""
    try:
        return count()
    except RuntimeError as error:
        log.warning("%s is not counted: %s", name, error)
        return {"not_counted": str(error).splitlines()[0]}


def of_words(sentences: Sequence[Sentence], words: int, count: int) -> list[Sentence]:
    """`count` sentences of exactly `words` words, made of consecutive sentences laid end to end, with what gold lies
    inside; fewer where the text is used up."""
    made, stream = [], iter(sentences)
    for number in range(count):
        tokens: list[str] = []
        entities: list[Entity] = []
        relations: list[Relation] = []
        while len(tokens) < words and (sentence := next(stream, None)) is not None:
            shift, kept = len(tokens), {}
            tokens += sentence.tokens
            for i, e in enumerate(sentence.entities):
                if shift + e.end <= words:
                    kept[i] = len(entities)
                    entities.append(Entity(e.type, shift + e.start, shift + e.end))
            relations += [
                Relation(r.type, kept[r.head], kept[r.tail])
                for r in sentence.relations
                if r.head in kept and r.tail in kept
            ]
        if len(tokens) >= words:
            made.append(Sentence(f"{words}-{number}", tuple(tokens[:words]), tuple(entities), tuple(relations)))
    return made


def count_lengths(
    model: Extractor, sentences: Sequence[Sentence], lengths: Sequence[int], each: int
) -> dict[str, dict]:
    """Multiply-adds by number of words, `{words: {encoder, heads, total, ...}}`, means over `each` sentences."""
    counted = {}
    for words in lengths:
        if not (chosen := of_words(sentences, words, each)):
            continue  # the split has fewer words than that in all
        figures = count_sentences(model, chosen)
        counted[str(words)] = {k: figures[k] for k in ("encoder", "heads", "total", "word_pieces", "sentences")}
    return counted


def count_run(
    model: Extractor, name: str, sentences: Sequence[Sentence], everything: Sequence[Sentence], lengths: Sequence[int]
) -> dict:
    """Both forms over some `sentences` of a split; ours also `by_words`, over sentences made of all of it, and, of a
    system that reads the document around a sentence, the total `without_context`."""
    forms = count_forms(model, functools.partial(count_sentences, model, sentences, f"FLOPs of {name}"))
    more: dict[str, Any] = {"by_words": count_lengths(model, everything, lengths, min(OF_EACH_LENGTH, len(sentences)))}
    if any(getattr(model.settings, window) for window in model.Settings.windows):
        alone = [replace(sentence, text=()) for sentence in sentences]
        more["without_context"] = count_sentences(model, alone, f"FLOPs of {name}, sentences alone")["total"]
    return forms | {"ours": forms["ours"] | more}


def count_grid(plan: Plan, dataset: str, encoder: str, out: Path) -> None:
    """Count the systems of a plan at a place on what its configuration says, and in the architectures that the
    published table has and the grid does not measure."""
    asked = plan.config.efficiency
    if asked is None:
        raise UserError(f"{plan.results}: this grid measures no efficiency")
    untrained = [
        (plan.config.encoder_spec(name), asked.architecture_sentences)
        for name in asked.architectures
        if name in plan.sizes_alone
    ]
    runs = {model: plan.file(run, "") for model, run in plan.systems_at(dataset, encoder).items()}
    test = plan.results / "data" / dataset / "test.jsonl"
    of = plan.asked(dataset, encoder, COUNTED)
    count_runs(runs, test, out, asked.counted_sentences, asked.counted_words, untrained, of)


def count_runs(
    runs: dict[str, Path],
    test: Path,
    out: Path,
    count: int | None,
    lengths: Sequence[int],
    untrained: Sequence[tuple[EncoderSpec, int | None]],
    of: dict | None = None,
) -> None:
    """Count finished runs (model name -> folder); on the CPU, where counts are the same.

    Args:
        count: sentences of the test split, at even steps of length, None for all, counted in both forms.
        lengths: numbers of words of further sentences, made of the split, counted in our form alone (`by_words`).
        untrained: declared encoder architectures, in which every run's system is counted with random weights, and on
            how many sentences, None for all.
        of: what a plan asked, of which trainings; written beside the figures.
    """
    machine.use_device()
    everything = read_sentences(test)
    counted, made = {}, {}
    for name, folder in runs.items():
        model, made[name] = load_run(folder, torch.device("cpu"))
        whole = model.settings.whole_documents
        sentences = sample_by_length(everything, model.encoder.piece_counts(everything), count, whole)
        counted[name] = count_or_reason(name, functools.partial(count_run, model, name, sentences, everything, lengths))
        labels = model.labels
    write_sealed(
        out,
        {
            **(of or {}),
            "git_commit": provenance.git_commit(),
            "counter": "fvcore",
            "split": str(test.stem),
            "of_sentences": len(everything),
            "systems": counted,
            "architectures": {
                declared.name: count_architecture(declared, made, labels, everything, n) for declared, n in untrained
            },
            "peak_memory_mib": machine.peak_memory_mib(torch.device("cpu")),
        },
    )


class Sizes(Encoder):
    """An encoder without weights or work: it answers with arbitrary states."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__(nn.Module.to(model, "meta").eval(), tokenizer)

    def _states(self, input_ids: Tensor) -> Tensor:
        return torch.randn(*input_ids.shape, self.hidden_size, generator=torch.Generator().manual_seed(0))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, *_: Tensor | None, **__: Tensor | None) -> Tensor:
        return self._states(input_ids)

    def all_layers(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        config, (rows, pieces) = self.model.config, input_ids.shape
        maps = torch.full((rows, config.num_attention_heads, pieces, pieces), 1 / pieces)
        layers = config.num_hidden_layers
        return (layers + 1) * (self._states(input_ids),), layers * (maps,)


def count_architecture(
    declared: EncoderSpec, made: dict[str, dict], labels: Labels, everything: Sequence[Sentence], count: int | None
) -> dict:
    """Multiply-adds of systems (name -> `model.json`) around an architecture without weights, over `count` sentences
    as of a run: which `tokenizer` cuts them, and the forms of the `systems`.

    An untrained system sees entities everywhere, so relations are decided between the gold ones
    (`Batch.gold_entities`), where a system takes them.
    """
    located = locate_encoder(declared)
    with torch.device("meta"):
        encoder = load_encoder(declared, located)
    encoder = Sizes(encoder.model, encoder.tokenizer)
    whole = any(systems.settings(made_of["system"])(**made_of["settings"]).whole_documents for made_of in made.values())
    sentences = sample_by_length(everything, encoder.piece_counts(everything), count, whole)
    counted = {}
    for name, description in made.items():
        model = systems.load(description["system"])(labels, encoder, **description["settings"]).eval()
        progress = f"FLOPs of {name} with {declared.name}"
        count_all = functools.partial(count_sentences, model, sentences, progress, given=True)
        counted[name] = count_or_reason(name, functools.partial(count_forms, model, count_all))
    return {"tokenizer": located.name, "systems": counted}
