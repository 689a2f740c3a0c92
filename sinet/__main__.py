"""`python -m sinet`: the steps of the workflow, each usable by itself."""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
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
        return options.run_step(options) or 0
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
        "validate and describe files in a known format: every fault, then a card",
        "Several files are taken for the splits of one dataset, the training split first. Exit status 2 says that there"
        " are faults; nothing is written.",
    )
    s.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="JSON lines, SpERT, DyGIE/PURE or two-are-better"
    )
    s.add_argument("--dataset", metavar="NAME", help="a declared dataset whose types may occur")
    s.add_argument("--labels", type=Path, metavar="FILE", help="labels.json with the types that may occur")
    s.add_argument("--encoder", metavar="NAME", help="declared encoder that must take the sentences (default: minilm)")
    s.add_argument("--limit", type=_at_least(1), default=50, metavar="N", help="faults listed at most (50)")

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
        "--input",
        type=Path,
        metavar="FILE",
        help='.txt: raw text; .jsonl: a line {"text": "..."} of raw text, or {"tokens": [...]}, labels are ignored',
    )
    given.add_argument("--text", metavar="TEXT", help="text to read; its triples are printed")
    s.add_argument(
        "--output", type=Path, metavar="FILE", help="JSON lines, a sentence a line, in the order of the input"
    )
    s.add_argument("--html", type=Path, metavar="FILE", help="also draw entities and relations as a page")

    s = step("score", score, "score predictions against gold: Ent, Rel, Rel+; prints JSON")
    s.add_argument("--gold", type=Path, required=True, metavar="FILE", help="gold sentences, JSON lines")
    s.add_argument("--predictions", type=Path, required=True, metavar="FILE", help="the same sentences, predicted")
    s.add_argument(
        "--labels", type=Path, metavar="FILE", help="labels.json of the dataset; default: beside --gold, if there"
    )
    s.add_argument("--symmetric", nargs="*", metavar="TYPE", help="relation types without a direction, for want of it")
    s.add_argument("--out", type=Path, metavar="FILE", help="write the JSON here instead of printing it")

    s = step("analyse", analyse, "errors of predictions by kind, with examples, and figures by slice; prints JSON")
    s.add_argument("--gold", type=Path, required=True, metavar="FILE", help="gold sentences, JSON lines")
    s.add_argument("--predictions", type=Path, required=True, metavar="FILE", help="the same sentences, predicted")
    s.add_argument(
        "--labels", type=Path, metavar="FILE", help="labels.json of the dataset; default: beside --gold, if there"
    )
    s.add_argument("--symmetric", nargs="*", metavar="TYPE", help="relation types without a direction, for want of it")
    s.add_argument("--out", type=Path, metavar="FILE", help="write the JSON here instead of printing it")

    s = step(
        "compare",
        compare,
        "compare SINET with each system and its ablation: bootstrap and variance of runs, order over seeds, Holm",
        "Where dataset, encoder and recipe are the same; the predictions lie beside the records.",
    )
    s.add_argument("--records", type=Path, nargs="+", required=True, metavar="FILE", help="record.json of each run")
    s.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the prepared datasets")
    s.add_argument("--declared", required=True, metavar="JSON", help="datasets and models as declared, runs left out")
    s.add_argument("--resamples", type=int, default=10_000, metavar="N", help="of the test sentences (10000)")
    s.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON to write")

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
            "--sentences",
            type=_at_least(1),
            metavar="N",
            help="only N of them, at even steps of length; default: all",
        )
        if name == "time":
            s.add_argument("--seconds", type=float, default=10.0, metavar="S", help="at least, for each pass (10)")
            s.add_argument(
                "--untrained",
                default="[]",
                metavar="JSON",
                help="[declared architecture, N] pairs to time every system in too, on N sentences",
            )
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
        "--sentences",
        type=_at_least(0),
        default=200,
        metavar="N",
        help="test sentences timed, 0 for all (default: 200)",
    )
    s.add_argument(
        "--stream", type=_at_least(0), default=50_000, metavar="N", help="length of the stream, 0 for none (50000)"
    )
    s.add_argument("--out", type=Path, default=Path("results/bench.json"), metavar="FILE", help="JSON to write")

    s = step(
        "attend",
        attend,
        "cross-task attention of a trained run over a split, sentence by sentence",
        "A system without an attention map leaves its sentences empty.",
    )
    s.add_argument("--run", type=Path, required=True, metavar="DIR", help="a trained run's folder")
    s.add_argument("--test", type=Path, required=True, metavar="FILE", help="sentences, JSON lines; labels are ignored")
    s.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON to write")

    s = step("case-study", case_study, "find the sentences of the case study by rules, with every system's predictions")
    s.add_argument("--gold", type=Path, required=True, metavar="FILE", help="gold sentences")
    s.add_argument("--labels", type=Path, required=True, metavar="FILE", help="labels.json of the dataset")
    s.add_argument("--attention", type=Path, required=True, metavar="FILE", help="what `attend` wrote for --model")
    s.add_argument(
        "--predictions", nargs="+", required=True, metavar="MODEL=FILE", help="predictions of all systems compared"
    )
    s.add_argument("--model", required=True, metavar="NAME", help="the studied one of them")
    s.add_argument(
        "--sentences",
        nargs="+",
        required=True,
        metavar="RULE",
        help="only-right, out-of-triple, hard-failure, or ids of sentences",
    )
    s.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON to write")

    s = step(
        "attention-shares",
        attention_shares,
        "share of cross-task attention on words of in-triple entities, of out-of-triple entities, on other words",
        "By direction and head, against uniform attention, with bootstrap intervals over sentences.",
    )
    s.add_argument("--gold", type=Path, required=True, metavar="FILE", help="gold sentences")
    s.add_argument(
        "--attention", nargs="+", required=True, metavar="SEED=FILE", help="what `attend` wrote for each seed"
    )
    s.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON to write")

    s = step(
        "group-scores",
        group_scores,
        "NER precision, recall and F1 of in-triple and of out-of-triple entities",
        "Mean over the seeds of each model, with bootstrap intervals over sentences.",
    )
    s.add_argument("--gold", type=Path, required=True, metavar="FILE", help="gold sentences")
    s.add_argument("--predictions", nargs="+", required=True, metavar="MODEL/SEED=FILE", help="predictions of each run")
    s.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON to write")

    s = step(
        "tables",
        tables,
        "write the tables of a grid (csv, md, tex)",
        "Main, ablation, published against measured, significance, efficiency, types, slices, errors.",
    )
    s.add_argument(
        "--records",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="record.json of each run, its analysis beside",
    )
    s.add_argument("--comparisons", type=Path, required=True, metavar="FILE", help="what `compare` wrote")
    s.add_argument("--efficiency", type=Path, nargs="*", default=[], metavar="DIR", help="DATASET/ENCODER folders")
    s.add_argument("--declared", required=True, metavar="JSON", help="titles, the grid's runs, those left out")
    s.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")

    s = step("plot-attention", plot_attention, "draw the case study (pdf, png), each sentence with its caption")
    s.add_argument("--cases", type=Path, required=True, metavar="FILE", help="what `case-study` wrote")
    s.add_argument("--titles", required=True, metavar="JSON", help="titles of the models")
    s.add_argument("--what", required=True, help="what was measured, for the captions")
    s.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for attention_1.pdf and so on")

    s = step("plot-claim", plot_claim, "tables (csv, md, tex) and figure of attention shares and of NER by group")
    s.add_argument("--shares", type=Path, required=True, metavar="FILE", help="what `attention-shares` wrote")
    s.add_argument("--groups", type=Path, required=True, metavar="FILE", help="what `group-scores` wrote")
    s.add_argument("--declared", required=True, metavar="JSON", help="titles and settings of the models, remark")
    s.add_argument("--what", required=True, help="what was measured, for notes and caption")
    s.add_argument("--tables", type=Path, required=True, metavar="DIR", help="folder for the tables")
    s.add_argument("--figures", type=Path, required=True, metavar="DIR", help="folder for the figure")

    s = step("plot-flops", plot_flops, "draw FLOPs against sentence length (pdf, png) with a caption")
    s.add_argument("--flops", type=Path, required=True, metavar="FILE", help="what `flops` wrote")
    s.add_argument("--titles", required=True, metavar="JSON", help="titles of the models")
    s.add_argument("--what", required=True, help="what was counted, for the caption")
    s.add_argument("--out", type=Path, required=True, metavar="STEM", help="path without its ending")

    s = step(
        "plot-results",
        plot_results,
        "draw learning curves, F1 against speed, F1 by sentence length and significance on one dataset and encoder",
    )
    s.add_argument(
        "--records",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="record.json of the runs, log.csv and analysis.json beside",
    )
    s.add_argument("--timing", type=Path, required=True, metavar="FILE", help="what `time` wrote")
    s.add_argument("--comparisons", type=Path, required=True, metavar="FILE", help="what `compare` wrote")
    s.add_argument("--models", required=True, metavar="JSON", help="titles and systems of all declared models")
    s.add_argument("--place", required=True, metavar="DATASET/ENCODER", help="as the comparisons name it")
    s.add_argument("--what", required=True, help="dataset and encoder, for the captions")
    s.add_argument("--out", type=Path, required=True, metavar="STEM", help="folder and end of the names of the figures")

    s = step(
        "report",
        report,
        "one self-contained HTML page of a finished grid: tables, figures, every sentence with its predictions",
        "The workflow calls it with its plan: make report.",
    )
    s.add_argument("--results", type=Path, required=True, metavar="DIR", help="the grid's folder")
    s.add_argument("--plan", required=True, metavar="JSON", help="runs, tables, figures, titles, what was left out")
    s.add_argument("--out", type=Path, required=True, metavar="FILE", help="the page")

    s = step("summary", summary, "print the main table of a finished grid and the paths of what it made")
    s.add_argument("--config", type=Path, action="append", default=[], metavar="FILE", help="laid over config.yaml")

    s = step(
        "results", results, "write results/README.md: tables and figures of finished grids, and how they were made"
    )
    s.add_argument("--configs", type=Path, nargs="+", required=True, metavar="FILE", help="the grids, in this order")
    s.add_argument("--out", type=Path, default=Path("results/README.md"), metavar="FILE", help="Markdown to write")
    return parser


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} should be a whole number of at least {least}")
        return int(text)

    return number


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


