"""`python -m sinet`: the steps of the workflow, each usable by itself."""

import argparse
import json
import logging
import math
import sys
from collections.abc import Callable
from pathlib import Path

from sinet import steps
from sinet.errors import Interrupted, UserError, printable, shown
from sinet.files import check_path

DESCRIPTION = """\
Train, score, time and compare systems for joint entity and relation extraction.
The workflow (`make tables`, `snakemake --cores all`) calls these steps in their order; each works by itself.
"""

Step = Callable[..., argparse.ArgumentParser]
"""Declares a step: name, function, help, description -> its parser."""


def main(arguments: list[str] | None = None) -> int:
    """Run one step; exit status 0, or 2 after a one-line message about what the user gave."""
    options = build_parser().parse_args(arguments)
    logging.basicConfig(handlers=[_plain(logging.StreamHandler(sys.stderr))], force=True)
    logging.getLogger("sinet").setLevel(logging.INFO)
    try:
        _check_paths(options)
        if options.log:
            options.log.parent.mkdir(parents=True, exist_ok=True)
            logging.getLogger().addHandler(_plain(logging.FileHandler(options.log, mode="w", encoding="utf-8")))
        return options.run_step(options) or 0
    except (UserError, Interrupted) as error:
        return _refused(options, error, 75 if isinstance(error, Interrupted) else 2)
    except OSError as error:
        return _refused(options, f"{f'{error.filename}: ' if error.filename else ''}{error.strerror or error}")
    except json.JSONDecodeError as error:
        return _refused(options, f"a file that should be JSON is not: {error}")
    except KeyboardInterrupt:
        return 130
    except Exception:
        # a fault of ours: the traceback goes to the log as well as to the terminal
        logging.getLogger("sinet").exception("sinet %s failed", options.step)
        return 1


