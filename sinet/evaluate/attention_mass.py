"""Where cross-task attention falls: on words of in-triple entities, of out-of-triple entities, or on other words.

Of each sentence the attention on its words is taken (that on [CLS] and [SEP] is reported apart) and divided among the
three groups; the mass of each is averaged over the sentences of a split on which the head leaves anything for words.
Uniform attention over word pieces gives each group its part of the pieces. A word of several entities is in-triple when
one of them is.

Sentences with entities of one group alone have other words than those with both: the paired figure looks inside the
latter. It is the mean over them of the natural logarithm of (mass of in-triple over its part of the pieces) / (the same
of out-of-triple); above 0 a piece of an in-triple entity gets more.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sinet.data.sentence import Sentence, read_sentences
from sinet.errors import UserError
from sinet.evaluate.compare import documents_of, unit
from sinet.evaluate.in_triple import argument_entities
from sinet.evaluate.stats import RESAMPLES, by_document, intervals
from sinet.files import read_sealed, write_sealed

GROUPS = ("in_triple", "out_of_triple", "other")


def word_groups(sentence: Sentence) -> np.ndarray:
    """Position in `GROUPS` of each word."""
    groups = np.full(len(sentence.tokens), 2)
    inside, outside = argument_entities(sentence)
    for group, entities in ((1, outside), (0, inside)):
        for _, start, end in entities:
            groups[start:end] = group
    return groups


def sentence_mass(weights: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Attention mass on words by head and group (heads, 3), and the share on [CLS] and [SEP] (heads,).

    A head that leaves nothing for the words, not even in float32, has no mass: NaN.

    Args:
        weights: (heads, words + 2). groups: (words,).
    """
    on_words = weights[:, 1:-1]
    total = on_words.sum(axis=1, keepdims=True)
    in_groups = on_words @ np.eye(len(GROUPS))[groups]
    mass = np.divide(in_groups, total, out=np.full(in_groups.shape, np.nan), where=total > 0)
    return mass, 1 - total[:, 0] / weights.sum(axis=1)


