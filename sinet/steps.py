"""What each step of `python -m sinet` does with its options.

A step imports what it needs when it runs: torch and transformers cost seconds a process.
"""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from os.path import realpath  # pathlib's `resolve` raises for a loop of links
from pathlib import Path

from sinet.errors import UserError, shown
from sinet.files import check_path, parse_json, read_json, read_text, write_sum
from sinet.plan import GridPlan

LETTERS_A_PIECE = 1000
"""Characters for each word piece that an encoder takes from which a sentence is too long beyond doubt."""
PLANNED_RUNS = 1000
"""Runs whose plan `bench` measures."""


def plan(options: argparse.Namespace) -> None:
    from sinet.config import load_config, resolve

    config = load_config(*options.config)
    planned = resolve(config)
    if options.recipes:
        _print_recipes(planned.runs)
        return
    if options.cost:
        _print_costs(config, planned, options)
        return
    for run in planned.runs:
        print(json.dumps(run.details))
    for run, reason in planned.left_out:
        print(f"left out: {run.path}: {reason}", file=sys.stderr)


def _print_recipes(runs: Sequence) -> None:
    """The recipes of a plan spelled out, each once with the runs that are trained by it."""
    import yaml

    trained: dict[str, list[str]] = {}
    for run in runs:
        recipe = {key: run.details[key] for key in ("system", "settings", "recipe")}
        trained.setdefault(json.dumps(recipe), []).append(run.path)
    for text, paths in trained.items():
        print(f"# {', '.join(paths)}")
        print(yaml.safe_dump(json.loads(text), sort_keys=False))


def _print_costs(config: dict, planned: object, options: argparse.Namespace) -> None:
    """What the runs of a plan cost, those left out among them, and what that rests on."""
    from sinet.run import cost

    material = cost.Material(config)
    if options.peak_tflops:
        name = (
            f"{options.peak_tflops:g} TFLOP/s x {options.efficiency:g}, {options.operator_us:g} us an operator (stated)"
        )
        device = cost.Device(name, options.peak_tflops * options.efficiency * 1e12, options.operator_us * 1e-6)
    elif (device := cost.calibrate(options.records, material)) is None:
        folders = ", ".join(map(str, options.records))
        raise UserError(f"no finished training below {folders} to calibrate on; state the device: --peak-tflops N")
    costs = cost.grid_costs([*planned.runs, *(run for run, _ in planned.left_out)], material)
    print(cost.table(costs, device, options.memory_gb))
    print(
        f"Device: {device.name}: {device.flops_per_s / 1e9:,.0f} GFLOP/s, {device.operator_s * 1e6:.0f} us an operator."
    )
    print(
        "Figures are of one run. PFLOP and hours: with looks at dev. Sizes in GB: memory on the device in float32, "
        "without what torch itself takes; state while it trains; disk afterwards."
    )
    for remark in material.remarks.values():
        print(f"- {remark}")
    for run, reason in planned.left_out:
        print(f"left out: {run.path}: {reason}", file=sys.stderr)


def _with(**held: dict) -> dict:
    """The form of a mapping that has these keys."""
    return {"type": "object", "required": list(held), "properties": held}


def _each(form: dict) -> dict:
    """Of a mapping whose values all have a form."""
    return {"type": "object", "additionalProperties": form}


def _list(*forms: dict) -> dict:
    """Of a list of such items; of several forms, of one item each."""
    if len(forms) == 1:
        return {"type": "array", "items": forms[0]}
    return {"type": "array", "prefixItems": list(forms), "minItems": len(forms), "maxItems": len(forms)}


TEXT, COUNT, ANY = {"type": "string"}, {"type": ["integer", "null"], "minimum": 1}, {"type": "object"}
FORMS = {
    "--triples": ("a list of [head, TYPE, tail]", _list(_list(TEXT, TEXT, TEXT))),
    "--places": (
        "a list of mappings with title, what, data, and folders of runs by model",
        _list(_with(title=TEXT, what=TEXT, data=TEXT, runs=_each(TEXT))),
    ),
    "--untrained": (
        "a list of [declared architecture, number of sentences or null]",
        _list(_list(_with(name=TEXT, architecture=ANY, tokenizer=ANY), COUNT)),
    ),
}
"""What JSON options hold, in words and as the rest of a JSON schema."""


