"""What a finished grid prints: its main table, and where everything lies."""

from sinet.errors import UserError
from sinet.grid.plan import Plan


def summary(plan: Plan) -> str:
    """The main table and the paths of tables, figures, cards and records.

    Raises:
        UserError: when the grid has not been run.
    """
    results = plan.results
    main = results / "tables" / "main.md"
    if not main.is_file():
        raise UserError(f"{main} is missing; run the grid first: make tables, with the same CONFIG")
    records = plan.records()
    lines = [main.read_text(encoding="utf-8")]
    for what, pattern in (
        ("tables", "tables/*"),
        ("comparisons", "comparisons.json"),
        ("figures", "figures/**/*.*"),
        ("cards", "data/*/card.md"),
    ):
        lines.append(f"{what}: " + ", ".join(str(p) for p in sorted(results.glob(pattern))))
    lines.append(f"records: {sum(r.is_file() for r in records)} of {len(records)} under {results / 'runs'}/")
    return "\n".join(lines)
