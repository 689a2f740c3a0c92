"""Commands that count, time, tabulate and draw what the runs of a grid have made; each is given the grid's plan."""

from pathlib import Path
from typing import Annotated

from sinet.cli import Dataset, Encoder, Json, Option, PlanFile, command, read_plan
from sinet.errors import UserError, shown

Folder = Annotated[Path, Option("folder to write", "DIR")]
Stem = Annotated[Path, Option("path of the figure without its extension", "STEM")]


def _at(path: Path, dataset: str, encoder: str):  # type: ignore[no-untyped-def]
    """The plan, which has runs on the dataset with the encoder."""
    plan = read_plan(path)
    if not plan.at(dataset, encoder):
        raise UserError(f"{path}: no run on {shown(dataset)} with {shown(encoder)}")
    return plan


@command
def flops(plan: PlanFile, dataset: Dataset, encoder: Encoder, out: Json) -> None:
    """Count multiply-adds of inference over a split (fvcore), of each system's first run at a place."""
    read = _at(plan, dataset, encoder)
    from sinet.efficiency.flops import count_grid

    count_grid(read, dataset, encoder, out)


@command
def time(plan: PlanFile, dataset: Dataset, encoder: Encoder, out: Json) -> None:
    """Time inference over a split, from token ids to triples, of each system's first run at a place; needs the machine
    for itself."""
    read = _at(plan, dataset, encoder)
    from sinet.efficiency.timing import time_grid

    time_grid(read, dataset, encoder, out)


@command
def tables(
    plan: PlanFile,
    out: Folder,
    comparisons: Annotated[Path | None, Option("what `compare` wrote; default: in the plan's folder")] = None,
) -> None:
    """Write the tables of a grid (csv, md, tex, and json for the page). Main, ablation, published against measured,
    significance, efficiency, types, slices, errors."""
    read = read_plan(plan)
    from sinet.report.tables import write_tables

    compared = comparisons or read.results / "comparisons.json"
    write_tables(read.records(), compared, read.efficiency(), read.declared, out)


@command
def plot_attention(
    plan: PlanFile,
    cases: Annotated[Path, Option("what `case-study` wrote")],
    out: Annotated[Path, Option("folder for attention_1.pdf and so on", "DIR")],
) -> None:
    """Draw the case study (pdf, png), each sentence with its caption."""
    from sinet.report.attention import draw_cases

    draw_cases(cases, {name: model.title for name, model in read_plan(plan).config.models.items()}, out)


@command
def plot_attention_mass(plan: PlanFile, tables: Folder, figures: Folder) -> None:
    """Tables (csv, md, tex) and figure of attention mass and of in-triple NER."""
    from sinet.report.attention_mass import draw_attention_mass

    read = read_plan(plan)
    case, made = read.studied(), read.results / "case_study"
    records = read.records(case.dataset, case.encoder)
    measured = made / "attention_mass.json", made / "in_triple_ner.json"
    draw_attention_mass(*measured, records, read.declared, tables, figures)


@command
def plot_flops(plan: PlanFile, dataset: Dataset, encoder: Encoder, out: Stem) -> None:
    """Draw FLOPs against sentence length (pdf, png) with a caption."""
    from sinet.report.figures import draw_flops

    read = _at(plan, dataset, encoder)
    records = [read.file(run, "record.json") for run in read.systems_at(dataset, encoder).values()]
    counted = read.results / "efficiency" / dataset / encoder / "flops.json"
    draw_flops(counted, records, read.declared, out)


@command
def plot_results(plan: PlanFile, dataset: Dataset, encoder: Encoder, out: Folder) -> None:
    """Draw learning curves, F1 by sentence length and significance on one dataset and encoder."""
    from sinet.report.figures import draw_results

    read = _at(plan, dataset, encoder)
    draw_results(read.records(dataset, encoder), read.results / "comparisons.json", read.declared, out)


@command
def plot_speed(plan: PlanFile, dataset: Dataset, encoder: Encoder, out: Stem) -> None:
    """Draw F1 against sentences a second on one dataset and encoder."""
    from sinet.report.figures import draw_speed

    read = _at(plan, dataset, encoder)
    timed = read.results / "efficiency" / dataset / encoder / "timing.json"
    draw_speed(read.records(dataset, encoder), timed, read.declared, out)


@command
def report(plan: PlanFile, out: Annotated[Path, Option("the page")]) -> None:
    """Write one self-contained HTML page of a finished grid: tables, figures, every sentence with its predictions.
    `make report` calls it. Example: sinet report --plan results/mine/plan.json --out report.html"""
    read = read_plan(plan)
    from sinet.report.report import write_report

    write_report(read.results, read.declared, out)