def _declared(text: str, *keys: str) -> dict:
    """What a grid declares, with the keys that a step reads."""
    declared = _json(text, "--declared")
    if missing := [key for key in keys if not isinstance(declared, dict) or key not in declared]:
        raise UserError(f"--declared: {', '.join(missing)} missing; the workflow passes a mapping of {', '.join(keys)}")
    return declared


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


def check(options: argparse.Namespace) -> int:
    from sinet.config import encoder_declaration, load_config
    from sinet.data.check import check_files, counted
    from sinet.data.sentence import Labels
    from sinet.errors import nearest
    from sinet.model.pretrained import locate_encoder, read_tokenizer

    config, labels, published = load_config(), None, {}
    if options.dataset:
        if options.dataset not in config["datasets"]:
            raise UserError(
                f"--dataset {options.dataset!r}: not declared, {nearest(options.dataset, config['datasets'])}"
            )
        declared = config["datasets"][options.dataset]
        labels = Labels.from_json(declared)
        for split in declared.get("counts", {}).values():
            repeated = split.get("duplicate_entities", 0) + split.get("duplicate_relations", 0)
            published[split.get("sentences")] = repeated
    elif options.labels:
        try:
            labels = Labels.from_json(json.loads(options.labels.read_text(encoding="utf-8")))
            if not all(isinstance(kind, str) for kind in (*labels.entity_types, *labels.relation_types)):
                raise TypeError
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            right = '{"entity_types": [...], "relation_types": [...]}'
            raise UserError(
                f"--labels {options.labels}: should hold {right}, as a prepared dataset's labels.json"
            ) from None
    name = options.encoder or "minilm"
    if name not in config["encoders"]:
        raise UserError(f"--encoder {name!r}: not declared, {nearest(name, config['encoders'])}")
    count, most = read_tokenizer(locate_encoder(encoder_declaration(config, name), config["mirrors"]))

    def too_long(words: Sequence[str]) -> str | None:
        pieces = count(words) + 2
        return f"{pieces} word pieces, {name} takes {most}; divide the sentence" if pieces > most else None

    report = check_files(options.files, labels, too_long, published)
    if report.faults:
        more = len(report.faults) - options.limit
        listed = report.faults[: options.limit] + [f"... and {more} more; --limit shows them"] * (more > 0)
        found = f"{counted(len(report.faults), 'fault')} in {counted(len(options.files), 'file')}"
        logging.getLogger("sinet").error("sinet check: %s\n%s", found, "\n".join(listed))
    print(report.description)
    return 2 if report.faults else 0


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
    if options.text is None:
        if options.input.suffix not in (".txt", ".jsonl"):
            raise UserError(f"--input {options.input}: should end in .txt (raw text) or .jsonl (JSON lines)")
        with open(options.input, "rb"):
            pass  # a missing file is told before torch is loaded
    for path in filter(None, (options.output, options.html)):
        path.parent.mkdir(parents=True, exist_ok=True)
    if options.text is not None:
        _predict_text(options)
        return
    from sinet.run.extract import draw_file, extract_file, holds_texts
    from sinet.run.predict import predict_file

    if options.input.suffix == ".txt" or holds_texts(options.input):
        extract_file(options.run, options.input, options.output, options.html)
        return
    predict_file(options.run, options.input, options.output)
    if options.html:
        draw_file(options.run, options.output, options.html, options.input.name)


