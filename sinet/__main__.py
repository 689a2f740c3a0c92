"""`python -m sinet`: the steps of the workflow, each usable by itself."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from sinet.errors import Interrupted, UserError

PLANNED_RUNS = 1000
"""Runs whose plan `bench` measures."""
DESCRIPTION = """\
Train, score, time and compare systems for joint entity and relation extraction.
The workflow (`make tables`, `snakemake --cores all`) calls these steps in their order; each works by itself.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one step; exit status 0, or 2 after a one-line message about what the user gave."""
    options = build_parser().parse_args(arguments)
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    try:
        if options.log:
            options.log.parent.mkdir(parents=True, exist_ok=True)
            handlers.append(logging.FileHandler(options.log, mode="w", encoding="utf-8"))
        logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", handlers=handlers, force=True)
        logging.getLogger("sinet").setLevel(logging.INFO)
        options.run_step(options)
    except UserError as error:
        logging.getLogger("sinet").error("sinet %s: %s", options.step, error)
        return 2
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        logging.getLogger("sinet").error("sinet %s: %s%s", options.step, where, error.strerror or error)
        return 2
    except json.JSONDecodeError as error:
        logging.getLogger("sinet").error("sinet %s: a file that should be JSON is not: %s", options.step, error)
        return 2
    except Interrupted as error:
        logging.getLogger("sinet").error("sinet %s: %s", options.step, error)
        return 75
    except KeyboardInterrupt:
        return 130
    except Exception:
        # a fault of ours: the traceback goes to the log as well as to the terminal
        logging.getLogger("sinet").exception("sinet %s failed", options.step)
        return 1
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The command line: one sub-parser a step."""
    parser = argparse.ArgumentParser(
        prog="python -m sinet", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")

    def step(name: str, run: object, help: str, description: str = "") -> argparse.ArgumentParser:
        sub = steps.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}. {description}".strip())
        sub.add_argument("--log", type=Path, metavar="FILE", help="also write messages to this file")
        sub.set_defaults(run_step=run)
        return sub

    s = step("plan", plan, "print the runs of a grid, one JSON object a line, and those left out")
    s.add_argument("--config", type=Path, action="append", default=[], metavar="FILE", help="laid over config.yaml")

    s = step(
        "prepare",
        prepare,
        "obtain a declared dataset, check it, write it in one format with a card",
        "Writes train.jsonl, dev.jsonl, test.jsonl, labels.json, card.json and card.md.",
    )
    s.add_argument("dataset", help="name of a declared dataset")
    s.add_argument("--declared", metavar="JSON", help="its declaration; default: config/datasets.yaml")
    s.add_argument("--mirrors", nargs="*", metavar="DIR", help="folders to search; default: config.yaml")
    s.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")

    s = step(
        "check",
        check,
        "validate and describe files in a known format: every fault, or a card",
        "Several files are taken for the splits of one dataset, the training split first.",
    )
    s.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="JSON lines, SpERT, DyGIE/PURE or two-are-better"
    )
    s.add_argument("--dataset", metavar="NAME", help="a declared dataset whose types may occur")
    s.add_argument("--labels", type=Path, metavar="FILE", help="labels.json with the types that may occur")
    s.add_argument("--encoder", metavar="NAME", help="declared encoder that must take the sentences (default: minilm)")
    s.add_argument("--limit", type=int, default=50, metavar="N", help="faults listed at most (50)")

    s = step(
        "fetch",
        fetch,
        "obtain a declared encoder, so that training needs no network",
        "What no mirror has is fetched from the hub into data/mirror/encoders/NAME/.",
    )
    s.add_argument("encoder", help="name of a declared encoder")
    s.add_argument("--declared", metavar="JSON", help="its declaration with its name; default: config/encoders.yaml")
    s.add_argument("--mirrors", nargs="*", metavar="DIR", help="folders to search; default: config.yaml")
    s.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON: source, revision, SHA-256")

    s = step(
        "train",
        train,
        "train one run; a killed run goes on from its last epoch",
        "Writes model.safetensors, model.json, tokenizer/, log.csv and training.json.",
    )
    s.add_argument("--run", required=True, metavar="JSON", help="a line of `plan`, or a file that holds one")
    s.add_argument("--data", type=Path, required=True, metavar="DIR", help="a prepared dataset")
    s.add_argument("--out", type=Path, required=True, metavar="DIR", help="the run's folder")
    s.add_argument("--state", type=Path, default=Path("state"), metavar="DIR", help="resumable states (default: state)")
    s.add_argument(
        "--mirrors", nargs="*", metavar="DIR", help="folders to search for the encoder; default: config.yaml"
    )

    s = step(
        "tune",
        tune,
        "train the trials of config/trials/trials.yaml and keep their dev scores as data",
        "Never reads the test split. A killed trial goes on from its last epoch, a finished one is not repeated.",
    )
    s.add_argument("--trials", type=Path, default=Path("config/trials/trials.yaml"), metavar="FILE", help="what to try")
    s.add_argument("--models", nargs="*", default=[], metavar="NAME", help="only these; default: all")
    s.add_argument("--data", type=Path, required=True, metavar="DIR", help="the prepared dataset")
    s.add_argument("--out", type=Path, default=Path("results/trials"), metavar="DIR", help="the trials' folders")
    s.add_argument("--state", type=Path, default=Path("state"), metavar="DIR", help="resumable states (default: state)")
    s.add_argument("--table", type=Path, default=Path("config/trials/trials.csv"), metavar="FILE", help="CSV to write")

    s = step(
        "predict",
        predict,
        "predict sentences or raw text with a trained run",
        "A run's folder needs nothing else: it can be copied to another machine.",
    )
    s.add_argument("--run", type=Path, required=True, metavar="DIR", help="a trained run's folder")
    given = s.add_mutually_exclusive_group(required=True)
    given.add_argument(
        "--input", type=Path, metavar="FILE", help=".jsonl: sentences, labels are ignored; .txt: raw text"
    )
    given.add_argument("--text", metavar="TEXT", help="text to read; its triples are printed")
    s.add_argument(
        "--output", type=Path, metavar="FILE", help="JSON lines, a sentence a line, in the order of the input"
    )
    s.add_argument("--html", type=Path, metavar="FILE", help="draw raw text as a page: entities and relations")

    s = step("score", score, "score predictions against gold: Ent, Rel, Rel+; prints JSON")
    s.add_argument("--gold", type=Path, required=True, metavar="FILE", help="gold sentences, JSON lines")
    s.add_argument("--predictions", type=Path, required=True, metavar="FILE", help="the same sentences, predicted")
    s.add_argument(
        "--labels", type=Path, metavar="FILE", help="labels.json of the dataset; default: beside --gold, if there"
    )
    s.add_argument("--symmetric", nargs="*", metavar="TYPE", help="relation types without a direction, for want of it")
    s.add_argument("--out", type=Path, metavar="FILE", help="write the JSON here instead of printing it")

    s = step("collect", collect, "join what training and scoring left into a run's record.json")
    s.add_argument("--training", type=Path, required=True, metavar="FILE", help="training.json of the run")
    s.add_argument("--scores", type=Path, required=True, metavar="FILE", help="scores.json of the run")
    s.add_argument("--test", type=Path, required=True, metavar="FILE", help="the split that was scored")
    s.add_argument("--out", type=Path, required=True, metavar="FILE", help="record.json")

    for name, run, help in (
        ("flops", flops, "count multiply-adds of inference over a split (fvcore)"),
        ("time", time, "time inference over a split, from token ids to triples; needs the machine for itself"),
    ):
        s = step(name, run, help)
        s.add_argument("--runs", nargs="+", required=True, metavar="NAME=DIR", help="trained runs")
        s.add_argument("--test", type=Path, required=True, metavar="FILE", help="sentences, JSON lines")
        s.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON to write")
        s.add_argument(
            "--sentences", type=int, metavar="N", help="only N of them, at even steps of length; default: all"
        )
        if name == "time":
            s.add_argument("--seconds", type=float, default=10.0, metavar="S", help="at least, for each pass (10)")
        if name == "flops":
            s.add_argument(
                "--untrained", default="[]", metavar="JSON", help="declared architectures to count every system in too"
            )

    s = step(
        "bench",
        bench,
        "measure the trained systems of a grid against their encoder and the machine",
        "Needs the machine for itself. Prints one table and writes bench.json.",
    )
    s.add_argument("--config", type=Path, action="append", default=[], metavar="FILE", help="laid over config.yaml")
    s.add_argument(
        "--sentences", type=int, default=200, metavar="N", help="test sentences timed, 0 for all (default: 200)"
    )
    s.add_argument("--stream", type=int, default=50_000, metavar="N", help="length of the stream, 0 for none (50000)")
    s.add_argument("--out", type=Path, default=Path("results/bench.json"), metavar="FILE", help="JSON to write")

    s = step("attend", attend, "cross-task attention of chosen sentences, as data for the figure")
    s.add_argument("--run", type=Path, required=True, metavar="DIR", help="a trained run's folder")
    s.add_argument("--test", type=Path, required=True, metavar="FILE", help="gold sentences")
    s.add_argument("--predictions", type=Path, required=True, metavar="FILE", help="the run's predictions of them")
    s.add_argument("--sentences", required=True, metavar="JSON", help="how many to choose, or a list of ids")
    s.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON to write")

    s = step("tables", tables, "write the main, ablation and efficiency tables (csv, md, tex)")
    s.add_argument("--records", type=Path, nargs="+", required=True, metavar="FILE", help="record.json of each run")
    s.add_argument("--efficiency", type=Path, nargs="*", default=[], metavar="DIR", help="DATASET/ENCODER folders")
    s.add_argument("--declared", required=True, metavar="JSON", help="titles of datasets, encoders and models")
    s.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")

    s = step("figures", figures, "draw an attention figure (pdf, png) with its caption")
    s.add_argument("--attention", type=Path, required=True, metavar="FILE", help="what `attend` wrote")
    s.add_argument("--number", type=int, required=True, help="which sentence of it, from 1")
    s.add_argument("--what", required=True, help="what was measured, for the caption")
    s.add_argument("--out", type=Path, required=True, metavar="STEM", help="path without its ending")

    s = step("plot-flops", plot_flops, "draw FLOPs against sentence length (pdf, png) with a caption")
    s.add_argument("--flops", type=Path, required=True, metavar="FILE", help="what `flops` wrote")
    s.add_argument("--titles", required=True, metavar="JSON", help="titles of the models")
    s.add_argument("--what", required=True, help="what was counted, for the caption")
    s.add_argument("--out", type=Path, required=True, metavar="STEM", help="path without its ending")

    s = step("summary", summary, "print the main table of a finished grid and the paths of what it made")
    s.add_argument("--config", type=Path, action="append", default=[], metavar="FILE", help="laid over config.yaml")
    return parser


