"""What a finished grid prints: what was measured, and where everything lies."""

import itertools

from sinet.errors import UserError, counted
from sinet.files import read_sealed
from sinet.grid.plan import Plan


def summary(plan: Plan, report: str, width: int | None = None) -> str:
    """The measured rows of the main table, lines cut to `width` characters, and three paths: its tables, the command
    that makes its page (`report`), its runs.

    Raises:
        UserError: when the grid has not been run.
    """
    tables = plan.results / "tables"
    if not (tables / "main.json").is_file():
        raise UserError(f"{tables / 'main.md'} is missing; run the grid first: make tables, with the same CONFIG")
    main = read_sealed(tables / "main.json", "columns", "rows")
    source = main["columns"].index("Source")
    measured = [row for row in main["rows"] if not row[source][0].startswith("published")]
    # columns without any figure say nothing, and the source, which is long, comes last
    figures = [i for i in range(len(main["columns"])) if any(row[i][1] is not None for row in measured)]
    order = [*range(source), *figures, source]
    heads = [main["columns"][i].rsplit(" ", 1) if i in figures else ("", main["columns"][i]) for i in order]
    shown = [[name for _, name in heads], *([row[i][0].removesuffix(" (ours)") for i in order] for row in measured)]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = ["  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip() for row in shown]
    groups = itertools.groupby(zip(heads, widths, strict=True), key=lambda column: column[0][0])
    spans = [(group, sum(width + 2 for _, width in columns)) for group, columns in groups]
    lines.insert(0, "".join(group[: span - 2].ljust(span) for group, span in spans).rstrip())
    records = plan.records()
    return "\n".join(
        [
            *(line if width is None or len(line) <= width else f"{line[: width - 3]}..." for line in lines),
            "",
            f"main table, with {counted(len(main['rows']) - len(measured), 'published row')}: {tables / 'main.md'}",
            f"tables: {tables}/",
            f"report: {report}",
            f"runs:   {plan.results / 'runs'}/ ({sum(r.is_file() for r in records)} of {len(records)} finished)",
        ]
    )