def _predict_text(options: argparse.Namespace) -> None:
    from sinet.files import write_atomically
    from sinet.run import draw, machine
    from sinet.run.extract import Loaded

    machine.use_device()
    loaded = Loaded(options.run)
    found = loaded.predict(options.text)
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


def score(options: argparse.Namespace) -> None:
    from sinet.score.metrics import score

    _held_against_gold(score, options)


def analyse(options: argparse.Namespace) -> None:
    from sinet.score.analyse import analyse

    _held_against_gold(analyse, options)


def _held_against_gold(what: Callable[..., dict], options: argparse.Namespace) -> None:
    """Print or write as JSON what a function says of gold, predictions and their labels."""
    from sinet.data.sentence import read_sentences
    from sinet.run.record import labels_for

    gold, predicted = read_sentences(options.gold), read_sentences(options.predictions)
    labels = labels_for(options.labels or options.gold.parent / "labels.json", gold, predicted, options.symmetric)
    text = json.dumps(what(gold, predicted, labels), indent=2, ensure_ascii=False)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text + "\n", encoding="utf-8")
    else:
        print(text)


def compare(options: argparse.Namespace) -> None:
    from sinet.files import write_json
    from sinet.score.compare import compare, read_runs

    if options.resamples < 1:
        raise UserError(f"--resamples: {options.resamples} should be at least 1")
    declared = _declared(options.declared, "datasets", "models", "left_out", "failed")
    runs = read_runs(options.records, options.data)
    write_json(options.out, compare(runs, declared, options.resamples))


