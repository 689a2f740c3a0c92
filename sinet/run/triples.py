"""Sentences of the case study that a golden triple names: searched for in all splits of prepared datasets, then
attended and predicted by the runs that are compared there."""

import logging
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from sinet.data.sentence import Labels, Sentence, read_sentences, write_sentences
from sinet.files import write_sealed
from sinet.run.attend import attend
from sinet.run.predict import predict_file
from sinet.score.cases import chosen_cases, holds_triple

log = logging.getLogger("sinet")

SPLITS = ("test", "dev", "train")
"""In this order: a sentence that no model was trained on comes first."""


def find_triples(triples: Sequence[tuple[str, str, str]], places: Sequence[Mapping], model: str, out: Path) -> None:
    """Write the cases (as `chosen_cases` gives them) of the first sentence that holds each triple in gold, by the order
    of `places` and `SPLITS`; of a triple that none holds, what was searched.

    Args:
        triples: words of the head, relation type, words of the tail.
        places: of each dataset its `title`, `what` is measured there, the folder of prepared `data`, and folders of the
            finished `runs` that are compared there by model, the studied one's among them.
        model: the studied model.
    """
    cases = []
    for triple in triples:
        found = [(p, split, s) for p in places for split in SPLITS for s in _holding(Path(p["data"]), split, triple)]
        shown = f"⟨{', '.join(triple)}⟩"
        if not found:
            searched = f"{', '.join(place['title'] for place in places) or 'no dataset'}; {', '.join(SPLITS)}"
            cases.append(
                {"choice": f"no sentence holds the golden triple {shown}", "measured": f"searched: {searched}"}
            )
            log.warning("case study: %s (searched: %s)", cases[-1]["choice"], searched)
            continue
        counts = Counter((place["title"], split) for place, split, _ in found)
        where = ", ".join(f"{count} in {title} {split}" for (title, split), count in counts.items())
        choice = {"choice": f"the first sentence that holds the golden triple {shown}; such sentences: {where}"}
        cases.append(_case(*found[0], model) | choice)
    write_sealed(out, {"cases": cases})


def _holding(data: Path, split: str, triple: tuple[str, str, str]) -> list[Sentence]:
    symmetric = Labels.read(data / "labels.json").symmetric
    return [s for s in read_sentences(data / f"{split}.jsonl") if holds_triple(s, triple, symmetric)]


def _case(place: Mapping, split: str, sentence: Sentence, model: str) -> dict:
    """The one sentence, attended and predicted by every run of its place."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        gold, attention = folder / "gold", folder / "attention"
        predictions = {name: folder / f"{name}.jsonl" for name in place["runs"]}
        write_sentences(gold, [sentence])
        for name, run in place["runs"].items():
            predict_file(Path(run), gold, predictions[name])
        attend(Path(place["runs"][model]), gold, attention)
        what = f"{place['what']}, {split} split" + ", which the models were trained on" * (split == "train")
        labels = Path(place["data"]) / "labels.json"
        return chosen_cases(gold, labels, attention, predictions, model, [sentence.id], what)[0]
