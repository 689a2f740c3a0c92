"""Preparing a dataset: obtain its files, read them, check types and counts, write one format and a card."""

import dataclasses
import json
import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from sinet.data.ace import Lost, find_documents, read_documents
from sinet.data.card import card_markdown, check_counts, count, missed_types, shared_sentences, table_checksum
from sinet.data.decode import read_text
from sinet.data.formats import read
from sinet.data.parse import parsed, parser, parser_licence
from sinet.data.sentence import Labels, Sentence, absences, ask_absence, without_relations, write_sentences
from sinet.data.sources import find_file, obtain_file, release_folders, source_of
from sinet.errors import UserError, nearest
from sinet.files import write_sum
from sinet.mirrors import mirror_folders
from sinet.provenance import digest_of, file_sha256
from sinet.schema import Dataset

log = logging.getLogger("sinet")

SPLITS = ("train", "dev", "test")
BRACKETS = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]"}
"""Penn-treebank escapes; the braces' stand in the sentence-level SciERC, so they stay."""


def prepare(name: str, declared: Dataset, mirrors: Sequence[str], out: Path, parses: bool = False) -> dict:
    """Write `{train,dev,test}.jsonl`, `labels.json`, `card.json` and `card.md` of a declared dataset into `out`; with
    `parses` every sentence has one, its file's or else `sinet.data.parse`'s.

    Returns:
        the card.

    Raises:
        UserError: a file that cannot be had or read, an undeclared type, counts other than declared, or a parser that
            is not installed; nothing is written then.
    """
    labels = declared_labels(declared)
    splits, files, notes = _read_splits(name, declared, mirrors)
    if empty := [split for split, sentences in splits.items() if not sentences]:
        raise UserError(f"{name}: no sentence in {', '.join(empty)}; every split needs some")
    if declared.no_relation:
        splits, note = _without_relations(splits, declared.no_relation)
        notes = [*notes, note]
    if declared.unescape_ptb:
        splits = {split: [with_brackets(s) for s in sentences] for split, sentences in splits.items()}
    if declared.overlapping == "removed":
        splits = {split: [without_overlap(s) for s in sentences] for split, sentences in splits.items()}
    counted = {split: count(sentences, labels) for split, sentences in splits.items()}
    if not any(counted["train"]["entities"].values()):
        log.warning("%s: no entity in the training split; `python -m sinet check` describes its files", name)
    if loops := [s.id for sentences in splits.values() for s in sentences for r in s.relations if r.head == r.tail]:
        log.warning(
            "%s: relations of an entity to itself, such as in sentence %s: %d; systems that classify pairs of spans "
            "never predict these",
            *(name, loops[0], len(loops)),
        )
    if asked := absences(labels.relation_types):
        log.warning("%s: %s", name, ask_absence(asked))
    for what in missed_types(counted.values()):
        log.warning("%s: %s", name, what)
    for split, expected in (declared.declared().get("counts") or {}).items():
        check_counts(name, split, counted[split], expected)
    if declared.first:
        splits = {split: sentences[: getattr(declared.first, split)] for split, sentences in splits.items()}
        counted = {split: count(sentences, labels) for split, sentences in splits.items()}
    if parses:
        splits = {split: parsed(sentences) for split, sentences in splits.items()}
        notes = [*notes, f"Parts of speech and dependencies: {parser()}; {parser_licence()} licence."]
    else:
        splits = {split: [s.without_parse() for s in sentences] for split, sentences in splits.items()}
    card = {
        "name": name,
        "title": declared.title,
        "labels": labels.to_json(),
        "first": declared.first and declared.first.declared(),
        "splits": counted,
        "shared_sentences": shared_sentences(splits),
        "files": files,
        "notes": notes,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=out.parent) as folder:
        made = Path(folder)
        for split, sentences in splits.items():
            write_sentences(made / f"{split}.jsonl", sentences)
        for file, record in (("labels.json", labels.to_json()), ("card.json", card)):
            (made / file).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        for path in sorted(made.iterdir()):
            write_sum(path)
        (made / "card.md").write_text(card_markdown(card), encoding="utf-8")
        out.mkdir(exist_ok=True)
        for path in made.iterdir():
            path.replace(out / path.name)
    return card


def _read_splits(name: str, declared: Dataset, mirrors: Sequence[str]) -> tuple[dict, list[dict], list[str]]:
    """The sentences of each split in the order of its files, which files they were, and notes for the card.

    A split is one file or several; `dev` may be a share of the training split instead, its last sentences.
    """
    if declared.format == "ace":
        return _read_ace(name, declared, mirrors)
    labels, no_relation = declared_labels(declared), declared.no_relation or []
    if both := sorted(set(no_relation) & set(labels.relation_types)):
        raise UserError(f"{name}: no_relation: {both[0]!r} is one of relation_types, too; remove it from one of them")
    labels = dataclasses.replace(labels, relation_types=(*labels.relation_types, *no_relation))
    splits, files = _by_split(name, declared, mirrors, lambda path: read(path, declared.format, labels))
    return splits, files, _against_published(splits, declared)


def split_at_hand(name: str, declared: Dataset, mirrors: Sequence[str], split: str) -> list[Sentence] | None:
    """The sentences of a split with their words as prepared, before it is; None where that takes a download or the
    release of a licensed corpus."""
    files = declared.files.of(split)
    paths = [find_file(declared.folder or name, file.path, mirrors) for file in files]
    if declared.format == "ace" or not all(paths):
        return None
    sentences = [sentence for path in filter(None, paths) for sentence in read(path, declared.format)]
    if declared.unescape_ptb:
        sentences = [with_brackets(sentence) for sentence in sentences]
    return sentences[: getattr(declared.first, split) if declared.first else None]