def collect(options: argparse.Namespace) -> None:
    from sinet.run.record import collect

    collect(options.training, options.scores, options.test, options.out)


def _named(given: list[str], option: str = "--runs") -> dict[str, Path]:
    for text in given:
        if "=" not in text:
            raise UserError(f"{option}: {text!r} should be NAME=PATH")
    return {name: Path(path) for name, path in (text.split("=", 1) for text in given)}


def _hold_sentences(test: Path) -> None:
    from sinet.data.sentence import iter_sentences

    if next(iter_sentences(test), None) is None:
        raise UserError(f"--test {test}: no sentence in it")


def flops(options: argparse.Namespace) -> None:
    _hold_sentences(options.test)
    from sinet.run.flops import count_runs

    untrained = _json(options.untrained, "--untrained")
    count_runs(_named(options.runs), options.test, options.out, options.sentences, untrained)


def time(options: argparse.Namespace) -> None:
    _hold_sentences(options.test)
    from sinet.run.timing import time_runs

    untrained = _json(options.untrained, "--untrained")
    time_runs(_named(options.runs), options.test, options.out, options.sentences, options.seconds, untrained)


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

    attend(options.run, options.test, options.out)


def case_study(options: argparse.Namespace) -> None:
    from sinet.score.cases import write_cases

    predictions = _named(options.predictions, "--predictions")
    write_cases(
        options.gold, options.labels, options.attention, predictions, options.model, options.sentences, options.out
    )


