"""The figures of the case study: cross-task attention of both directions, all heads, over the words of a sentence; and
captions that set gold beside what each system predicts."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.patches import Patch

from sinet.data.sentence import Sentence, parse_sentence
from sinet.evaluate.attention_mass import word_groups
from sinet.evaluate.cases import LONGEST
from sinet.evaluate.metrics import facts
from sinet.files import read_sealed
from sinet.markup import markdown
from sinet.report.style import COLUMN_INCHES, DIRECTIONS, GROUP_COLORS, PAGE_INCHES, absent, save, use_style


def draw_cases(cases: Path, titles: Mapping[str, str], out: Path) -> None:
    """Draw every sentence of a file of cases as `attention_N`.pdf and .png in `out`, N from 1, with its caption as
    .md.

    A rule that no sentence fulfils, a triple that none holds, or a model without cross-task attention, gives a figure
    that says so.
    """
    use_style()
    for number, case in enumerate(read_sealed(cases)["cases"], 1):
        stem = out / f"attention_{number}"
        if "gold" not in case:
            save(absent(case["choice"]), stem, f"n/a: {case['choice']} ({case['measured']}).")
            continue
        if case["attention"]:
            figure, shown = _heatmaps(case), "Cross-task attention"
        else:
            reason = f"{titles[case['model']]} has no cross-task attention"
            figure, shown = absent(reason), f"Attention n/a: {reason}"
        save(figure, stem, *_caption(case, shown, titles))


def _heatmaps(case: dict) -> plt.Figure:
    sentence = parse_sentence(case["gold"], "gold", "")
    maps = {direction: np.array(heads) for direction, heads in case["attention"].items()}
    rows, columns = next(iter(maps.values())).shape
    words = ["[CLS]", *sentence.tokens[: columns - 2], "[SEP]"]
    width = COLUMN_INCHES if len(words) <= LONGEST + 2 else PAGE_INCHES
    figure, axes = plt.subplots(
        len(maps), 1, figsize=(width, 0.75 + len(maps) * (0.16 * (rows + 1) + 0.25)), sharex=True, layout="constrained"
    )
    axes = np.atleast_1d(axes)
    shares = {direction: _over_words(weights) for direction, weights in maps.items()}
    greatest = max(np.nanmax(table) for table in shares.values())
    for axis, (direction, table) in zip(axes, shares.items(), strict=True):
        sns.heatmap(
            table,
            ax=axis,
            cmap="rocket_r",
            vmin=0,
            vmax=greatest,
            cbar_kws={"pad": 0.015, "aspect": 12},
            linewidths=0.3,
            linecolor="white",
            yticklabels=[*(f"head {h + 1}" for h in range(rows)), "mean"],
            xticklabels=words,
        )
        axis.set_facecolor("0.93")
        for row, weights in enumerate([*maps[direction], maps[direction].mean(axis=0)]):
            for column in (0, columns - 1):
                text = f"{weights[column]:.2f}".removeprefix("0")
                axis.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=5)
        axis.axhline(rows, color="black", linewidth=0.6)
        axis.set_title(DIRECTIONS.get(direction, direction), fontsize=7, pad=3, loc="left")
        axis.tick_params(axis="y", labelsize=6, length=0, rotation=0)
        axis.tick_params(axis="x", length=0)
        axis.collections[0].colorbar.ax.tick_params(labelsize=6, length=1.5)
    groups = word_groups(sentence)
    figure.legend(
        handles=[
            Patch(color=GROUP_COLORS[0], label="entity in a triple"),
            Patch(color=GROUP_COLORS[1], label="entity in no triple"),
        ],
        loc="outside lower center",
        ncols=2,
        fontsize=6,
        frameon=False,
        handlelength=1,
    )
    size = min(6.0, 50 * width / len(words))
    for position, label in enumerate(axes[-1].get_xticklabels()):
        label.set(fontsize=size, rotation=90, parse_math=False)
        if 0 < position < len(words) - 1 and groups[position - 1] < 2:
            label.set(color=GROUP_COLORS[groups[position - 1]], fontweight="bold")
    return figure


def _over_words(weights: np.ndarray) -> np.ndarray:
    """Each head's attention on the words over what it gives to all of them, and the same of the heads' mean attention;
    [CLS] and [SEP], on which nearly all of it may fall, are left blank."""
    weights = np.concatenate([weights, weights.mean(axis=0, keepdims=True)])
    shares = np.full(weights.shape, np.nan)
    total = weights[:, 1:-1].sum(axis=1, keepdims=True)
    shares[:, 1:-1] = np.divide(weights[:, 1:-1], total, out=np.zeros_like(weights[:, 1:-1]), where=total > 0)
    return shares


def _caption(case: dict, shown: str, titles: Mapping[str, str]) -> tuple[str, str]:
    """The caption, and as Markdown the table that belongs below it."""
    gold = parse_sentence(case["gold"], "gold", "")
    systems = {name: parse_sentence(record, name, "") for name, record in case["predicted"].items()}
    symmetric = frozenset(case["symmetric"])
    rows = [("**gold**", _annotations(gold, None, symmetric))]
    rows += [(markdown(titles[name]), _annotations(s, gold, symmetric)) for name, s in systems.items()]
    lines = [f"| {name} | {' | '.join(map(markdown, annotations))} |" for name, annotations in rows]
    explained = (
        "Each row of the figure is a head of the attention module, the last their mean attention; a word's pieces are "
        "summed. Colours divide what a head gives to words, so that they sum to 1; the numbers are what it gives to "
        "the task's own [CLS] and to [SEP]. Words of entities in a gold triple are blue, of other gold entities "
        "orange. "
        if case["attention"]
        else ""
    )
    return (
        f"{shown}, {case['measured']}; sentence {gold.id}: “{' '.join(gold.tokens)}” ({case['choice']}). {explained}"
        "Below: what each system predicts; ✓ right, ✗ wrong (strict, symmetric types direction-free).",
        "\n".join(["", "| | entities | triples |", "|---|---|---|", *lines, ""]),
    )


def _annotations(sentence: Sentence, gold: Sentence | None, symmetric: frozenset[str]) -> tuple[str, str]:
    """Entities and triples of a sentence as the cells of a table, each marked right or wrong where there is a gold."""

    def marked(claims: list[tuple[tuple, str]], metric: str) -> str:
        right = None if gold is None else facts(gold, metric, symmetric)
        marks = {claim: "" if right is None else "✓ " if claim in right else "✗ " for claim, _ in claims}
        return "; ".join(f"{marks[claim]}{text}" for claim, text in claims) or "none"

    alone = [sentence.with_labels([e], []) for e in sentence.entities]
    entities = [(next(iter(facts(s, "ent", symmetric))), mention(s, 0)) for s in alone]
    triples = [
        (
            next(iter(facts(sentence.with_labels(sentence.entities, [r]), "rel_plus", symmetric))),
            f"⟨{mention(sentence, r.head)}, {r.type}, {mention(sentence, r.tail)}⟩",
        )
        for r in sentence.relations
    ]
    return marked(entities, "ent"), marked(triples, "rel_plus")


def mention(sentence: Sentence, entity: int) -> str:
    """Words and type of an entity."""
    e = sentence.entities[entity]
    return f"{' '.join(sentence.tokens[e.start : e.end])} [{e.type}]"