def _json(text: str, option: str) -> object:
    """JSON given on the command line, or in a file named there, of the option's form."""
    import jsonschema

    value = _parsed(text, option)
    words, form = FORMS[option]
    if not jsonschema.Draft202012Validator(form).is_valid(value):
        raise UserError(f"{option}: {shown(value)} should be {words}")
    return value


def _parsed(text: str, option: str) -> object:
    given = text.lstrip()[:1] in ("{", "[") or text.isdigit()
    try:
        return parse_json(text if given else read_text(Path(text)))
    except OSError as error:
        raise UserError(f"{option}: {text}: {error.strerror}; give JSON or a file that holds it") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{option}: broken JSON: {error.msg} at column {error.colno}") from None
    except ValueError as error:
        raise UserError(f"{option}: broken JSON: {error}") from None


def _declared(text: str, *keys: str, option: str = "--declared") -> dict:
    """What a grid declares, with the keys that a step reads."""
    declared = _parsed(text, option)
    if missing := [key for key in keys if not isinstance(declared, dict) or key not in declared]:
        raise UserError(f"{option}: {', '.join(missing)} missing; the workflow passes a mapping of {', '.join(keys)}")
    return declared


def prepare(options: argparse.Namespace) -> None:
    from sinet.config import check_declaration, load_config
    from sinet.data.card import card_markdown
    from sinet.data.prepare import prepare
    from sinet.errors import nearest

    config = load_config()
    needed = ("title", "format", "files", "entity_types", "relation_types")
    declared = _declared(options.declared, *needed) if options.declared else config["datasets"].get(options.dataset)
    if declared is None:
        raise UserError(
            f"dataset {shown(options.dataset)} is not declared, {nearest(options.dataset, config['datasets'])}"
        )
    check_declaration("datasets", options.dataset, declared)
    mirrors = config["mirrors"] if options.mirrors is None else options.mirrors
    print(card_markdown(prepare(options.dataset, declared, mirrors, options.out)))


def check(options: argparse.Namespace) -> int:
    from sinet.config import encoder_declaration, load_config
    from sinet.data.check import check_files
    from sinet.data.sentence import Labels
    from sinet.errors import counted, nearest
    from sinet.model.located import locate_encoder
    from sinet.model.pretrained import load_encoder

    config, labels, published, no_relation = load_config(), None, {}, options.no_relation
    if options.dataset:
        if options.dataset not in config["datasets"]:
            raise UserError(
                f"--dataset {shown(options.dataset)}: not declared, {nearest(options.dataset, config['datasets'])}"
            )
        declared = config["datasets"][options.dataset]
        labels = Labels.from_json(declared)
        no_relation = [*no_relation, *declared.get("no_relation", ())]
        for split in declared.get("counts", {}).values():
            repeated = split.get("duplicate_entities", 0) + split.get("duplicate_relations", 0)
            published[split.get("sentences")] = repeated
    elif options.labels:
        labels = Labels.read(options.labels)
    name = options.encoder or "minilm"
    if name not in config["encoders"]:
        raise UserError(f"--encoder {shown(name)}: not declared, {nearest(name, config['encoders'])}")
    declared = encoder_declaration(config, name)
    encoder = load_encoder(declared, locate_encoder(declared, config["mirrors"]))
    most, unk = encoder.max_pieces, encoder.tokenizer.unk_token_id
    words = unknown = 0

    def too_long(sentence: Sequence[str]) -> str | None:
        nonlocal words, unknown
        if (letters := sum(map(len, sentence))) > most * LETTERS_A_PIECE:  # slow to cut, and too long beyond doubt
            return f"{len(sentence):,} words of {letters:,} characters, {name} takes {most} pieces; divide the sentence"
        # not `word_pieces`, which keeps of a word what fits
        cut = encoder.tokenizer(sentence, add_special_tokens=False)["input_ids"]
        words += len(cut)
        unknown += sum(not ids or unk in ids for ids in cut)
        pieces = 2 + sum(max(1, len(ids)) for ids in cut)
        return f"{pieces} word pieces, {name} takes {most}; divide the sentence" if pieces > most else None

    report = check_files(options.files, labels, too_long, published, no_relation)
    if report.faults:
        more = len(report.faults) - options.limit
        listed = report.faults[: options.limit] + [f"... and {more} more; --limit shows them"] * (more > 0)
        found = f"{counted(len(report.faults), 'fault')} in {counted(len(options.files), 'file')}"
        logging.getLogger("sinet").error("sinet check: %s\n%s", found, "\n".join(listed))
    print(report.description)
    if words:
        print(f"[UNK] to {name}: {unknown / words:.1%} of {words:,} words")
    return 2 if report.faults else 0