def attention_shares(options: argparse.Namespace) -> None:
    from sinet.score.shares import attention_shares

    attention_shares(options.gold, _named(options.attention, "--attention"), options.out)


def group_scores(options: argparse.Namespace) -> None:
    from sinet.score.groups import score_groups

    predictions: dict[str, dict[str, Path]] = {}
    for name, path in _named(options.predictions, "--predictions").items():
        model, slash, seed = name.rpartition("/")
        if not slash:
            raise UserError(f"--predictions: {name!r} should be MODEL/SEED")
        predictions.setdefault(model, {})[seed] = path
    score_groups(options.gold, predictions, options.out)


def tables(options: argparse.Namespace) -> None:
    from sinet.paper.tables import write_tables

    declared = _declared(options.declared, "datasets", "encoders", "models", "runs", "left_out", "failed", "remark")
    write_tables(options.records, options.comparisons, options.efficiency, declared, options.out)


def plot_attention(options: argparse.Namespace) -> None:
    from sinet.paper.attention import draw_cases

    draw_cases(options.cases, _json(options.titles, "--titles"), options.what, options.out)


def plot_claim(options: argparse.Namespace) -> None:
    from sinet.paper.claim import write_claim

    declared = _json(options.declared, "--declared")
    write_claim(options.shares, options.groups, declared, options.what, options.tables, options.figures)


def plot_flops(options: argparse.Namespace) -> None:
    from sinet.paper.efficiency import draw_flops

    draw_flops(options.flops, _json(options.titles, "--titles"), options.what, options.out)


def plot_results(options: argparse.Namespace) -> None:
    from sinet.paper.figures import draw_results

    place, models = tuple(options.place.split("/")), _json(options.models, "--models")
    draw_results(options.records, options.timing, options.comparisons, models, place, options.what, options.out)


def report(options: argparse.Namespace) -> None:
    from sinet.paper.report import write_report

    write_report(options.results, _json(options.plan, "--plan"), options.out)


def summary(options: argparse.Namespace) -> None:
    from sinet.config import load_config, resolve
    from sinet.paper.summary import summary

    config = load_config(*options.config)
    print(summary(Path(config["results"]), resolve(config)))


def results(options: argparse.Namespace) -> None:
    from sinet.config import load_config, resolve
    from sinet.paper.results import write_results

    loaded = [(path, load_config(path)) for path in options.configs]
    write_results([(path, Path(config["results"]), resolve(config)) for path, config in loaded], options.out)


if __name__ == "__main__":
    sys.exit(main())