# Each step imports what it needs when it runs: torch and transformers cost seconds a process.


def plan(options: argparse.Namespace) -> None:
    from sinet.config import load_config, resolve

    planned = resolve(load_config(*options.config))
    for run in planned.runs:
        print(json.dumps(run.details))
    for run, reason in planned.left_out:
        print(f"left out: {run.path}: {reason}", file=sys.stderr)


def _json(text: str, option: str) -> object:
    """JSON given on the command line, or in a file named there."""
    try:
        return json.loads(text if text.lstrip()[:1] in ("{", "[") or text.isdigit() else Path(text).read_text())
    except OSError as error:
        raise UserError(f"{option}: {text}: {error.strerror}; give JSON or a file that holds it") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{option}: broken JSON: {error.msg} at column {error.colno}") from None


def prepare(options: argparse.Namespace) -> None:
    from sinet.config import load_config
    from sinet.data.card import card_markdown
    from sinet.data.prepare import prepare
    from sinet.errors import nearest

    config = load_config()
    declared = _json(options.declared, "--declared") if options.declared else config["datasets"].get(options.dataset)
    if declared is None:
        raise UserError(f"dataset {options.dataset!r} is not declared, {nearest(options.dataset, config['datasets'])}")
    mirrors = config["mirrors"] if options.mirrors is None else options.mirrors
    print(card_markdown(prepare(options.dataset, declared, mirrors, options.out)))


