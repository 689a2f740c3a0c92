"""The attention figure of the case study: cross-task attention of both directions, all heads, over the words."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.patches import Patch

from sinet.paper.style import COLUMN_INCHES, save, use_style

INSIDE, OUTSIDE = "#0072b2", "#d55e00"  # told apart by every kind of colour vision
DIRECTIONS = {
    "entity": "NER [CLS] over the relation projection",
    "relation": "RE [CLS] over the entity projection",
}


def draw(attention: Path, number: int, what: str, out: Path) -> None:
    """Draw sentence `number` (from 1) of an `attention.json` as `out`.pdf and .png, with its caption in `out`.md.

    A file with fewer sentences, or a model without cross-task attention, gives a figure that says so.
    """
    written = json.loads(attention.read_text(encoding="utf-8"))
    sentences = written["sentences"]
    use_style()
    case = sentences[number - 1] if number <= len(sentences) else None
    if case is None or not case["attention"]:
        reason = "the test split has no further sentence" if case is None else "this model has no cross-task attention"
        figure, axes = plt.subplots(figsize=(COLUMN_INCHES, 0.6))
        axes.axis("off")
        axes.text(0.5, 0.5, f"n/a: {reason}", ha="center", va="center")
        caption = f"n/a: {reason}."
    else:
        figure = _heatmaps(case)
        caption = _caption(case, what, written["choice"])
    save(figure, out, caption)


def _heatmaps(case: dict) -> plt.Figure:
    words = ["[CLS]", *case["gold"]["tokens"], "[SEP]"]
    heads = len(next(iter(case["attention"].values())))
    rows = len(case["attention"])
    figure, axes = plt.subplots(
        rows, 1, figsize=(COLUMN_INCHES, 0.75 + rows * (0.16 * (heads + 1) + 0.25)), sharex=True, layout="constrained"
    )
    for axis, (direction, weights) in zip(np.atleast_1d(axes), case["attention"].items(), strict=True):
        table = np.array([*weights, np.mean(weights, axis=0)])
        sns.heatmap(
            table,
            ax=axis,
            cmap="rocket_r",
            vmin=0,
            cbar_kws={"pad": 0.015, "aspect": 12},
            linewidths=0.3,
            linecolor="white",
            yticklabels=[*(f"head {h + 1}" for h in range(heads)), "mean"],
            xticklabels=words,
        )
        axis.axhline(heads, color="black", linewidth=0.6)
        axis.set_title(DIRECTIONS[direction], fontsize=7, pad=3, loc="left")
        axis.tick_params(axis="y", labelsize=6, length=0, rotation=0)
        axis.tick_params(axis="x", length=0)
        axis.collections[0].colorbar.ax.tick_params(labelsize=5, length=1.5)
    inside, outside = _entity_words(case["gold"])
    figure.legend(
        handles=[Patch(color=INSIDE, label="entity in a triple"), Patch(color=OUTSIDE, label="entity in no triple")],
        loc="outside lower center",
        ncols=2,
        fontsize=6,
        frameon=False,
        handlelength=1,
    )
    for position, label in enumerate(np.atleast_1d(axes)[-1].get_xticklabels()):
        label.set(fontsize=6, rotation=90, parse_math=False)
        if position - 1 in inside or position - 1 in outside:
            label.set(color=INSIDE if position - 1 in inside else OUTSIDE, fontweight="bold")
    return figure


def _entity_words(gold: dict) -> tuple[set[int], set[int]]:
    """Words of entities that stand in a gold triple, and of entities that stand in none."""
    arguments = {i for r in gold["relations"] for i in (r["head"], r["tail"])}
    words: tuple[set[int], set[int]] = (set(), set())
    for i, entity in enumerate(gold["entities"]):
        words[i not in arguments].update(range(entity["start"], entity["end"]))
    return words[0], words[1] - words[0]


def _caption(case: dict, what: str, choice: str) -> str:
    gold, predicted = case["gold"], case["predicted"]
    lonely = [
        e for i, e in enumerate(gold["entities"]) if all(i not in (r["head"], r["tail"]) for r in gold["relations"])
    ]
    return (
        f"Cross-task attention, {what}, sentence `{gold['id']}`: “{' '.join(gold['tokens'])}” ({choice}). "
        "Each row is a head of the attention module, the last their mean; a word's pieces are summed; [CLS] is the "
        "task's own. Words of entities in a gold triple are blue, of other gold entities orange.\n\n"
        f"- Gold triples: {_triples(gold)}\n- Predicted triples: {_triples(predicted)}\n"
        f"- Gold entities in no triple: {'; '.join(_mention(gold, e) for e in lonely) or 'none'}"
    )


def _mention(sentence: dict, entity: dict) -> str:
    return f"{' '.join(sentence['tokens'][entity['start'] : entity['end']])} [{entity['type']}]"


def _triples(sentence: dict) -> str:
    entities = sentence["entities"]
    return (
        "; ".join(
            f"⟨{_mention(sentence, entities[r['head']])}, {r['type']}, {_mention(sentence, entities[r['tail']])}⟩"
            for r in sentence["relations"]
        )
        or "none"
    )
