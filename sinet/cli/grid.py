"""Commands on a whole grid: its plan and what that costs, its summary, its archive."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

from sinet.cli import Config, Option, command, read_plan
from sinet.errors import UserError

Records = Annotated[list[Path], Option("folders of finished trainings to calibrate on", "DIR")]


def _resolved(*config: Path):  # type: ignore[no-untyped-def]
    """The plan of a grid as it is configured."""
    from sinet.grid.config import read_config
    from sinet.grid.plan import resolve

    return resolve(read_config(*config))


@command
def plan(
    config: Config = [],  # noqa: B006 - never changed
    recipes: Annotated[bool, Option("print the recipes instead, spelled out, with their runs")] = False,
    out: Annotated[Path | None, Option("write plan.json here instead, for steps that take --plan", "DIR")] = None,
    cost: Annotated[bool, Option("print what they cost instead: steps, FLOPs, hours, memory, disk")] = False,
    peak_tflops: Annotated[float | None, Option("of the device; default: fitted to --records", "N")] = None,
    efficiency: Annotated[float, Option("share of the peak reached", "X")] = 0.3,
    operator_us: Annotated[float, Option("to call an operator, in us", "N")] = 10.0,
    memory_gb: Annotated[float | None, Option("of the device: runs that need more are marked !", "N")] = None,
    records: Records = [Path("results")],  # noqa: B006
) -> None:
    """Print the runs of a grid, one JSON object a line, and those skipped. Example: sinet plan --config mine.yaml
    --cost"""
    from dataclasses import replace

    planned = _resolved(*config)
    if recipes:
        _print_recipes(planned)
    elif out:
        print(replace(planned, results=out).write())
    elif cost:
        from sinet.efficiency.cost import Device, print_costs

        device = None
        if peak_tflops:
            name = f"{peak_tflops:g} TFLOP/s x {efficiency:g}, {operator_us:g} us an operator (stated)"
            device = Device(name, peak_tflops * efficiency * 1e12, operator_us * 1e-6)
        print_costs(planned, device, records, memory_gb)
    else:
        for spec in planned.specs():
            print(spec.model_dump_json())
        for run in planned.external:
            print(json.dumps({"run": run, "predictions": planned.predictions(run)}, ensure_ascii=False))
    if not recipes and not out:
        for run, reason in planned.skipped.items():
            print(f"skipped: {run}: {reason}", file=sys.stderr)


TRIALS = Path("config/search/trials.csv")
SearchFile = Annotated[Path, Option("the search: its space, trials, models, datasets")]


@command
def search(
    search: SearchFile = Path("config/search/search.yaml"),
    config: Config = [],  # noqa: B006
    out: Annotated[Path, Option("folder of the trials", "DIR")] = Path("results/search"),
) -> None:
    """Lay the random trials of a search for a recipe out as a grid, OUT/grid.yaml. Snakemake trains them as any runs,
    and reads no test split: snakemake trained --cores all --configfile results/search/grid.yaml. Then: sinet choose.
    Example: sinet search --search search.yaml --config mine.yaml"""
    import yaml

    from sinet.files import write_text
    from sinet.grid.config import load_config
    from sinet.grid.search import read_search, trials_grid

    grid = trials_grid(read_search(search), load_config(*config), str(out))
    out.mkdir(parents=True, exist_ok=True)
    head = f"# Written by `sinet search` from {search}\n"
    write_text(out / "grid.yaml", head + yaml.safe_dump(grid, sort_keys=False, default_flow_style=None, width=120))
    print(out / "grid.yaml")


@command
def choose(
    search: SearchFile = Path("config/search/search.yaml"),
    trials: Annotated[Path, Option("folder of the trials, as `sinet search` named it", "DIR")] = Path("results/search"),
    table: Annotated[Path, Option("CSV of all trials to write")] = TRIALS,
    out: Annotated[Path, Option("recipes to write, as a configuration file")] = Path("config/chosen.yaml"),
) -> None:
    """Write the trials of a search as data, and as the searched recipe what was best on dev. Of systems with a
    threshold of relations the one that is best on dev, too. A system is left out until all its trials are finished.
    Example: sinet choose --search search.yaml --table trials.csv --out chosen.yaml"""
    from sinet.grid.search import read_search
    from sinet.infer.choose import choose

    for lacking in choose(read_search(search), read_plan(trials / "plan.json"), table, out):
        print(f"not chosen: {lacking}", file=sys.stderr)
    print(out)


def _print_recipes(planned) -> None:  # type: ignore[no-untyped-def]
    """The recipes of a plan spelled out, each once with the runs that are trained by it."""
    import yaml

    trained: dict[str, list[str]] = {}
    for run in planned.specs():
        recipe = run.model_dump(include={"system", "settings", "recipe"})
        trained.setdefault(json.dumps(recipe), []).append(run.path)
    for text, paths in trained.items():
        print(f"# {', '.join(paths)}")
        print(yaml.safe_dump(json.loads(text), sort_keys=False))


def configuration_schema() -> dict[str, Any]:
    """The JSON schema of a configuration; the settings of each system stand under `$defs`, as `settings of SYSTEM`."""
    from sinet import systems
    from sinet.schema import Config

    found = Config.model_json_schema()
    for name in systems.sources():
        found["$defs"][f"settings of {name}"] = systems.settings(name).model_json_schema()
    return found


@command
def schema() -> None:
    """Print the JSON schema of a configuration: every key with its type, bounds and description. The settings of each
    system stand under `$defs`, as `settings of SYSTEM`. Example: sinet schema"""
    print(json.dumps(configuration_schema(), indent=2, ensure_ascii=False))


@command
def summary(config: Config = []) -> None:  # noqa: B006
    """Print what a finished grid has measured, and where its tables, report and runs are."""
    import shutil

    from sinet.report.summary import summary

    report = " CONFIG=".join(["make report", *map(str, config[:1])])
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print(summary(_resolved(*config), report, width))


Configs = Annotated[list[Path], Option("configurations of the grids, in this order", "CONFIG", positional=True)]


@command
def archive(
    configs: Configs,
    out: Annotated[Path | None, Option("default: what each configuration names as `archive:`", "DIR")] = None,
) -> None:
    """Archive the finished runs of grids without their weights, and what was counted and timed of them: what tables
    and figures are made of, to be published."""
    from sinet.archive import archive

    used: dict[str, Path] = {}
    for path in configs:
        planned = _resolved(path)
        target = str(out or planned.config.archive or "")
        if not target:
            raise UserError(f"{path}: names no folder for archived runs; write archive: FOLDER into it, or give --out")
        if used.setdefault(target, path) != path:
            raise UserError(f"{path}: archives its runs in {target}, as {used[target]} does; one grid, one folder")
        archived = archive(planned, Path(target))
        print(f"{path}: {len(archived)} of {len(planned.trained)} runs archived in {target}/")


@command
def unarchive(
    archived: Annotated[Path, Option("the archived run, or efficiency", "DIR")],
    files: Annotated[list[str], Option("which of its files, as the run had them", "NAME")],
    out: Annotated[Path, Option("its folder in the grid", "DIR")],
) -> None:
    """Put files of an archived run where its training and prediction had put them; or counts and times."""
    from sinet.archive import unarchive

    unarchive(archived, files, out)


@command
def results(configs: Configs, out: Annotated[Path, Option("Markdown to write")] = Path("results/README.md")) -> None:
    """Write results/README.md: tables and figures of finished grids, and how they were made."""
    from sinet.report.results import write_results

    write_results([(path, _resolved(path)) for path in configs], out, TRIALS)


@command
def bench(
    config: Config = [],  # noqa: B006
    sentences: Annotated[int, Option("test sentences timed, 0 for all", "N", least=0)] = 200,
    stream: Annotated[int, Option("length of the stream, 0 for none", "N", least=0)] = 50_000,
    out: Annotated[Path, Option("JSON to write")] = Path("results/bench.json"),
) -> None:
    """Measure the trained systems of a grid against their encoder and the machine. Not the steps of the ablation. Needs
    the machine for itself. Prints one table and writes bench.json. Example: sinet bench --config mine.yaml"""
    from sinet.files import read_json, write_json

    read = _resolved(*config)
    from sinet.efficiency.bench import bench
    from sinet.efficiency.planning import PLANNED_RUNS, plan_grid, report

    print(bench(read, out, sentences or None, stream))
    planned = plan_grid(PLANNED_RUNS)
    write_json(out, read_json(out) | {"plan": planned})
    print(report(planned))
