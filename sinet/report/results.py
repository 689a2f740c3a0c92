"""`results/README.md`: tables and figures of finished grids to read where the project is read, with the command, the
date, the machine and the time of each. What the grids left behind is copied as it is; nothing is computed."""

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from sinet.captions import machine, short_commit
from sinet.errors import UserError
from sinet.files import read_sealed, write_text
from sinet.grid.plan import Plan
from sinet.report.grid import is_trained

OPEN = ("main", "ablation", "published_vs_measured", "significance", "efficiency")
"""Tables that are seen at once, in this order; the others are folded."""
INTRODUCTION = """\
# Results of the last runs

Made by `make results CONFIGS="{configs}"`. Micro F1 x 100; symmetric types direction-free. Published rows use the
paper's encoders and protocols: the notes under each table say what differs.
"""


def write_results(grids: Sequence[tuple[Path, Plan]], out: Path) -> None:
    """Write `out` and, beside it, `shown/FOLDER/**.png`, FOLDER named after a grid's results folder.

    Args:
        grids: configuration file and plan of each.

    Raises:
        UserError: when a grid has not been run to its end, or by other recipes than its configuration names, or two are
            of one results folder; nothing is written then.
    """
    shown = out.parent / "shown"
    names = [plan.results.as_posix().strip("/").replace("/", "-") for _, plan in grids]
    if len(set(names)) < len(names):
        folders = ", ".join(str(plan.results) for _, plan in grids)
        raise UserError(f"two grids of one results folder: {folders}")
    for config, plan in grids:
        _check(config, plan)
    parts = [INTRODUCTION.format(configs=" ".join(str(config) for config, _ in grids))]
    if (by_hand := out.with_name("by-hand.md")).is_file():
        parts.append(f"Measured in pieces, by hand: [{by_hand.name}]({by_hand.name}).\n")
    for (config, plan), name in zip(grids, names, strict=True):
        parts += [f"## `{config}`\n", _made(config, plan)]
        results, made = plan.results, Plan.read(plan.results / "plan.json")
        tables = {table: results / "tables" / f"{table}.md" for table in sorted(made.tables)}
        parts += [_below(tables.pop(name)) for name in OPEN if name in tables]
        parts += [
            f"<details><summary>{name}</summary>\n\n{_below(path)}\n</details>\n" for name, path in tables.items()
        ]
        folder = shown / name
        shutil.rmtree(folder, ignore_errors=True)
        for figure in sorted(made.figures):
            picture, caption = (results / "figures" / f"{figure}.{ending}" for ending in ("png", "md"))
            (folder / figure).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(picture, folder / f"{figure}.png")
            text = caption.read_text(encoding="utf-8")
            parts.append(f"### {figure}\n\n![{figure}](shown/{name}/{figure}.png)\n\n{text}")
    write_text(out, "\n".join(parts))


def _check(config: Path, plan: Plan) -> None:
    results = plan.results
    needed = [results / "plan.json", *plan.records()]
    if needed[0].is_file():
        made = Plan.read(needed[0])
        needed += [results / "tables" / f"{table}.md" for table in made.tables]
        needed += [results / "figures" / f"{figure}.{ending}" for figure in made.figures for ending in ("png", "md")]
    if missing := [path for path in needed if not path.is_file()]:
        raise UserError(f"{missing[0]} is missing; run the grid first: make tables CONFIG={config}")
    for run in plan.specs():
        path, wanted = plan.file(run.path, "record.json"), run.model_dump()
        record = read_sealed(path, "recipe", "settings")
        if changed := [key for key in ("recipe", "settings") if record[key] != wanted[key]]:
            raise UserError(f"{path}: another {changed[0]} than now; run the grid again: make tables CONFIG={config}")


def _made(config: Path, plan: Plan) -> str:
    """Command, date, commit, machine and time of a grid's trainings."""
    paths = plan.records()
    records = list(filter(is_trained, map(read_sealed, paths)))
    last = datetime.fromtimestamp(max(path.stat().st_mtime for path in paths), UTC)
    minutes = sum(sum(record["seconds"].values()) for record in records) / 60
    machines = dict.fromkeys(
        f"{machine(r)}, {r['precision']}, at commit {short_commit(r['git_commit'])}" for r in records
    )
    skipped = f"; {len(plan.skipped)} skipped" if plan.skipped else ""
    return (
        f"`make tables CONFIG={config}`, finished {last:%Y-%m-%d}. {len(paths)} runs{skipped}; {minutes:.0f} "
        f"minutes of training and evaluation on dev in all. Trained on: {'; '.join(machines)}.\n"
    )


def _below(path: Path) -> str:
    """A Markdown file with its heading two levels lower."""
    return "##" + path.read_text(encoding="utf-8")
