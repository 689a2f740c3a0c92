"""Multiply-adds of a model's inference, counted by fvcore on the model as it runs; nothing is dropped silently.

fvcore counts one multiply-add as one FLOP and traces the model, so it sees every operator. An operator it has no
count for must be on `UNCOUNTED` (element-wise arithmetic, comparisons, moving data: no multiply-adds of products);
any other is an error. Attention must be eager: fused kernels are invisible to the counter.
"""

import contextlib
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from fvcore.nn import FlopCountAnalysis
from fvcore.nn.jit_handles import bmm_flop_jit, get_shape
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from sinet import systems
from sinet.contract import Batch, Entity, Extractor, Relation, Sentence
from sinet.data.sentence import read_sentences
from sinet.files import write_json
from sinet.model.encoder import Encoder
from sinet.model.pretrained import load_encoder, locate_encoder
from sinet.run import machine
from sinet.run.batches import sample_by_length
from sinet.run.predict import load_run

WORDS = (16, 32, 64, 128)
"""Lengths, in words, of the sentences that are counted one by one."""
SHORTER = (1, 4, 8)
"""Besides, in the deck's architectures: its figures are reached by very short sentences."""
OF_EACH_LENGTH = 4

UNCOUNTED = frozenset(
    "aten::" + name
    for names in (
        # element-wise
        "abs add add_ addcmul addcmul_ lerp sub rsub mul mul_ div div_ neg exp frexp log pow sqrt tanh sigmoid",
        "sigmoid_ softmax gelu gelu_ relu elu ceil clamp clamp_min clamp_max minimum maximum eq ne lt le gt ge where",
        "masked_fill masked_fill_ fill_",
        "dropout logical_and logical_not logical_or bitwise_not __and__ __or__ __iand__ remainder floor_divide",
        # reductions and searches without products
        "sum mean max min amax argmax cumsum cumsum_ cummin bincount isin bucketize nonzero nonzero_numpy sort argsort",
        "topk any all",
        # making and moving data
        "arange triu_indices",
        "tril triu triu_ zeros ones full empty new_ones new_zeros new_empty new_full zeros_like ones_like",
        "empty_like rand tensor copy_ clone resolve_conj resolve_neg numpy_T pad_sequence to cat stack split unbind",
        "narrow unflatten movedim flip index index_select index_copy index_copy_ index_put_",
        "index_put gather scatter scatter_ index_add index_add_",
        "repeat repeat_interleave expand expand_as pad constant_pad_nd embedding",
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
        self.sentences, self.given = batch.sentences, batch.given

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        with _Results() as results:
            self.model.decode(Batch(self.sentences, dict(zip(self.names, tensors, strict=True)), self.given))
        return tuple(results.kept.values())


class _Results(TorchFunctionMode):
    """The floating-point results on which no later one depends: few, and the trace of every other hangs on them."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[int, Tensor] = {}

    def __torch_function__(
        self, function: object, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.is_floating_point():
            for used in tree_leaves((args, kwargs)):
                self.kept.pop(id(used), None)
            self.kept[id(result)] = result
        return result


def encoder_multiply_adds(config: object, pieces: int, attention: bool = True) -> int:
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
            "sinet/run/flops.py if they hold no multiply-adds"
        )
    return analysis


def count_batch(model: Extractor, batch: Batch) -> dict[str, Counter]:
    """Multiply-adds of decoding one batch.

    Returns:
        `encoder` and `heads`, each operator -> multiply-adds; normalisation stands under `layer_norm`.

    Raises:
        RuntimeError: naming operators that are neither counted nor known to hold no multiply-adds, or when torch's
            own counter sees other products than fvcore does.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        analysis = _analysis(_Decoding(model, batch), tuple(batch.tensors.values()), model.operators)
        everything, by_module = analysis.by_operator(), analysis.by_module_and_operator()
        # a system may have several encoders (PURE has two)
        encoders = [f"model.{name}" for name, module in model.named_modules() if isinstance(module, Encoder)]
        encoder = sum((by_module[name] for name in encoders), Counter())
        with FlopCounterMode(display=False) as torch_counter:
            model.decode(batch)
    products = sum(n for operator, n in everything.items() if operator not in NORMALISATION)
    if 2 * products != torch_counter.get_total_flops():
        raise RuntimeError(f"fvcore counts {products} multiply-adds, torch {torch_counter.get_total_flops() / 2}")
    return {"encoder": Counter(encoder), "heads": Counter(everything) - Counter(encoder)}


def count_sentences(model: Extractor, sentences: Sequence[Sentence], progress: str | None = None) -> dict:
    """Mean multiply-adds per sentence, decoded in batches of equal numbers of pieces and words: nothing is padded.

    What a batch does once for all is counted once (in SINET the product of the width table with the classifiers, a
    millionth of the total).
    """
    model.eval()
    groups = defaultdict(list)
    for sentence, pieces in zip(sentences, model.encoder.piece_counts(sentences), strict=True):
        groups[pieces, len(sentence.tokens)].append(sentence.without_labels())
    totals = {"encoder": Counter(), "heads": Counter()}
    for lengths in tqdm(sorted(groups), desc=progress, unit="length", disable=progress is None, mininterval=2):
        for part, counted in count_batch(model, model.collate(groups[lengths])).items():
            totals[part].update(counted)
    mean = {part: sum(counted.values()) / len(sentences) for part, counted in totals.items()}
    return {
        "unit": "multiply-adds per sentence, mean",
        "sentences": len(sentences),
        "word_pieces": sum((pieces + 2) * len(g) for (pieces, _), g in groups.items()) / len(sentences),
        "encoder": mean["encoder"],
        "heads": mean["heads"],
        "total": mean["encoder"] + mean["heads"],
        "operators": {p: {op: n / len(sentences) for op, n in sorted(c.items())} for p, c in totals.items()},
    }


def of_words(sentences: Sequence[Sentence], words: int, count: int) -> list[Sentence]:
    """`count` sentences of exactly `words` words, made of consecutive sentences laid end to end, with what gold lies
    inside; fewer where the text is used up."""
    made, stream = [], iter(sentences)
    for number in range(count):
        tokens, entities, relations = [], [], []
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


def count_lengths(model: Extractor, sentences: Sequence[Sentence], each: int = OF_EACH_LENGTH) -> dict[str, dict]:
    """Multiply-adds by number of words, `{words: {encoder, heads, total, ...}}`, means over `each` sentences."""
    counted = {}
    for words in WORDS:
        if not (chosen := of_words(sentences, words, each)):
            continue  # the split has fewer words than that in all
        figures = count_sentences(model, chosen)
        counted[str(words)] = {k: figures[k] for k in ("encoder", "heads", "total", "word_pieces", "sentences")}
    return counted


def count_runs(runs: dict[str, Path], test: Path, out: Path, count: int | None, untrained: Sequence[dict]) -> None:
    """Count finished runs (model name -> folder); on the CPU, where counts are the same.

    Args:
        count: sentences of the test split, at even steps of length, None for all; besides, sentences of `WORDS` words.
        untrained: declared encoder architectures, in which every run's system is counted with random weights.
    """
    machine.use_device()
    everything = read_sentences(test)
    counted, made = {}, {}
    for name, folder in runs.items():
        model, made[name] = load_run(folder, torch.device("cpu"))
        sentences = sample_by_length(everything, model.encoder.piece_counts(everything), count)
        counted[name] = count_sentences(model, sentences, progress=f"FLOPs of {name}")
        counted[name]["by_words"] = count_lengths(model, everything)
        counted[name]["formulations"] = {}
        for title, settings in model.formulations.items():
            other, _ = load_run(folder, torch.device("cpu"), settings)
            figures = count_sentences(other, sentences, progress=f"FLOPs of {name}, {title}")
            counted[name]["formulations"][title] = figures | {"by_words": count_lengths(other, everything)}
        labels = model.labels
    write_json(
        out,
        {
            "counter": "fvcore",
            "split": str(test.stem),
            "of_sentences": len(everything),
            "systems": counted,
            "architectures": {
                declared["name"]: count_architecture(declared, made, labels, everything) for declared in untrained
            },
            "peak_memory_mib": machine.peak_memory_mib(torch.device("cpu")),
        },
    )


def count_architecture(
    declared: dict, made: dict[str, dict], labels: object, sentences: Sequence[Sentence]
) -> dict[str, dict]:
    """Multiply-adds of systems (name -> `model.json`) around an architecture with random weights: name -> `by_words`,
    and `formulations`, in which each other formulation has its own.

    An untrained system sees entities everywhere, so relations are decided between the gold ones (`Batch.given`), where
    a system goes through entities. One sentence of each length: the encoder is run once for all systems.
    """
    encoder = load_encoder(declared, locate_encoder(declared)).eval()
    chosen = [sentence for words in (*SHORTER, *WORDS) for sentence in of_words(sentences, words, 1)]
    remembered: dict[str, tuple] = {}
    counted: dict[str, dict] = {}

    def by_words(description: dict, settings: dict) -> dict[str, dict]:
        model = systems.load(description["system"])(labels, encoder, **description["settings"] | settings).eval()
        return {str(len(s.tokens)): _count_around(model, encoder, s, remembered) for s in chosen}

    for name, description in tqdm(made.items(), desc=f"FLOPs with {declared['name']}", unit="system", mininterval=2):
        others = systems.load(description["system"]).formulations
        counted[name] = {
            "by_words": by_words(description, {}),
            "formulations": {title: by_words(description, settings) for title, settings in others.items()},
        }
    return counted


def _count_around(model: Extractor, encoder: Encoder, sentence: Sentence, remembered: dict[str, tuple]) -> dict:
    """Multiply-adds of a system over a sentence, of which the encoder's states and count are `remembered`."""
    batch = model.collate([sentence])
    batch.given = True
    if sentence.id not in remembered:
        with torch.no_grad():
            remembered[sentence.id] = _encoder_outputs(encoder, batch)
    states, attentions, multiply_adds = remembered[sentence.id]
    with _in_place_of(encoder, states, attentions):
        parts = count_batch(model, batch)
    # PURE reads the sentence with a second encoder, which is none of the heads
    encoders, heads = multiply_adds + sum(parts["encoder"].values()), sum(parts["heads"].values())
    return {
        "encoder": encoders,
        "heads": heads,
        "total": encoders + heads,
        "word_pieces": batch["input_ids"].shape[1],
    }


def _encoder_outputs(encoder: Encoder, batch: Batch) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], int]:
    """All states, all attentions, and the multiply-adds of the encoder over a batch."""
    inputs = batch["input_ids"], batch["attention_mask"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        total = int(_analysis(encoder, inputs, {}).total())
    return *encoder.all_layers(*inputs), total


@contextlib.contextmanager
def _in_place_of(encoder: Encoder, states: tuple[Tensor, ...], attentions: tuple[Tensor, ...]) -> Iterator[None]:
    """The encoder answers with what it gave before: the same figures, no products."""
    encoder.forward = lambda input_ids, attention_mask: states[-1]
    encoder.all_layers = lambda input_ids, attention_mask: (states, attentions)
    try:
        yield
    finally:
        del encoder.forward, encoder.all_layers