def check(options: argparse.Namespace) -> None:
    from sinet.config import encoder_declaration, load_config
    from sinet.data.check import check_files
    from sinet.data.sentence import Labels
    from sinet.errors import nearest
    from sinet.model.pretrained import locate_encoder, read_tokenizer

    config, labels = load_config(), None
    if options.dataset:
        if options.dataset not in config["datasets"]:
            raise UserError(
                f"--dataset {options.dataset!r}: not declared, {nearest(options.dataset, config['datasets'])}"
            )
        labels = Labels.from_json(config["datasets"][options.dataset])
    elif options.labels:
        labels = Labels.from_json(json.loads(options.labels.read_text(encoding="utf-8")))
    name = options.encoder or "minilm"
    if name not in config["encoders"]:
        raise UserError(f"--encoder {name!r}: not declared, {nearest(name, config['encoders'])}")
    count, most = read_tokenizer(locate_encoder(encoder_declaration(config, name), config["mirrors"]))

    def too_long(words: Sequence[str]) -> str | None:
        pieces = count(words) + 2
        return f"{pieces} word pieces, {name} takes {most}; divide the sentence" if pieces > most else None

    print(check_files(options.files, labels, too_long, options.limit))


def fetch(options: argparse.Namespace) -> None:
    from sinet.config import encoder_declaration, load_config
    from sinet.errors import nearest
    from sinet.model.fetch import fetch_encoder

    config, name = load_config(), options.encoder
    if not options.declared and name not in config["encoders"]:
        raise UserError(f"encoder {name!r} is not declared, {nearest(name, config['encoders'])}")
    declared = _json(options.declared, "--declared") if options.declared else encoder_declaration(config, name)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    fetch_encoder(declared, config["mirrors"] if options.mirrors is None else options.mirrors, options.out)


