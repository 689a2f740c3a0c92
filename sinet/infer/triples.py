"""Sentences of the case study that a golden triple names: searched for in all splits of prepared datasets, then
attended and predicted by the runs that are compared there."""

import logging
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sinet.data.sentence import Labels, Sentence, read_sentences, write_sentences
from sinet.evaluate.cases import chosen_cases, holds_triple
from sinet.files import write_sealed
from sinet.grid.plan import CaseStudy, Plan
from sinet.infer.attend import attend
from sinet.infer.predict import predict_file

log = logging.getLogger("sinet")

SPLITS = ("test", "dev", "train")
"""In this order: a sentence that no model was trained on comes first."""


def find_triples(plan: Plan, out: Path) -> None:
    """Write the cases (as `chosen_cases` gives them) of the first sentence that holds each gold triple of the plan's
    case study, by the order of datasets and `SPLITS`; of a triple that none holds, what was searched."""
    cases, places = [], plan.triple_studies()
    for triple in plan.config.case_study.triples if plan.config.case_study else ():
        found = [(case, split, s) for case in places for split in SPLITS for s in _holding(plan, case, split, triple)]
        shown = f"⟨{', '.join(triple)}⟩"
        if not found:
            searched = (
                f"{', '.join(plan.dataset_title(case.dataset) for case in places) or 'no dataset'}; {', '.join(SPLITS)}"
            )
            cases.append(
                {"choice": f"no sentence holds the golden triple {shown}", "measured": f"searched: {searched}"}
            )
            log.warning("case study: %s (searched: %s)", cases[-1]["choice"], searched)
            continue
        counts = Counter((plan.dataset_title(case.dataset), split) for case, split, _ in found)
        where = ", ".join(f"{count} in {title} {split}" for (title, split), count in counts.items())
        choice = {"choice": f"the first sentence that holds the golden triple {shown}; such sentences: {where}"}
        cases.append(_case(plan, *found[0]) | choice)
    write_sealed(out, {"cases": cases})


def _holding(plan: Plan, case: CaseStudy, split: str, triple: Sequence[str]) -> list[Sentence]:
    data = plan.results / "data" / case.dataset
    symmetric = Labels.read(data / "labels.json").symmetric
    return [s for s in read_sentences(data / f"{split}.jsonl") if holds_triple(s, triple, symmetric)]


def _case(plan: Plan, case: CaseStudy, split: str, sentence: Sentence) -> dict:
    """The one sentence, attended and predicted by every run of its place."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        gold, attention = folder / "gold", folder / "attention"
        predictions = {name: folder / f"{name}.jsonl" for name in case.systems}
        write_sentences(gold, [sentence])
        for name, run in case.systems.items():
            predict_file(plan.file(run, ""), gold, predictions[name])
        attend(plan.file(case.studied, ""), gold, attention)
        what = f"{plan.study_title(case)}, {split} split" + ", which the models were trained on" * (split == "train")
        labels = plan.results / "data" / case.dataset / "labels.json"
        return chosen_cases(gold, labels, attention, predictions, case.model, [sentence.id], what)[0]