def fetch(options: argparse.Namespace) -> None:
    from sinet.config import check_declaration, encoder_declaration, load_config
    from sinet.errors import nearest
    from sinet.model.fetch import fetch_encoder

    config, name = load_config(), options.encoder
    if not options.declared and name not in config["encoders"]:
        raise UserError(f"encoder {shown(name)} is not declared, {nearest(name, config['encoders'])}")
    declared = _declared(options.declared, "name") if options.declared else encoder_declaration(config, name)
    check_declaration("encoders", declared["name"], {k: v for k, v in declared.items() if k != "name"})
    options.out.parent.mkdir(parents=True, exist_ok=True)
    fetch_encoder(declared, config["mirrors"] if options.mirrors is None else options.mirrors, options.out)


def train(options: argparse.Namespace) -> None:
    run = _declared(options.run, "dataset", "encoder", "model", "system", "settings", "recipe", "seed", option="--run")
    from sinet.config import check_run, load_config

    check_run(run)
    from sinet.run.train import train_run

    mirrors = load_config()["mirrors"] if options.mirrors is None else options.mirrors
    train_run(run, options.data, options.out, options.state, mirrors)


def tune(options: argparse.Namespace) -> None:
    from sinet.config import load_config
    from sinet.run.tune import tune

    tune(load_config(), options.trials, options.models, options.data, options.out, options.state, options.table)


def predict(options: argparse.Namespace) -> None:
    if options.text is None and options.output is None:
        raise UserError("--output: name the file to write")
    if options.text is None:
        if options.input.suffix not in (".txt", ".jsonl"):
            raise UserError(f"--input {options.input}: should end in .txt (raw text) or .jsonl (JSON lines)")
        with open(options.input, "rb"):
            pass  # a missing file is told before torch is loaded
    _written_apart(options)
    for path in filter(None, (options.output, options.html)):
        path.parent.mkdir(parents=True, exist_ok=True)
    if options.text is not None:
        _predict_text(options)
        return
    from sinet.run.extract import draw_file, extract_file, holds_texts
    from sinet.run.predict import predict_file

    if options.input.suffix == ".txt" or holds_texts(options.input):
        extract_file(options.run, options.input, options.output, options.html, options.lines)
        return
    if options.lines:
        raise UserError(f"--lines: {options.input} holds sentences of words; it is for raw text")
    predict_file(options.run, options.input, options.output)
    if options.checksum:
        write_sum(options.output)
    if options.html:
        draw_file(options.run, options.output, options.html, options.input.name)


def _written_apart(options: argparse.Namespace) -> None:
    """Refuse to write over what is read, or both outputs into one file."""
    made = ("training.json", "log.csv", "record.json", "analysis.json", "attention.json")
    of_run = (*options.run.glob("model.*"), *options.run.glob("tokenizer/*"), *(options.run / name for name in made))
    taken = {realpath(path): f"a file of --run {options.run}" for path in of_run}
    if options.text is None:
        taken[realpath(options.input)] = "--input"
    for name, path in (("--output", options.output), ("--html", options.html)):
        if path is not None:
            if path.is_dir():
                raise UserError(f"{name} {path}: is a folder; name a file in it")
            if realpath(path) in taken:
                raise UserError(f"{name} {path}: is {taken[realpath(path)]} as well; name another file")
            taken[realpath(path)] = name


def _predict_text(options: argparse.Namespace) -> None:
    from sinet.files import write_atomically
    from sinet.run import draw, machine
    from sinet.run.extract import Loaded

    machine.use_device()
    loaded = Loaded(options.run)
    found = loaded.predict(options.text, options.lines)
    print("\n".join(text.readable() for text in found) or "no words in the text")
    if options.html:

        def write(partial: Path) -> None:
            with draw.page(partial, "Triples", loaded.labels) as add:
                for text in found:
                    add(text.drawing(loaded.labels))

        write_atomically(options.html, write)
    if options.output:
        lines = "".join(json.dumps(text.as_json(), ensure_ascii=False) + "\n" for text in found)
        write_atomically(options.output, lambda partial: partial.write_text(lines, encoding="utf-8"))