def _without_relations(splits: dict[str, list[Sentence]], types: Sequence[str]) -> tuple[dict, str]:
    """The splits without relations of these types, and how many those are."""
    kept = {split: [without_relations(s, types) for s in sentences] for split, sentences in splits.items()}
    before, after = (sum(len(s.relations) for each in of.values() for s in each) for of in (splits, kept))
    return kept, f"Skipped as the absence of a relation ({', '.join(types)}): {before - after:,}."


def _by_split(
    name: str, declared: Dataset, mirrors: Sequence[str], read_one: Callable[[Path], list]
) -> tuple[dict[str, list], list[dict]]:
    """What the files of each split hold, and which files they were; without a dev file the last of train are held
    out."""
    items: dict[str, list] = {}
    files = []
    for split in (split for split in SPLITS if declared.files.of(split)):
        items[split] = []
        for file in declared.files.of(split):
            path = obtain_file(declared.folder or name, file, mirrors, others=declared.files.all())
            items[split] += read_one(path)
            files.append({"split": split, "path": file.path, "sha256": file_sha256(path)})
    if "dev" not in items:
        held = max(1, round(len(items["train"]) * (declared.dev_share or 0)))
        items["train"], items["dev"] = items["train"][:-held], items["train"][-held:]
    return {split: items[split] for split in SPLITS}, files


def _read_ace(name: str, declared: Dataset, mirrors: Sequence[str]) -> tuple[dict, list[dict], list[str]]:
    """The splits of an ACE corpus: lists of documents in `files`, the documents in a mirror's `release` folder."""
    folders = release_folders(declared.release or "", mirrors)
    if not folders:
        places = ", ".join(str(folder / (declared.release or "")) for folder in mirror_folders(mirrors))
        raise UserError(f"{name}: no *.apf.xml below any of {places}; put the folder of {declared.licence} there")
    found = find_documents(folders)
    names, files = _by_split(name, declared, mirrors, lambda path: read_text(path).split())
    lost, labels, header = Lost(), declared_labels(declared), declared.header is not False
    splits = {
        split: read_documents(names[split], found, header, lost, labels, f"{name}'s {split} split") for split in SPLITS
    }
    log.info("%s: %s", name, lost.summary())
    listed = Counter(document for documents in names.values() for document in documents)
    used = sorted(listed)
    if several := [document for document in used if listed[document] > 1]:
        log.warning("%s: documents that are listed more than once, such as %s: %d", name, several[0], len(several))
    digest = digest_of({name: [file_sha256(path) for path in (found[name], source_of(found[name]))] for name in used})
    notes = [
        f"Annotations and sources: {len(used)} documents, digest {digest}.",
        "Sentences and words: spaCy's rules; the published systems used CoreNLP 3.5.2.",
        *lost.notes(),
    ]
    return splits, files, notes + _against_published(splits, declared)


def _against_published(splits: dict[str, list[Sentence]], declared: Dataset) -> list[str]:
    """Differences from the published figures, with their size: none in files that were prepared as those were, some
    where another splitter gives other sentences."""
    labels = declared_labels(declared)
    lines = []
    for split, expected in (declared.published_counts or {}).items():
        sentences = [s for each in splits.values() for s in each] if split == "all" else splits[split]
        counted = count(sentences, labels)
        figures = {what: counted[what] for what in ("sentences", "tokens")}
        for field in ("entities", "relations"):
            figures[field] = sum(counted[field].values())
            figures |= {f"{field} {kind}": n for kind, n in counted[field].items()}
        if any(key.startswith("table ") for key in expected):
            none = dict.fromkeys((*labels.entity_types, *labels.relation_types), 0)
            checksum = none | table_checksum(sentences, labels.symmetric)
            figures |= {f"table {kind}": n for kind, n in checksum.items()}
        for what, published in expected.items():
            if what not in figures:
                raise UserError(f"published_counts.{split}: {what!r} is not a figure, {nearest(what, figures)}")
            ours = figures[what]
            lines.append(f"- {split}, {what}: {ours:,}, published {published:,} ({ours - published:+,})")
    return ["", "Against published figures:", "", *lines] if lines else []


def declared_labels(declared: Dataset) -> Labels:
    """The types of a declared dataset."""
    types = tuple(declared.entity_types), tuple(declared.relation_types)
    return Labels(*types, frozenset(declared.symmetric or ()))


def with_brackets(sentence: Sentence) -> Sentence:
    """The sentence with brackets for their Penn-treebank escapes."""
    return dataclasses.replace(sentence, tokens=tuple(BRACKETS.get(word, word) for word in sentence.tokens))


def without_overlap(sentence: Sentence) -> Sentence:
    """The sentence with, of entities that share a word, only the one that starts first (the longer one where two
    start together), and without the relations of the others."""
    taken: set[int] = set()
    kept: list[int] = []
    for i in sorted(
        range(len(sentence.entities)), key=lambda i: (sentence.entities[i].start, -sentence.entities[i].end)
    ):
        words = set(range(sentence.entities[i].start, sentence.entities[i].end))
        if not words & taken:
            taken |= words
            kept.append(i)
    number = {i: n for n, i in enumerate(sorted(kept))}
    return sentence.with_labels(
        (sentence.entities[i] for i in number),
        (
            dataclasses.replace(r, head=number[r.head], tail=number[r.tail])
            for r in sentence.relations
            if r.head in number and r.tail in number
        ),
    )
