"""The tables of a grid, written from records, comparisons and what was counted and timed: `write_tables`."""

from collections.abc import Sequence
from pathlib import Path

from sinet import published
from sinet.report.ablation_table import ablation_table
from sinet.report.breakdown_tables import (
    errors_table,
    examples_table,
    relaxed_table,
    slices_table,
    types_table,
)
from sinet.report.efficiency_table import efficiency_table
from sinet.report.grid import Grid
from sinet.report.main_table import main_table
from sinet.report.published_table import published_table
from sinet.report.significance_table import significance_table
from sinet.report.table import write


def write_tables(
    records: Sequence[Path], comparisons: Path, efficiency: Sequence[Path] | None, declared: dict, out: Path
) -> None:
    """Write every table of a grid as `NAME.{csv,md,tex,json}`.

    Args:
        records: `record.json` of every run of the grid, its `analysis.json` beside it.
        comparisons: `comparisons.json` of the grid.
        efficiency: folders `.../{dataset}/{encoder}` with `flops.json` and `timing.json`; None for no such table.
        declared: as `sinet.grid.plan.Plan.declared`.

    Raises:
        UserError: when the records are not exactly the runs of the grid.
    """
    grid = Grid.read(records, declared, comparisons)
    grid.check()
    paper = published.tables()
    if not any(grid.column(dataset)[0] in published.DATASETS for dataset in grid.datasets()):
        paper |= {"main": [], "ablation": {}, "efficiency": {}}  # of other data the paper says nothing
    out.mkdir(parents=True, exist_ok=True)
    for table in (
        main_table(grid, paper["main"], grid.declared["published"]),
        ablation_table(grid, paper),
        published_table(grid, paper),
        significance_table(grid),
        *([] if efficiency is None else [efficiency_table(grid, paper["efficiency"], efficiency)]),
        types_table(grid),
        relaxed_table(grid),
        slices_table(grid),
        errors_table(grid),
        examples_table(grid),
    ):
        write(table, out)