def export(options: argparse.Namespace) -> None:
    from sinet.run.released import export_run

    export_run(options.run, options.released)


def import_(options: argparse.Namespace) -> None:
    from sinet.run.released import import_run

    import_run(options.released, options.like, options.out)


def score(options: argparse.Namespace) -> None:
    from sinet.score.metrics import score

    _held_against_gold(score, options)


def analyse(options: argparse.Namespace) -> None:
    from sinet.score.analyse import analyse

    _held_against_gold(analyse, options)


def _held_against_gold(what: Callable[..., dict], options: argparse.Namespace) -> None:
    """Print or write as JSON what a function says of gold, predictions and their labels."""
    from sinet.run.record import read_pair

    gold, predicted, labels = read_pair(options.gold, options.predictions, options.labels, options.symmetric)
    text = json.dumps(what(gold, predicted, labels), indent=2, ensure_ascii=False)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text + "\n", encoding="utf-8")
    else:
        print(text)


def compare(options: argparse.Namespace) -> None:
    from sinet.files import write_sealed
    from sinet.score.compare import compare, read_runs

    plan = GridPlan.read(options.plan)
    runs = read_runs(plan.records(), plan.results / "data")
    write_sealed(options.out, compare(runs, plan.declared, options.resamples))


def evaluate(options: argparse.Namespace) -> None:
    from sinet.run.record import evaluate

    files = options.training, options.gold, options.labels, options.predictions
    evaluate(*files, options.record, options.analysis)


def _named(given: list[str], option: str = "--runs") -> dict[str, Path]:
    for text in given:
        if "=" not in text:
            raise UserError(f"{option}: {shown(text)} should be NAME=PATH")
    names = [text.split("=", 1)[0] for text in given]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{option}: {shown(twice[0])} stands there twice; give each name once")
    paths = {name: Path(path) for name, path in (text.split("=", 1) for text in given)}
    for path in paths.values():
        check_path(path)
    return paths


def _hold_sentences(test: Path) -> None:
    from sinet.data.sentence import iter_sentences

    if next(iter_sentences(test), None) is None:
        raise UserError(f"--test {test}: no sentence in it")


def flops(options: argparse.Namespace) -> None:
    _hold_sentences(options.test)
    from sinet.run.flops import count_runs

    untrained = _json(options.untrained, "--untrained")
    count_runs(_named(options.runs), options.test, options.out, options.sentences, options.words, untrained)


def time(options: argparse.Namespace) -> None:
    _hold_sentences(options.test)
    from sinet.run.timing import time_runs

    untrained = _json(options.untrained, "--untrained")
    time_runs(_named(options.runs), options.test, options.out, options.sentences, options.seconds, untrained)


def bench(options: argparse.Namespace) -> None:
    from sinet.config import Plan, load_config, resolve
    from sinet.files import write_json
    from sinet.published import is_system
    from sinet.run.bench import bench
    from sinet.run.planning import plan_grid, report

    config = load_config(*options.config)
    mirrors, count = config["mirrors"], options.sentences or None
    plan = resolve(config)
    plan = Plan(tuple(run for run in plan.runs if is_system(config["models"][run.model])), plan.left_out)
    print(bench(Path(config["results"]), plan, mirrors, options.out, count, options.stream))
    planned = plan_grid(PLANNED_RUNS)
    write_json(options.out, read_json(options.out) | {"plan": planned})
    print(report(planned))


def attend(options: argparse.Namespace) -> None:
    from sinet.run.attend import attend

    attend(options.run, options.test, options.out)


def case_study(options: argparse.Namespace) -> None:
    from sinet.files import write_sealed
    from sinet.score.cases import chosen_cases

    plan = GridPlan.read(options.plan)
    studied = plan.studied()
    predictions = {model: plan.file(run, "predictions.jsonl") for model, run in studied["systems"].items()}
    attention, model = plan.file(studied["systems"][studied["model"]], "attention.json"), studied["model"]
    data = plan.results / "data" / studied["dataset"]
    files = data / "test.jsonl", data / "labels.json", attention, predictions
    write_sealed(options.out, {"cases": chosen_cases(*files, model, options.sentences, options.caption)})


def find_triples(options: argparse.Namespace) -> None:
    from sinet.run.triples import find_triples

    triples, places = _json(options.triples, "--triples"), _json(options.places, "--places")
    find_triples(triples, places, options.model, options.out)


