"""Commands on one run: train it, predict with it, exchange it with the authors' released code."""

from os.path import realpath  # pathlib's `resolve` raises for a loop of links
from pathlib import Path
from typing import Annotated

from sinet.cli import Json, Language, Mirrors, Option, PlanFile, PlannedRun, Run, command, read_plan, readable
from sinet.errors import UserError
from sinet.files import read_sealed, write_sealed, write_sum

NewFolder = Annotated[Path, Option("new folder to write", "DIR")]
State = Annotated[Path, Option("resumable states", "DIR")]


@command
def train(
    run: PlannedRun,
    plan: PlanFile,
    out: Annotated[Path | None, Option("the run's folder; default: in the plan's", "DIR")] = None,
    data: Annotated[Path | None, Option("a prepared dataset; default: in the plan's folder", "DIR")] = None,
    state: State = Path("state"),
    mirrors: Mirrors = None,
) -> None:
    """Train one run; an interrupted run continues from its last checkpoint. Writes model.safetensors, model.json,
    tokenizer/, log.csv and training.json. Example: sinet train mine/minilm/sinet/0 --plan results/mine/plan.json"""
    read = read_plan(plan)
    spec = read.spec(run)
    from sinet.train.trainer import train_run

    data = data or read.results / "data" / spec.dataset
    train_run(spec, data, out or read.file(run, ""), state, read.config.mirrors if mirrors is None else mirrors)


@command
def predict(
    run: Run,
    input: Annotated[
        Path | None,
        Option(
            '.txt: raw text; .jsonl: a line {"text": "..."} of raw text, or {"tokens": [...]}, whose labels are '
            "ignored but for the entities of --gold-entities"
        ),
    ] = None,
    text: Annotated[str | None, Option("text to read; its triples are printed", "TEXT")] = None,
    out: Annotated[Path | None, Option("JSON lines to write, a sentence a line; default: print it")] = None,
    checksum: Annotated[bool, Option("also write OUT.sha256, checked when it is read again")] = False,
    lines: Annotated[bool, Option("a line break ends a sentence of raw text, too")] = False,
    pdf: Annotated[
        bool,
        Option("raw text is of a PDF: words hyphenated across lines are joined, headings are no part of sentences"),
    ] = False,
    language: Language = "en",
    html: Annotated[Path | None, Option("also draw entities and relations as a page")] = None,
    gold_entities: Annotated[bool, Option("decide relations between the entities that the input has")] = False,
    threshold: Annotated[float | None, Option("least score of a relation, 0 to 1; default: the system's", "X")] = None,
    thresholds: Annotated[Path | None, Option("least scores by type, as `sinet thresholds` writes them")] = None,
    also_gold_entities: Annotated[
        bool, Option("predict, and beside it decide those relations as well, where the system can")
    ] = False,
) -> None:
    """Predict sentences or raw text with a trained run. A run's folder needs nothing else: it can be copied to another
    machine. Raw text is divided into sentences at their punctuation and at blank lines. Offsets count characters as
    they stand in the text (a line break of two as two), without a byte-order mark. Example: sinet predict --run
    results/mine/runs/mine/minilm/sinet/0 --text 'Ann lives in Paris.'"""
    from sinet.data.text import rules
    from sinet.infer.finished import described

    if (input is None) == (text is None):
        raise UserError("--input, --text: give one of them")
    if lines and pdf:
        raise UserError("--lines, --pdf: give one of them; lines of a PDF do not end sentences")
    if gold_entities and also_gold_entities:
        raise UserError("--gold-entities, --also-gold-entities: give one of them")
    if text is not None and (gold_entities or also_gold_entities):
        raise UserError("--gold-entities: --text gives no entities; annotate sentences of words")
    if input is not None:
        if out is None and (html or checksum):
            raise UserError("--out: name the file to write, besides --html or --checksum")
        if input.suffix not in (".txt", ".jsonl"):
            raise UserError(f"--input {input}: should end in .txt (raw text) or .jsonl (JSON lines)")
        readable(input)
    _check_targets(run, {"--input": input, "--thresholds": thresholds}, out, html)
    described(run)  # so is a run that is none
    if threshold is not None and thresholds is not None:
        raise UserError("--threshold, --thresholds: give one of them")
    least = thresholds if threshold is None else threshold
    for path in filter(None, (out, html)):
        path.parent.mkdir(parents=True, exist_ok=True)
    if input is None:
        rules(language)
        _predict_text(run, str(text), lines, language, pdf, out, html, least)
        return
    from sinet.infer.extract import draw_file, extract_file, holds_texts
    from sinet.infer.predict import predict_file

    if input.suffix == ".txt" or holds_texts(input):
        if gold_entities or also_gold_entities:
            raise UserError(f"--gold-entities: {input} is raw text and gives no entities; annotate sentences of words")
        rules(language)
        extract_file(run, input, out, html, lines, language, least, pdf)
        return
    for option, given in (("--lines", lines), ("--pdf", pdf), ("--language", language != "en")):
        if given:
            raise UserError(f"{option}: {input} holds sentences of words; it is for raw text")
    predict_file(run, input, out, gold_entities=gold_entities, also_gold_entities=also_gold_entities, thresholds=least)
    if out and checksum:
        write_sum(out)
    if out and html:
        draw_file(run, out, html, input.name)


