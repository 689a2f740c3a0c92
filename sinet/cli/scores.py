"""Commands that hold predictions against gold: scores, errors, comparisons, records."""

import json
from pathlib import Path
from typing import Annotated

from sinet.cli import Data, Json, Option, PlanFile, PlannedRun, Run, command, read_plan, readable
from sinet.errors import UserError, nearest, shown


@command
def score(
    gold: Annotated[Path, Option("gold sentences, in a form that `check` reads")],
    predictions: Annotated[Path, Option("the same sentences, predicted")],
    labels: Annotated[Path | None, Option("labels.json of the dataset; default: beside --gold, if there")] = None,
    symmetric: Annotated[
        list[str] | None, Option("relation types without a direction, where there is no labels.json", "TYPE")
    ] = None,
    errors: Annotated[bool, Option("count errors by kind instead, with examples, and figures by slice")] = False,
    out: Annotated[Path | None, Option("write the JSON here instead of printing it")] = None,
) -> None:
    """Score predictions against gold: Ent, Rel, Rel+, relaxed (exact, partial, type), coreference where there is any;
    prints JSON. Example: sinet score --gold test.jsonl --predictions predicted.jsonl --labels labels.json"""
    readable(gold, predictions)
    from sinet.evaluate.analyse import analyse
    from sinet.evaluate.coreference import coreference_scores
    from sinet.evaluate.metrics import score
    from sinet.evaluate.record import read_pair
    from sinet.evaluate.relaxed import relaxed_scores

    wanted, found, of = read_pair(gold, predictions, labels, symmetric)
    if errors:
        made = analyse(wanted, found, of)
    else:
        made = score(wanted, found, of) | {"relaxed": relaxed_scores(wanted, found, of.symmetric)}
        made |= coreference_scores(wanted, found)
    text = json.dumps(made, indent=2, ensure_ascii=False)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", encoding="utf-8")
    else:
        print(text)


@command
def evaluate(run: Run, data: Data) -> None:
    """Score and analyse a run's predictions of the test split: its record.json and analysis.json."""
    from sinet.evaluate.record import evaluate

    evaluate(run, data)


@command
def external(run: PlannedRun, plan: PlanFile) -> None:
    """Score and analyse predictions made elsewhere: their predictions.jsonl, record.json and analysis.json."""
    from sinet.evaluate.record import evaluate_external

    read = read_plan(plan)
    if run not in read.external:
        raise UserError(f"run {shown(run)}: not given by predictions, {nearest(run, read.external)}")
    evaluate_external(read, run)


@command
def compare(
    plan: PlanFile,
    out: Json,
    resamples: Annotated[int, Option("of the test documents or sentences", "N", most=1_000_000)] = 10_000,
) -> None:
    """Compare each system with each other one, and the steps of the ablation. Where dataset, encoder and recipe are the
    same: bootstrap, variance of runs, Holm, detectable difference. Example: sinet compare --plan
    results/mine/plan.json --out comparisons.json"""
    read = read_plan(plan)
    from sinet.evaluate.compare import compare, read_runs
    from sinet.files import write_sealed

    runs = read_runs(read.records(), read.results / "data", read.declared["datasets"])
    write_sealed(out, compare(runs, read.declared, resamples))


@command
def case_study(plan: PlanFile, out: Json) -> None:
    """Find the sentences of the case study: by rules on dev, by ids, by gold triples; attend and predict them. A rule
    that no sentence meets, or a triple that no prepared dataset holds, is reported."""
    from sinet.infer.case_study import find_cases

    find_cases(read_plan(plan), out)


@command
def attention_mass(plan: PlanFile, out: Json) -> None:
    """Mass of cross-task attention on words of in-triple entities, of out-of-triple entities, on other words. By
    direction and head, against uniform attention, with bootstrap intervals over documents where they are known."""
    from sinet.evaluate.attention_mass import write_attention_mass

    read = read_plan(plan)
    case = read.studied()
    runs = read.at(case.dataset, case.encoder, case.model)
    attention = {run.split("/")[3]: read.file(run, "attention.json") for run in runs}
    gold = read.results / "data" / case.dataset / "test.jsonl"
    write_attention_mass(gold, attention, out, read.test_documents(case.dataset))


@command
def in_triple_ner(plan: PlanFile, out: Json) -> None:
    """Score NER on in-triple and on out-of-triple entities: precision, recall, F1. Mean over the seeds of each model,
    with bootstrap intervals over documents where they are known, and tested against the studied model."""
    from sinet.evaluate.in_triple import score_in_triple_ner

    read = read_plan(plan)
    case = read.studied()
    predictions: dict[str, dict[str, Path]] = {}
    for run in read.at(case.dataset, case.encoder):
        *_, model, seed = run.split("/")
        predictions.setdefault(model, {})[seed] = read.file(run, "predictions.jsonl")
    gold = read.results / "data" / case.dataset / "test.jsonl"
    score_in_triple_ner(gold, predictions, case.model, out, read.test_documents(case.dataset))