class _Plain(logging.Formatter):
    """Log lines in which no text from a file steers the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _plain(handler: logging.Handler) -> logging.Handler:
    handler.setFormatter(_Plain("%(asctime)s %(message)s", "%H:%M:%S"))
    return handler


def _refused(options: argparse.Namespace, why: object, status: int = 2) -> int:
    logging.getLogger("sinet").error("sinet %s: %s", options.step, why)
    return status


def _check_paths(options: argparse.Namespace) -> None:
    """Refuse a pipe, which would be waited for, and what is no path at all, whichever option names it."""
    for given in vars(options).values():
        for path in given if isinstance(given, list) else [given]:
            if isinstance(path, Path):
                check_path(path)


def build_parser() -> argparse.ArgumentParser:
    """The command line: one sub-parser a step."""
    parser = argparse.ArgumentParser(
        prog="python -m sinet", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(dest="step", required=True, metavar="STEP")

    def step(name: str, run: Callable, help: str, description: str = "") -> argparse.ArgumentParser:
        sub = subparsers.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}. {description}".strip())
        sub.add_argument("--log", type=Path, metavar="FILE", help="also write messages to this file")
        sub.set_defaults(run_step=run)
        return sub

    for stage in (_data_steps, _run_steps, _score_steps, _efficiency_steps, _paper_steps, _grid_steps):
        stage(step)
    return parser


def _data_steps(step: Step) -> None:
    s = step("plan", steps.plan, "print the runs of a grid, one JSON object a line, and those left out")
    s.add_argument("--config", type=Path, action="append", default=[], metavar="FILE", help="laid over config.yaml")
    s.add_argument("--recipes", action="store_true", help="print the recipes instead, spelled out, with their runs")

    s.add_argument(
        "--cost", action="store_true", help="print what they cost instead: steps, FLOPs, hours, memory, disk"
    )
    s.add_argument("--peak-tflops", type=_above_zero(), metavar="N", help="of the device; default: fitted to --records")
    s.add_argument("--efficiency", type=_above_zero(), default=0.3, metavar="X", help="share of the peak reached (0.3)")
    s.add_argument(
        "--operator-us", type=_above_zero(), default=10.0, metavar="N", help="to call an operator, in us (10)"
    )
    s.add_argument(
        "--memory-gb", type=_above_zero(), metavar="N", help="of the device: runs that need more are marked !"
    )
    s.add_argument(
        "--records",
        type=Path,
        nargs="+",
        default=[Path("results")],
        metavar="DIR",
        help="folders of finished trainings to calibrate on (results)",
    )

    s = step(
        "prepare",
        steps.prepare,
        "obtain a declared dataset, check it, write it in one format with a card",
        "Writes train.jsonl, dev.jsonl, test.jsonl, labels.json, card.json and card.md.",
    )
    s.add_argument("dataset", help="name of a declared dataset")
    s.add_argument("--declared", metavar="JSON", help="its declaration; default: config/datasets.yaml")
    s.add_argument("--mirrors", nargs="*", metavar="DIR", help="folders to search; default: config.yaml")
    s.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")

    s = step(
        "check",
        steps.check,
        "validate and describe files in a known format: every fault, then a card",
        "Several files are taken for the splits of one dataset, the training split being the one that is called so"
        " (train.jsonl), else the first. Exit status 2 says that there are faults; nothing is written.",
    )
    s.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="JSON lines, SpERT, DyGIE/PURE or two-are-better"
    )
    s.add_argument("--dataset", metavar="NAME", help="a declared dataset whose types may occur")
    s.add_argument("--labels", type=Path, metavar="FILE", help="labels.json with the types that may occur")
    s.add_argument(
        "--no-relation", nargs="+", default=[], metavar="TYPE", help="relation types that are left out: no relations"
    )
    s.add_argument("--encoder", metavar="NAME", help="declared encoder that must take the sentences (default: minilm)")
    s.add_argument("--limit", type=_at_least(1), default=50, metavar="N", help="faults listed at most (50)")

    s = step(
        "fetch",
        steps.fetch,
        "obtain a declared encoder, so that training needs no network",
        "What no mirror has is fetched from the hub into data/mirror/encoders/NAME/.",
    )
    s.add_argument("encoder", help="name of a declared encoder")
    s.add_argument("--declared", metavar="JSON", help="its declaration with its name; default: config/encoders.yaml")
    s.add_argument("--mirrors", nargs="*", metavar="DIR", help="folders to search; default: config.yaml")
    s.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON: source, revision, SHA-256")


def _run_steps(step: Step) -> None:
    s = step(
        "train",
        steps.train,
        "train one run; a killed run goes on from its last save",
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
        steps.tune,
        "train the trials of config/trials/trials.yaml and keep their dev scores as data",
        "Never reads the test split. A killed trial goes on from its last save, a finished one is not repeated.",
    )
    s.add_argument("--trials", type=Path, default=Path("config/trials/trials.yaml"), metavar="FILE", help="what to try")
    s.add_argument("--models", nargs="*", default=[], metavar="NAME", help="only these; default: all")
    s.add_argument("--data", type=Path, required=True, metavar="DIR", help="the prepared dataset")
    s.add_argument("--out", type=Path, default=Path("results/trials"), metavar="DIR", help="the trials' folders")
    s.add_argument("--state", type=Path, default=Path("state"), metavar="DIR", help="resumable states (default: state)")
    s.add_argument("--table", type=Path, default=Path("config/trials/trials.csv"), metavar="FILE", help="CSV to write")

    s = step(
        "predict",
        steps.predict,
        "predict sentences or raw text with a trained run",
        "A run's folder needs nothing else: it can be copied to another machine. Raw text is divided into sentences at "
        "their punctuation and at blank lines. Offsets count characters as they stand in the text (a line break of two "
        "as two), without a byte-order mark.",
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
    s.add_argument("--checksum", action="store_true", help="also write OUTPUT.sha256, checked when it is read again")
    s.add_argument("--lines", action="store_true", help="a line break ends a sentence of raw text, too")
    s.add_argument("--html", type=Path, metavar="FILE", help="also draw entities and relations as a page")

    s = step(
        "export",
        steps.export,
        "write a trained run as the authors' released code loads it: SINET, SpERT, PFN, PURE",
        "State dict under the released names, encoder, vocabulary, types, and a README.md with the options there. "
        "Example: python -m sinet export --run results/scierc/scibert/sinet/0 --released released/sinet",
    )
    s.add_argument("--run", type=Path, required=True, metavar="DIR", help="a trained run's folder, encoder a BERT")
    s.add_argument("--released", type=Path, required=True, metavar="DIR", help="new folder to write")

    s = step(
        "import",
        steps.import_,
        "make a run of weights in the form of the authors' released code; `predict` reads it",
        "What their files do not say (settings, encoder, tokenizer, and types where they lack) is taken from another "
        "run. Weights are read as plain tensors; a pickle with code in it is refused. Example: python -m sinet import "
        "--released final_model --like results/scierc/scibert/sinet/0 --out runs/theirs",
    )
    s.add_argument(
        "--released",
        type=Path,
        required=True,
        metavar="PATH",
        help="their folder with pytorch_model.bin (PURE: entity/ and relation/), or the file alone, types beside it",
    )
    s.add_argument("--like", type=Path, required=True, metavar="DIR", help="a run of the same system and encoder")
    s.add_argument("--out", type=Path, required=True, metavar="DIR", help="the new run's folder")


def _score_steps(step: Step) -> None:
    for name, run, help in (
        ("score", steps.score, "score predictions against gold: Ent, Rel, Rel+; prints JSON"),
        ("analyse", steps.analyse, "errors of predictions by kind, with examples, and figures by slice; prints JSON"),
    ):
        s = step(name, run, help)
        s.add_argument(
            "--gold", type=Path, required=True, metavar="FILE", help="gold sentences, in a form that `check` reads"
        )
        s.add_argument("--predictions", type=Path, required=True, metavar="FILE", help="the same sentences, predicted")
        s.add_argument(
            "--labels", type=Path, metavar="FILE", help="labels.json of the dataset; default: beside --gold, if there"
        )
        s.add_argument(
            "--symmetric", nargs="*", metavar="TYPE", help="relation types without a direction, for want of it"
        )
        s.add_argument("--out", type=Path, metavar="FILE", help="write the JSON here instead of printing it")

    s = step(
        "compare",
        steps.compare,
        "compare the reference with each system and the steps of its ablation: bootstrap and variance of runs, Holm",
        "Where dataset, encoder and recipe are the same.",
    )
    _of_plan(s)
    s.add_argument(
        "--resamples", type=_at_least(1, 1_000_000), default=10_000, metavar="N", help="of the test sentences (10000)"
    )
    s.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON to write")

    s = step("evaluate", steps.evaluate, "score and analyse a run's predictions: its record.json and analysis.json")
    s.add_argument("--training", type=Path, required=True, metavar="FILE", help="training.json of the run")
    s.add_argument("--gold", type=Path, required=True, metavar="FILE", help="the split that was predicted")
    s.add_argument("--labels", type=Path, required=True, metavar="FILE", help="labels.json of the dataset")
    s.add_argument("--predictions", type=Path, required=True, metavar="FILE", help="what the run predicted of it")
    s.add_argument("--record", type=Path, required=True, metavar="FILE", help="record.json to write")
    s.add_argument("--analysis", type=Path, required=True, metavar="FILE", help="analysis.json to write")


def _efficiency_steps(step: Step) -> None:
    for name, run, help in (
        ("flops", steps.flops, "count multiply-adds of inference over a split (fvcore)"),
        ("time", steps.time, "time inference over a split, from token ids to triples; needs the machine for itself"),
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
            s.add_argument(
                "--seconds",
                type=_above_zero("of seconds "),
                default=10.0,
                metavar="S",
                help="at least, for each pass (10)",
            )
            s.add_argument(
                "--untrained",
                default="[]",
                metavar="JSON",
                help="[declared architecture, N] pairs to time every system in too, on N sentences (null: all)",
            )
        if name == "flops":
            s.add_argument(
                "--words",
                type=_at_least(1, 10_000),
                nargs="*",
                default=[],
                metavar="N",
                help="lengths counted besides, in words",
            )
            s.add_argument(
                "--untrained",
                default="[]",
                metavar="JSON",
                help="[declared architecture, N] pairs to count every system in too, on N sentences (null: all)",
            )

    s = step(
        "bench",
        steps.bench,
        "measure the trained systems of a grid against their encoder and the machine",
        "Not the steps of the ablation. Needs the machine for itself. Prints one table and writes bench.json.",
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
        steps.attend,
        "cross-task attention of a trained run over a split, sentence by sentence",
        "A system without an attention map leaves its sentences empty.",
    )
    s.add_argument("--run", type=Path, required=True, metavar="DIR", help="a trained run's folder")
    s.add_argument("--test", type=Path, required=True, metavar="FILE", help="sentences, JSON lines; labels are ignored")
    s.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON to write")

    s = step(
        "case-study", steps.case_study, "find the sentences of the case study by rules, with every system's predictions"
    )
    _of_plan(s)
    s.add_argument(
        "--sentences",
        nargs="+",
        required=True,
        metavar="RULE",
        help="only-right, out-of-triple, hard-failure, or ids of sentences",
    )
    s.add_argument("--caption", required=True, help="whose attention this is, in words for the captions")
    s.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON to write")

    s = step(
        "find-triples",
        steps.find_triples,
        "find the sentences of the case study by gold triples, attend and predict them",
        "Searches all splits of the prepared datasets; what none of them holds is said.",
    )
    s.add_argument("--triples", required=True, metavar="JSON", help="[[head, TYPE, tail], ...] in words")
    s.add_argument(
        "--places", required=True, metavar="JSON", help="datasets to search: title, what, data, runs compared by model"
    )
    s.add_argument("--model", required=True, metavar="NAME", help="the studied one of them")
    s.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON to write")

    s = step(
        "attention-shares",
        steps.attention_shares,
        "share of cross-task attention on words of in-triple entities, of out-of-triple entities, on other words",
        "By direction and head, against uniform attention, with bootstrap intervals over sentences.",
    )
    _of_plan(s)
    s.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON to write")

    s = step(
        "group-scores",
        steps.group_scores,
        "NER precision, recall and F1 of in-triple and of out-of-triple entities",
        "Mean over the seeds of each model, with bootstrap intervals over sentences.",
    )
    _of_plan(s)
    s.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON to write")


def _paper_steps(step: Step) -> None:
    s = step(
        "tables",
        steps.tables,
        "write the tables of a grid (csv, md, tex, and json for the page)",
        "Main, ablation, published against measured, significance, efficiency, types, slices, errors.",
    )
    _of_plan(s)
    s.add_argument("--comparisons", type=Path, required=True, metavar="FILE", help="what `compare` wrote")
    s.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")

    s = step("plot-attention", steps.plot_attention, "draw the case study (pdf, png), each sentence with its caption")
    s.add_argument(
        "--cases", type=Path, nargs="+", required=True, metavar="FILE", help="what `case-study`, `find-triples` wrote"
    )
    _of_plan(s)
    s.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for attention_1.pdf and so on")

    s = step("plot-claim", steps.plot_claim, "tables (csv, md, tex) and figure of attention shares and of NER by group")
    s.add_argument("--shares", type=Path, required=True, metavar="FILE", help="what `attention-shares` wrote")
    s.add_argument("--groups", type=Path, required=True, metavar="FILE", help="what `group-scores` wrote")
    _of_plan(s)
    s.add_argument("--tables", type=Path, required=True, metavar="DIR", help="folder for the tables")
    s.add_argument("--figures", type=Path, required=True, metavar="DIR", help="folder for the figure")

    s = step("plot-flops", steps.plot_flops, "draw FLOPs against sentence length (pdf, png) with a caption")
    s.add_argument("--flops", type=Path, required=True, metavar="FILE", help="what `flops` wrote")
    _of_plan(s, "--dataset", "--encoder")
    s.add_argument("--out", type=Path, required=True, metavar="STEM", help="path without its ending")

    s = step(
        "plot-results",
        steps.plot_results,
        "draw learning curves, F1 by sentence length and significance on one dataset and encoder",
    )
    _of_plan(s, "--dataset", "--encoder")
    s.add_argument("--comparisons", type=Path, required=True, metavar="FILE", help="what `compare` wrote")
    s.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")

    s = step("plot-speed", steps.plot_speed, "draw F1 against sentences a second on one dataset and encoder")
    _of_plan(s, "--dataset", "--encoder")
    s.add_argument("--timing", type=Path, required=True, metavar="FILE", help="what `time` wrote")
    s.add_argument("--out", type=Path, required=True, metavar="STEM", help="the figure without its ending")

    s = step(
        "report",
        steps.report,
        "one self-contained HTML page of a finished grid: tables, figures, every sentence with its predictions",
        "The workflow calls it: make report.",
    )
    _of_plan(s)
    s.add_argument("--out", type=Path, required=True, metavar="FILE", help="the page")


def _grid_steps(step: Step) -> None:
    s = step("summary", steps.summary, "print the main table of a finished grid and the paths of what it made")
    s.add_argument("--config", type=Path, action="append", default=[], metavar="FILE", help="laid over config.yaml")

    s = step(
        "keep",
        steps.keep,
        "keep the finished runs of grids without their weights: what tables and figures are made of, to be published",
    )
    s.add_argument("--configs", type=Path, nargs="+", required=True, metavar="FILE", help="the grids")
    s.add_argument("--out", type=Path, metavar="DIR", help="default: what each configuration names as `kept:`")

    s = step("restore", steps.restore, "put files of a kept run where its training and prediction had put them")
    s.add_argument("--kept", type=Path, required=True, metavar="DIR", help="the kept run")
    s.add_argument("--files", nargs="+", required=True, metavar="NAME", help="which of them, as the run had them")
    s.add_argument("--out", type=Path, required=True, metavar="DIR", help="the run's folder")

    s = step(
        "results",
        steps.results,
        "write results/README.md: tables and figures of finished grids, and how they were made",
    )
    s.add_argument("--configs", type=Path, nargs="+", required=True, metavar="FILE", help="the grids, in this order")
    s.add_argument("--out", type=Path, default=Path("results/README.md"), metavar="FILE", help="Markdown to write")


def _of_plan(s: argparse.ArgumentParser, *place: str) -> None:
    """The plan of a grid, and where the runs of a step stand in it."""
    s.add_argument("--plan", type=Path, required=True, metavar="FILE", help="plan.json in the grid's results folder")
    for option in place:
        s.add_argument(option, required=True, metavar="NAME", help="of the runs")


def _above_zero(what: str = "") -> Callable[[str], float]:
    def number(text: str) -> float:
        try:
            if 0 < float(text) < math.inf:
                return float(text)
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"{shown(text)} should be a number {what}above 0")

    return number


def _at_least(least: int, most: int = 1_000_000_000) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or len(text) > len(str(most)) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(
                f"{shown(text)} should be a whole number of at least {least} and at most {most}"
            )
        return int(text)

    return number


if __name__ == "__main__":
    sys.exit(main())
