"""Multiply-adds of a model's inference, counted by fvcore on the model as it runs; nothing is dropped silently.

fvcore counts one multiply-add as one FLOP and traces the model, so it sees every operator. An operator it has no
count for must be on `UNCOUNTED` (element-wise arithmetic, comparisons, moving data: no multiply-adds of products);
any other is an error. Attention must be eager: fused kernels are invisible to the counter.
"""

import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from fvcore.nn import FlopCountAnalysis
from fvcore.nn.jit_handles import bmm_flop_jit, get_shape
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from sinet.contract import Batch, Extractor, Sentence
from sinet.data.sentence import read_sentences
from sinet.files import write_json
from sinet.model.encoder import Encoder
from sinet.run import machine
from sinet.run.predict import load_run

UNCOUNTED = frozenset(
    "aten::" + name
    for names in (
        # element-wise
        "abs add add_ addcmul addcmul_ lerp sub rsub mul mul_ div div_ neg exp log pow sqrt tanh sigmoid softmax gelu",
        "gelu_ relu elu ceil clamp clamp_min clamp_max minimum maximum eq ne lt le gt ge where masked_fill",
        "masked_fill_ fill_",
        "dropout logical_and logical_not logical_or bitwise_not __and__ __or__ __iand__ remainder floor_divide",
        # reductions and searches without products
        "sum mean max min amax argmax cumsum cumsum_ cummin bincount isin bucketize nonzero nonzero_numpy sort argsort",
        "topk any all",
        # making and moving data
        "arange triu_indices zeros ones full empty new_ones new_zeros new_empty new_full zeros_like ones_like",
        "empty_like rand tensor copy_ clone resolve_conj resolve_neg numpy_T pad_sequence to cat stack split unbind",
        "narrow unflatten flip index index_select index_put_ index_put gather scatter scatter_ index_add index_add_",
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
        self.sentences = batch.sentences

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        with _Results() as results:
            self.model.decode(Batch(self.sentences, dict(zip(self.names, tensors, strict=True))))
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


def _handle(multiply_adds: Callable[..., int]) -> Callable[[list, list], int]:
    """fvcore's form of a count from shapes."""
    return lambda inputs, outputs: multiply_adds(*map(get_shape, inputs), out=get_shape(outputs[0]))


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
        analysis = FlopCountAnalysis(_Decoding(model, batch), tuple(batch.tensors.values()))
        # fvcore knows the product without the sum: baddbmm(added, a, b)
        analysis.set_op_handle("aten::baddbmm", lambda inputs, outputs: bmm_flop_jit(inputs[1:3], outputs))
        for operator, multiply_adds in model.operators.items():
            analysis.set_op_handle(operator, _handle(multiply_adds))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        everything, by_module = analysis.by_operator(), analysis.by_module_and_operator()
        # a system may have several encoders (PURE has two)
        encoders = [f"model.{name}" for name, module in model.named_modules() if isinstance(module, Encoder)]
        encoder = sum((by_module[name] for name in encoders), Counter())
        unknown = set(analysis.unsupported_ops()) - UNCOUNTED
        with FlopCounterMode(display=False) as torch_counter:
            model.decode(batch)
    if unknown:
        raise RuntimeError(
            f"operators without a count: {', '.join(sorted(unknown))}; count them, or add them to UNCOUNTED in "
            "sinet/run/flops.py if they hold no multiply-adds"
        )
    products = sum(n for operator, n in everything.items() if operator not in NORMALISATION)
    if 2 * products != torch_counter.get_total_flops():
        raise RuntimeError(f"fvcore counts {products} multiply-adds, torch {torch_counter.get_total_flops() / 2}")
    return {"encoder": Counter(encoder), "heads": Counter(everything) - Counter(encoder)}


def count_sentences(model: Extractor, sentences: Sequence[Sentence], progress: str | None = None) -> dict:
    """Mean multiply-adds per sentence, decoded in batches of equal piece count.

    No piece is padding then. What a batch does once for all is counted once (in SINET the product of the width table
    with the classifier, a millionth of the total); a system that pads words, spans or pairs within such a batch has
    that padding counted.
    """
    model.eval()
    groups = defaultdict(list)
    for sentence, length in zip(sentences, model.encoder.piece_counts(sentences), strict=True):
        groups[length].append(sentence.without_labels())
    totals = {"encoder": Counter(), "heads": Counter()}
    for length in tqdm(sorted(groups), desc=progress, unit="length", disable=progress is None, mininterval=2):
        for part, counted in count_batch(model, model.collate(groups[length])).items():
            totals[part].update(counted)
    mean = {part: sum(counted.values()) / len(sentences) for part, counted in totals.items()}
    return {
        "unit": "multiply-adds per sentence, mean",
        "sentences": len(sentences),
        "word_pieces": sum((n + 2) * len(g) for n, g in groups.items()) / len(sentences),
        "encoder": mean["encoder"],
        "heads": mean["heads"],
        "total": mean["encoder"] + mean["heads"],
        "operators": {p: {op: n / len(sentences) for op, n in sorted(c.items())} for p, c in totals.items()},
    }


def count_runs(runs: dict[str, Path], test: Path, out: Path) -> None:
    """Count finished runs (model name -> folder) on a test split; on the CPU, where counts are the same."""
    machine.use_device()
    sentences = read_sentences(test)
    counted = {}
    for name, folder in runs.items():
        model, _ = load_run(folder, torch.device("cpu"))
        counted[name] = count_sentences(model, sentences, progress=f"FLOPs of {name}")
    write_json(out, {"counter": "fvcore", "split": str(test.stem), "systems": counted})
