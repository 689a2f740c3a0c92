"""What a run gets wrong and where: errors by kind with examples, and figures by slice, as `analysis.json`."""

from collections.abc import Sequence

from sinet.data.sentence import Labels, Sentence
from sinet.evaluate.coreference import coreference_scores
from sinet.evaluate.errors import KINDS, Claim, Error, sentence_errors
from sinet.evaluate.metrics import check_same_sentences
from sinet.evaluate.relaxed import relaxed_scores, symmetric_twice
from sinet.evaluate.slices import slice_figures, without_gold_relations, without_seen

EXAMPLES = 3
_CONTEXT = 24  # words of a sentence that an example may have: longer ones are hard to read in a table


def analyse(
    gold: Sequence[Sentence], predicted: Sequence[Sentence], labels: Labels, train: Sequence[Sentence] | None = None
) -> dict:
    """Count the errors of a run by kind, with its first examples in short sentences, and score its slices.

    Returns:
        `{"sentences": n, "errors": {kind: {"count": n, "examples": [...]}}, "slices": ..., "relaxed": ...,
        "symmetric_twice": ..., "without_gold_relations": ...}`, where train is given `without_seen` too, and
        `coreference` where clusters are annotated and predicted; types that are symmetric have no direction.

    Raises:
        UserError: when the two lists are not the same sentences.
    """
    check_same_sentences(gold, predicted)
    of = gold, predicted, labels.symmetric
    found: dict[str, list[tuple[Sentence, Error]]] = {kind: [] for kind in KINDS}
    for g, p in zip(gold, predicted, strict=True):
        for error in sentence_errors(g, p, labels.symmetric):
            found[error.kind].append((g, error))
    return {
        "sentences": len(gold),
        "errors": {
            kind: {
                "count": len(errors),
                "examples": [_example(*e) for e in errors if len(e[0].tokens) <= _CONTEXT][:EXAMPLES],
            }
            for kind, errors in found.items()
        },
        "slices": slice_figures(*of),
        "relaxed": relaxed_scores(*of),
        "symmetric_twice": symmetric_twice(*of),
        "without_gold_relations": without_gold_relations(*of),
        **({} if train is None else {"without_seen": without_seen(*of, train)}),
        **coreference_scores(gold, predicted),
    }


def _example(sentence: Sentence, error: Error) -> dict:
    sides = {
        side: readable(claim, sentence.tokens) for side in ("gold", "predicted") if (claim := getattr(error, side))
    }
    return {"id": sentence.id, "text": " ".join(sentence.tokens)} | sides


def readable(claim: Claim, tokens: Sequence[str]) -> str:
    """A claim in words: `parser [Method]`, or `parser [Method] Used-for parsing [Task]`."""
    if isinstance(claim[1], int):
        return _mention(claim[1], claim[2], claim[0], tokens)
    head, tail = (_mention(start, end, kind, tokens) for start, end, kind in claim[1:])
    return f"{head} {claim[0]} {tail}"


def _mention(start: int, end: int, kind: str, tokens: Sequence[str]) -> str:
    return f"{' '.join(tokens[start:end])} [{kind}]"
