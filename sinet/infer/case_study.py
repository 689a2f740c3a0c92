"""The sentences of the case study: chosen by rules on dev, named by an id or found by a golden triple in any split;
attended and predicted by the runs that are compared there, whose weights are at hand."""

import logging
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sinet.data.sentence import Labels, Sentence, by_document, read_sentences, write_sentences
from sinet.evaluate.cases import chosen_cases, holds_triple
from sinet.files import write_sealed
from sinet.grid.plan import CaseStudy, Plan
from sinet.infer.attend import attend
from sinet.infer.predict import predict_file

log = logging.getLogger("sinet")

SPLITS = ("test", "dev", "train")
"""In this order: a sentence that no model was trained on comes first."""


def find_cases(plan: Plan, out: Path) -> None:
    """Write the cases (as `chosen_cases` gives them) of the plan's case study: of its sentences, then of its triples.

    Raises:
        UserError: a sentence that is neither a rule nor an id of the dataset.
    """
    write_sealed(out, {"cases": [*_by_rule_or_id(plan), *_by_triple(plan)]})


def _by_rule_or_id(plan: Plan) -> list[dict]:
    """Rules choose from dev of the first dataset that is studied; an id is looked for in its `SPLITS`."""
    case = next(iter(plan.attended_studies()), None)
    if case is None:
        choice = "no sentence is chosen: archived runs have no weights to predict dev with"
        return [{"choice": choice, "measured": name} for name in plan.studied().sentences]
    splits = {split: _sentences(plan, case, split) for split in SPLITS}
    split_of = {s.id: split for split in reversed(SPLITS) for s in splits[split]}
    found: dict[str, dict] = {}
    for split, sentences in splits.items():
        names = [name for name in case.sentences if split_of.get(name, "dev") == split]
        if names:
            found |= zip(names, _cases(plan, case, split, sentences, names), strict=True)
    return [found[name] for name in case.sentences]


def _by_triple(plan: Plan) -> list[dict]:
    """The first sentence that holds each gold triple, by the order of datasets and `SPLITS`; of a triple that none
    holds, what was searched."""
    cases, places = [], plan.attended_studies()
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
        case, split, sentence = found[0]
        cases.append(_cases(plan, case, split, _sentences(plan, case, split), [sentence.id])[0] | choice)
    return cases


def _holding(plan: Plan, case: CaseStudy, split: str, triple: Sequence[str]) -> list[Sentence]:
    symmetric = Labels.read(plan.results / "data" / case.dataset / "labels.json").symmetric
    return [s for s in _sentences(plan, case, split) if holds_triple(s, triple, symmetric)]


def _sentences(plan: Plan, case: CaseStudy, split: str) -> list[Sentence]:
    return read_sentences(plan.results / "data" / case.dataset / f"{split}.jsonl")


def _cases(plan: Plan, case: CaseStudy, split: str, sentences: Sequence[Sentence], wanted: Sequence[str]) -> list[dict]:
    """`chosen_cases` among these sentences of a split, attended and predicted by every run of its place; of ids alone
    among the documents of these, which a system may read around them."""
    if {*wanted} <= {s.id for s in sentences}:
        documents = by_document([s.document for s in sentences])
        sentences = [sentences[i] for of in documents if any(sentences[k].id in wanted for k in of) for i in of]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        gold, attention = folder / "gold", folder / "attention"
        predictions = {name: folder / f"{name}.jsonl" for name in case.systems}
        write_sentences(gold, sentences)
        for name, run in case.systems.items():
            predict_file(plan.file(run, ""), gold, predictions[name])
        attend(plan.file(case.studied, ""), gold, attention)
        trained = [
            plan.config.models[name].title
            for name, run in case.systems.items()
            if any(split in recipe.train_on.split("+") for _, recipe in plan.spec(run).recipe.trainings)
        ]
        what = f"{plan.study_title(case)}, {split} split" + f" (trained on by {', '.join(trained)})" * bool(trained)
        labels = plan.results / "data" / case.dataset / "labels.json"
        return chosen_cases(gold, labels, attention, predictions, case.model, wanted, what)