def attention_shares(options: argparse.Namespace) -> None:
    from sinet.score.shares import attention_shares

    plan = GridPlan.read(options.plan)
    studied = plan.studied()
    runs = plan.runs(studied["dataset"], studied["encoder"], studied["model"])
    attention = {run.split("/")[3]: plan.file(run, "attention.json") for run in runs}
    attention_shares(plan.results / "data" / studied["dataset"] / "test.jsonl", attention, options.out)


def group_scores(options: argparse.Namespace) -> None:
    from sinet.score.groups import score_groups

    plan = GridPlan.read(options.plan)
    studied = plan.studied()
    predictions: dict[str, dict[str, Path]] = {}
    for run in plan.runs(studied["dataset"], studied["encoder"]):
        *_, model, seed = run.split("/")
        predictions.setdefault(model, {})[seed] = plan.file(run, "predictions.jsonl")
    score_groups(plan.results / "data" / studied["dataset"] / "test.jsonl", predictions, options.out)


def tables(options: argparse.Namespace) -> None:
    from sinet.paper.tables import write_tables

    plan = GridPlan.read(options.plan)
    write_tables(plan.records(), options.comparisons, plan.measured(), plan.declared, options.out)


def plot_attention(options: argparse.Namespace) -> None:
    from sinet.paper.attention import draw_cases

    models = GridPlan.read(options.plan).declared["models"]
    draw_cases(options.cases, {model: described["title"] for model, described in models.items()}, options.out)


def plot_claim(options: argparse.Namespace) -> None:
    from sinet.paper.claim import write_claim

    plan = GridPlan.read(options.plan)
    studied = plan.studied()
    files = options.shares, options.groups, plan.records(studied["dataset"], studied["encoder"])
    write_claim(*files, plan.declared, options.tables, options.figures)


def plot_flops(options: argparse.Namespace) -> None:
    from sinet.paper.figures import draw_flops

    plan, _ = _records_at(options)
    records = [plan.file(run, "record.json") for run in plan.of_systems(options.dataset, options.encoder).values()]
    draw_flops(options.flops, records, plan.declared, options.out)


def _records_at(options: argparse.Namespace) -> tuple[GridPlan, list[Path]]:
    """The plan, and the records of its runs on `--dataset` with `--encoder`."""
    plan = GridPlan.read(options.plan)
    if not (records := plan.records(options.dataset, options.encoder)):
        raise UserError(f"{options.plan}: no run on {shown(options.dataset)} with {shown(options.encoder)}")
    return plan, records


def plot_results(options: argparse.Namespace) -> None:
    from sinet.paper.figures import draw_results

    plan, records = _records_at(options)
    draw_results(records, options.comparisons, plan.declared, options.out)


def plot_speed(options: argparse.Namespace) -> None:
    from sinet.paper.figures import draw_speed

    plan, records = _records_at(options)
    draw_speed(records, options.timing, plan.declared, options.out)


def report(options: argparse.Namespace) -> None:
    from sinet.paper.report import write_report

    plan = GridPlan.read(options.plan)
    write_report(plan.results, plan.declared, options.out)


def summary(options: argparse.Namespace) -> None:
    from sinet.config import load_config, resolve
    from sinet.paper.summary import summary

    config = load_config(*options.config)
    print(summary(Path(config["results"]), resolve(config)))


def keep(options: argparse.Namespace) -> None:
    from sinet.config import load_config, resolve
    from sinet.kept import keep

    used: dict[str, Path] = {}
    for path in options.configs:
        config = load_config(path)
        plan, out = resolve(config), str(options.out or config["kept"] or "")
        if not out:
            raise UserError(f"{path}: names no folder for kept runs; write kept: FOLDER into it, or give --out")
        if used.setdefault(out, path) != path:
            raise UserError(f"{path}: keeps its runs in {out}, as {used[out]} does; one grid, one folder")
        kept = keep(Path(config["results"]), plan, Path(out))
        print(f"{path}: {len(kept)} of {len(plan.runs)} runs kept in {out}/")


def restore(options: argparse.Namespace) -> None:
    from sinet.kept import restore

    restore(options.kept, options.files, options.out)


def results(options: argparse.Namespace) -> None:
    from sinet.config import load_config, resolve
    from sinet.paper.results import write_results

    loaded = [(path, load_config(path)) for path in options.configs]
    write_results([(path, Path(config["results"]), resolve(config)) for path, config in loaded], options.out)