def _check_targets(run: Path, read: dict[str, Path | None], out: Path | None, html: Path | None) -> None:
    """Refuse to write over what is read, or both outputs into one file."""
    made = ("training.json", "log.csv", "record.json", "analysis.json", "attention.json")
    of_run = (*run.glob("model.*"), *run.glob("tokenizer/*"), *(run / name for name in made))
    taken = {realpath(path): f"a file of --run {run}" for path in of_run}
    taken |= {realpath(path): option for option, path in read.items() if path is not None}
    for name, path in (("--out", out), ("--html", html)):
        if path is not None:
            if path.is_dir():
                raise UserError(f"{name} {path}: is a folder; name a file in it")
            if realpath(path) in taken:
                raise UserError(f"{name} {path}: is {taken[realpath(path)]} as well; name another file")
            taken[realpath(path)] = name


def _predict_text(
    run: Path,
    text: str,
    lines: bool,
    language: str,
    pdf: bool,
    out: Path | None,
    html: Path | None,
    thresholds: float | Path | None,
) -> None:
    from sinet import machine
    from sinet.files import json_line, write_atomically, write_text
    from sinet.infer import draw
    from sinet.infer.extract import Predictor

    machine.use_device()
    predictor = Predictor(run, thresholds)
    found = predictor.predict(text, lines, language, pdf)
    print("\n".join(sentence.readable() for sentence in found) or "no words in the text")
    if html:

        def write(partial: Path) -> None:
            with draw.page(partial, "Triples", predictor.labels) as add:
                for sentence in found:
                    add(sentence.drawing(predictor.labels))

        write_atomically(html, write)
    if out:
        write_text(out, "".join(json_line(sentence.as_json()) for sentence in found))


@command
def thresholds(
    run: Run,
    data: Annotated[Path, Option("the prepared dataset; its dev split is read, never the test split", "DIR")],
    out: Annotated[Path | None, Option("OUT.json, .csv, .pdf, .png; default: RUN/thresholds", "STEM")] = None,
) -> None:
    """Choose thresholds of relations by type on dev. They maximise micro F1 of Rel+ there; `predict --thresholds` takes
    the JSON. Beside it the curve of precision and recall and the calibration of the scores, as csv and figure. Example:
    sinet thresholds --run results/mine/runs/mine/minilm/sinet/0 --data results/mine/data/mine"""
    from sinet.data.sentence import Labels, read_sentences
    from sinet.infer.finished import check_has_thresholds, run_labels

    check_has_thresholds(run)
    if (labels := run_labels(run)) != Labels.read(data / "labels.json"):
        raise UserError(f"--data {data}: has other types than the run; give the dataset that it was trained on")
    if not labels.relation_types:
        raise UserError(f"--run {run}: has no relation types")
    training = run / "training.json"
    if training.is_file() and read_sealed(training, "trained_on")["trained_on"] != "train":
        raise UserError(f"--run {run}: was trained on dev as well, so nothing can be chosen there")
    if not (dev := read_sentences(data / "dev.jsonl")):
        raise UserError(f"{data / 'dev.jsonl'}: no sentence in it")
    from sinet.infer.predict import choose_thresholds
    from sinet.report.thresholds import draw_thresholds

    made = choose_thresholds(run, dev)
    stem = out or run / "thresholds"
    draw_thresholds(made.pop("curve"), made["calibration"], made["rel_plus"], stem)
    write_sealed(stem.with_suffix(".json"), made)
    scores = ", ".join(f"{of['f1']:.2f} with {name}" for name, of in made["rel_plus"].items())
    print(f"Rel+ F1 on dev ({len(dev)} sentences): {scores}; {stem.with_suffix('.json')}")


@command
def attend(run: Run, input: Annotated[Path, Option("sentences, JSON lines; labels are ignored")], out: Json) -> None:
    """Cross-task attention of a trained run over a split, sentence by sentence. A system without an attention map
    leaves its sentences empty."""
    from sinet.infer.attend import attend

    attend(run, input, out)


@command
def export(run: Run, out: NewFolder) -> None:
    """Write a trained run as the authors' released code loads it: SINET, SpERT, PFN, PURE. State dict under the
    released names, encoder (a BERT), vocabulary, types, and a README.md with the options there. Example: sinet export
    --run results/mine/runs/mine/scibert/sinet/0 --out released"""
    from sinet.infer.released import export_run

    export_run(run, out)


@command
def publish(
    run: Annotated[Path, Option("a finished run's folder in a grid's results", "DIR")],
    out: NewFolder,
    licence: Annotated[str, Option("of the weights, as the hub names it, such as cc-by-4.0", "NAME")],
    language: Annotated[str, Option("of the data, by its code", "CODE")] = "en",
) -> None:
    """Write a folder for a model hub: weights, tokenizer, a model card made from the run's record. `sinet.load` reads
    it. Example: sinet publish --run results/mine/runs/mine/minilm/sinet/0 --licence cc-by-4.0 --out sinet-mine"""
    from sinet.infer.publish import publish

    publish(run, licence, language, out)
    print(f"{out}: nothing was uploaded; where a hub can be reached: hf upload USER/NAME {out}")


@command
def import_(
    released: Annotated[
        Path,
        Option(
            "their folder with pytorch_model.bin (PURE: entity/ and relation/), or the file alone, types beside it",
            "PATH",
        ),
    ],
    like: Annotated[Path, Option("a run of the same system and encoder", "DIR")],
    out: Annotated[Path, Option("the new run's folder", "DIR")],
) -> None:
    """Make a run of weights in the form of the authors' released code; `predict` reads it. What their files do not say
    (settings, encoder, tokenizer, and types where they lack) is taken from another run. Weights are read as plain
    tensors; a pickle with code in it is refused. Example: sinet import --released final_model --like
    results/mine/runs/mine/scibert/sinet/0 --out theirs"""
    from sinet.infer.released import import_run

    import_run(released, like, out)