def train(options: argparse.Namespace) -> None:
    run = _json(options.run, "--run")
    from sinet.config import load_config
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
    for path in filter(None, (options.output, options.html)):
        path.parent.mkdir(parents=True, exist_ok=True)
    if options.text is None and options.input.suffix != ".txt":
        from sinet.run.predict import predict_file

        if options.html:
            raise UserError("--html draws raw text (--text, or --input of a .txt file)")
        predict_file(options.run, options.input, options.output)
        return
    from sinet.files import write_atomically
    from sinet.run.extract import Loaded, extract_file, write_page

    if options.text is None:
        extract_file(options.run, options.input, options.output, options.html)
        return
    found = Loaded(options.run).predict([options.text])
    print("\n".join(text.readable() for text in found) or "no words")
    if options.html:
        write_page(options.html, [text.drawing() for text in found], "Triples")
    if options.output:
        lines = "".join(json.dumps(text.as_json(), ensure_ascii=False) + "\n" for text in found)
        write_atomically(options.output, lambda partial: partial.write_text(lines, encoding="utf-8"))


def score(options: argparse.Namespace) -> None:
    from sinet.data.sentence import read_sentences
    from sinet.run.record import labels_for
    from sinet.score.metrics import score

    gold, predicted = read_sentences(options.gold), read_sentences(options.predictions)
    labels = labels_for(options.labels or options.gold.parent / "labels.json", gold, predicted, options.symmetric)
    text = json.dumps(score(gold, predicted, labels), indent=2)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text + "\n", encoding="utf-8")
    else:
        print(text)


def collect(options: argparse.Namespace) -> None:
    from sinet.run.record import collect

    collect(options.training, options.scores, options.test, options.out)


def _named(runs: list[str]) -> dict[str, Path]:
    for run in runs:
        if "=" not in run:
            raise UserError(f"--runs: {run!r} should be NAME=DIR")
    return {name: Path(folder) for name, folder in (run.split("=", 1) for run in runs)}


def flops(options: argparse.Namespace) -> None:
    from sinet.run.flops import count_runs

    untrained = _json(options.untrained, "--untrained")
    count_runs(_named(options.runs), options.test, options.out, options.sentences, untrained)


def time(options: argparse.Namespace) -> None:
    from sinet.run.timing import time_runs

    time_runs(_named(options.runs), options.test, options.out, options.sentences, options.seconds)


def bench(options: argparse.Namespace) -> None:
    from sinet.config import load_config, resolve
    from sinet.files import write_json
    from sinet.run.bench import bench
    from sinet.run.planning import plan_grid, report

    config = load_config(*options.config)
    mirrors, count = config["mirrors"], options.sentences or None
    print(bench(Path(config["results"]), resolve(config), mirrors, options.out, count, options.stream))
    planned = plan_grid(PLANNED_RUNS)
    write_json(options.out, json.loads(options.out.read_text(encoding="utf-8")) | {"plan": planned})
    print(report(planned))


def attend(options: argparse.Namespace) -> None:
    from sinet.run.attend import attend

    attend(options.run, options.test, options.predictions, _json(options.sentences, "--sentences"), options.out)


def tables(options: argparse.Namespace) -> None:
    from sinet.paper.tables import write_tables

    write_tables(options.records, options.efficiency, _json(options.declared, "--declared"), options.out)


def figures(options: argparse.Namespace) -> None:
    from sinet.paper.attention import draw

    draw(options.attention, options.number, options.what, options.out)


def plot_flops(options: argparse.Namespace) -> None:
    from sinet.paper.efficiency import draw_flops

    draw_flops(options.flops, _json(options.titles, "--titles"), options.what, options.out)


def summary(options: argparse.Namespace) -> None:
    from sinet.config import load_config, resolve
    from sinet.paper.summary import summary

    config = load_config(*options.config)
    print(summary(Path(config["results"]), resolve(config)))


if __name__ == "__main__":
    sys.exit(main())