def uniform_mass(groups: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """What attention that is uniform over word pieces gives each group, (3,)."""
    return np.bincount(groups, weights=pieces, minlength=len(GROUPS)) / pieces.sum()


def write_attention_mass(
    gold_path: Path, attended: Mapping[str, Path], out: Path, lengths: Sequence[int] | None = None
) -> None:
    """Write `attention_mass.json`: by direction the mean attention of heads and seeds, and each head of each seed, with
    intervals.

    Args:
        attended: `attention.json` by seed; a model without attention gives no directions.
        lengths: sentences of each document in order, where the dataset declares them.
    """
    gold = read_sentences(gold_path)
    documents = documents_of(gold, lengths)
    records = {seed: read_sealed(path) for seed, path in attended.items()}
    for seed, record in records.items():
        if [a["id"] for a in record["sentences"]] != [s.id for s in gold]:
            raise UserError(f"{attended[seed]}: not the sentences of {gold_path}")
    first = next(iter(records.values()))
    pieces = [np.array(a["pieces"]) for a in first["sentences"]]
    groups = [word_groups(s)[: len(p)] for s, p in zip(gold, pieces, strict=True)]
    uniform = np.stack([uniform_mass(g, p) for g, p in zip(groups, pieces, strict=True)])
    directions = {}
    for direction in first["sentences"][0]["attention"]:
        counts = {seed: len(r["sentences"][0]["attention"][direction]) for seed, r in records.items()}
        names = [("mean", None)] + [(f"head {h + 1}", seed) for seed, count in counts.items() for h in range(count)]
        found = []
        for i, of_words in enumerate(groups):
            weights = np.concatenate([r["sentences"][i]["attention"][direction] for r in records.values()])
            # the mean of what they give, not of what they give words: a head that looks at [CLS] alone has no say
            found.append(sentence_mass(np.concatenate([weights.mean(axis=0, keepdims=True), weights]), of_words))
        mass, apart = (np.stack(part, axis=1) for part in zip(*found, strict=True))
        of_seeds = np.repeat(np.arange(len(counts)), list(counts.values()))
        blanks = np.isnan(mass[..., 0]).sum(axis=1).tolist()
        directions[direction] = [
            {
                "head": head,
                "seed": seed,
                "special": float(on_special),
                "blank": blank,
                "groups": figures,
                "paired": both,
            }
            for (head, seed), on_special, blank, figures, both in zip(
                *(names, apart.mean(axis=1), blanks),
                *(_figures(mass, uniform, documents), _paired(mass, uniform, documents, of_seeds)),
                strict=True,
            )
        ]
    record = {k: first[k] for k in ("device", "device_name", "threads", "precision")} | {
        "split": gold_path.stem,
        "sentences": len(gold),
        "seeds": list(records),
        "resamples": RESAMPLES,
        "unit": unit(documents),
        "uniform": dict(zip(GROUPS, uniform.mean(axis=0).tolist(), strict=True)),
        "directions": directions,
    }
    write_sealed(out, record)


def _figures(mass: np.ndarray, uniform: np.ndarray, documents: np.ndarray) -> list[dict]:
    """Of each row the mean share of each group and its ratio to that of uniform attention, with their intervals.

    Args:
        mass: (rows, sentences, 3), NaN where a row has none of a sentence. uniform: (sentences, 3).
        documents: the number of each sentence's document, which is drawn again as a whole.
    """
    known = ~np.isnan(mass)
    parts = [np.where(known, part, 0) for part in (mass, uniform, 1)]
    values = np.stack(parts, axis=-1).swapaxes(0, 1)  # (sentences, rows, 3, 3)
    present = uniform.sum(axis=0) > 0

    def statistic(sums: np.ndarray) -> np.ndarray:
        share, flat, sentences = np.moveaxis(sums, -1, 0)
        over = np.stack([sentences, flat], axis=-1)
        return np.divide(share[..., None], over, out=np.full(over.shape, np.nan), where=over > 0)

    figures = statistic(values.sum(axis=0))
    low, high = intervals(by_document(values[:, :, present], documents), statistic)
    place = np.cumsum(present) - 1

    def described(row: int, group: int, figure: int) -> dict | None:
        if not present[group] or np.isnan(figures[row, group, figure]):
            return None
        bounds = [bound[row, place[group], figure].item() for bound in (low, high)]
        return {"value": figures[row, group, figure].item(), "interval": bounds}

    return [
        {
            group: {name: described(row, g, f) for f, name in enumerate(("share", "ratio"))}
            for g, group in enumerate(GROUPS)
        }
        for row in range(len(mass))
    ]


def _paired(mass: np.ndarray, uniform: np.ndarray, documents: np.ndarray, of_seeds: np.ndarray) -> list[dict | None]:
    """Of each row the mean log ratio within sentences that hold both groups, its interval, and how many they are.

    The first row, the mean of all heads and seeds, has the mean over seeds, each of which is the mean of its heads' log
    ratios; its interval is over documents and seeds, both drawn again. The others' are over documents.

    Args:
        mass: (rows, sentences, 3). uniform: (sentences, 3). documents: as in `_figures`.
        of_seeds: the number of the seed of each row but the first.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        over_uniform = np.log(mass[1:, :, :2] / uniform[:, :2])
        ratio = over_uniform[..., 0] - over_uniform[..., 1]  # (heads, sentences)
    known = np.isfinite(ratio)  # both groups are there, and get something
    parts = np.stack([np.where(known, ratio, 0), known], axis=-1).swapaxes(0, 1)  # (sentences, heads, 2)
    seeds = np.arange(of_seeds.max() + 1)
    random = np.random.default_rng(0)

    def of_rows(sums: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """(..., heads, 2) as the figures of all rows, the mean over the seeds `drawn` first."""
        logs, n = np.moveaxis(sums, -1, 0)
        heads = np.divide(logs, n, out=np.full(logs.shape, np.nan), where=n > 0)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Mean of empty slice")
            by_seed = np.stack([np.nanmean(heads[..., of_seeds == seed], axis=-1) for seed in seeds], axis=-1)
            mean = np.nanmean(np.take_along_axis(by_seed, drawn, axis=-1), axis=-1, keepdims=True)
        return np.concatenate([mean, heads], axis=-1)

    figures = of_rows(parts.sum(axis=0)[None], seeds[None])[0]
    low, high = intervals(
        by_document(parts, documents), lambda sums: of_rows(sums, random.choice(seeds, (len(sums), len(seeds))))
    )
    sentences = [int(known.any(axis=0).sum()), *known.sum(axis=1).tolist()]
    return [
        None if np.isnan(value) else {"value": value, "interval": [low[row].item(), high[row].item()], "sentences": n}
        for row, (value, n) in enumerate(zip(figures.tolist(), sentences, strict=True))
    ]
