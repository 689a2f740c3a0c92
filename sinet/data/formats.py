"""Readers for the published file formats.

Each form is a pair: how a file falls into records, and what sentences a record holds, as dictionaries in the project's
own form (`sinet.data.sentence`). Reading stops at the first mistake; `sinet.data.check` goes on and lists them all.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sinet.data.sentence import Sentence, parse_sentence
from sinet.errors import UserError

BRACKETS = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]"}
"""Penn-treebank escapes, undone when DyGIE's form is read; braces stay escaped, as in the sentence-level SciERC."""


@dataclass(frozen=True)
class Fault:
    """A mistake in a file: field (may be empty) and what would be right; its place goes beside it."""

    field: str
    what: str

    def __str__(self) -> str:
        return f"{self.field}: {self.what}" if self.field else self.what


# -- files into records --------------------------------------------------------------------------------------------


def read_text(path: Path) -> str:
    """The file as text; raises `UserError` naming line and byte where it is not UTF-8."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}: not UTF-8 (byte {error.start}); convert the file to UTF-8") from None


def json_lines(text: str) -> Iterator[tuple[int, object | Fault]]:
    """Line number and record, or the fault of a broken line."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                yield number, Fault("", f"broken JSON: {error.msg} at column {error.colno}")


def json_array(text: str) -> Iterator[tuple[int, object | Fault]]:
    """Line number and element of an array; what stands before a fault is still given."""
    decoder, position, line, counted = json.JSONDecoder(), 0, 1, 0

    def skip(position: int) -> int:
        while position < len(text) and text[position] in " \t\r\n":
            position += 1
        return position

    position = skip(0)
    if text[position : position + 1] != "[":
        yield 1, Fault("", "should be a JSON array of sentences; for JSON lines declare `format: jsonl`")
        return
    position = skip(position + 1)
    expected = text[position : position + 1] != "]"
    while expected:
        line, counted = line + text.count("\n", counted, position), position
        try:
            element, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            yield error.lineno, Fault("", f"broken JSON: {error.msg} at column {error.colno}")
            return
        yield line, element
        position = skip(position)
        expected = text[position : position + 1] == ","
        if expected:
            position = skip(position + 1)
    where = text.count("\n", 0, position) + 1
    if text[position : position + 1] != "]":
        yield where, Fault("", "broken JSON: a comma or the array's closing bracket is missing")
    elif text[position + 1 :].strip():
        yield where, Fault("", "broken JSON: something follows the array")


# -- records into sentences ----------------------------------------------------------------------------------------


def own_sentences(record: object) -> Iterator[dict | Fault]:
    """The project's own form: a record is a sentence."""
    yield record


def spert_sentences(record: object) -> Iterator[dict | Fault]:
    """SpERT's form is ours, with `orig_id` naming the document where there is one."""
    if isinstance(record, dict) and isinstance(record.get("orig_id"), str):
        record = {"document": record["orig_id"]} | record
    yield record


def two_sentences(record: object) -> Iterator[dict | Fault]:
    """Two are Better than One: entities `[start, end, type]`, relations `[start, end, start, end, type]`, ends
    exclusive; a relation names its arguments by their spans."""
    if not isinstance(record, dict):
        yield record
        return
    entities, relations = record.get("entities", []), record.get("relations", [])
    if not all(isinstance(e, list) and len(e) == 3 for e in entities):
        yield Fault("entities", "should be a list of [start, end, type]")
        return
    if not all(isinstance(r, list) and len(r) == 5 for r in relations):
        yield Fault("relations", "should be a list of [start, end, start, end, type]")
        return
    place = {}
    for i, (start, end, _) in enumerate(entities):
        place.setdefault((start, end), i)
    missing = [i for i, r in enumerate(relations) if not {(r[0], r[1]), (r[2], r[3])} <= place.keys()]
    for i in missing:
        yield Fault(f"relations[{i}]", f"{relations[i]} names a span that is no entity of the sentence")
    yield record | {
        "entities": [{"type": kind, "start": start, "end": end} for start, end, kind in entities],
        "relations": [
            {"type": r[4], "head": place[r[0], r[1]], "tail": place[r[2], r[3]]}
            for i, r in enumerate(relations)
            if i not in missing
        ],
    }


def dygie_sentences(record: object) -> Iterator[dict | Fault]:
    """DyGIE's and PURE's form: a document of `sentences`, with `ner` [start, end, type], `relations` [start, end,
    start, end, type] and `clusters` [[start, end], ...], offsets counted through the document, ends inclusive."""
    if not isinstance(record, dict) or not isinstance(record.get("sentences"), list):
        yield Fault("sentences", "should be a list of sentences, each a list of words")
        return
    sentences, name = record["sentences"], str(record.get("doc_key", record.get("doc_id", "document")))
    ner = record.get("ner") or [[] for _ in sentences]
    related = record.get("relations") or [[] for _ in sentences]
    for field, parts in (("ner", ner), ("relations", related)):
        if not isinstance(parts, list) or len(parts) != len(sentences):
            yield Fault(field, f"should hold one list for each of the {len(sentences)} sentences")
            return
    base = 0
    for number, words in enumerate(sentences):
        if not isinstance(words, list):
            yield Fault(f"sentences[{number}]", "should be a list of words")
            return
        place, entities = {}, []
        for start, end, kind in (e[:3] for e in ner[number]):
            place.setdefault((start, end), len(entities))
            entities.append({"type": kind, "start": start - base, "end": end - base + 1})
            if end - base == len(words):
                yield Fault(f"ner[{number}]", f"[{start}, {end}] ends behind the sentence; ends are inclusive here")
        relations = []
        for i, (a, b, c, d, kind) in enumerate(r[:5] for r in related[number]):
            if (a, b) in place and (c, d) in place:
                relations.append({"type": kind, "head": place[a, b], "tail": place[c, d]})
            else:
                yield Fault(f"relations[{number}][{i}]", f"[{a}, {b}, {c}, {d}] names a span that is no entity")
        mentions = [
            [start - base, end - base + 1, cluster]
            for cluster, spans in enumerate(record.get("clusters") or [])
            for start, end in (span[:2] for span in spans)
            if base <= start and end < base + len(words)
        ]
        yield {
            "id": f"{name}-{number}",
            "tokens": [BRACKETS.get(word, word) for word in words],
            "entities": entities,
            "relations": relations,
            "document": name,
            "coreference": sorted(mentions),
        }
        base += len(words)


@dataclass(frozen=True)
class Form:
    """A published file format: its name for people, how a file falls into records, and a record into sentences."""

    title: str
    records: Callable[[str], Iterator[tuple[int, object | Fault]]]
    sentences: Callable[[object], Iterator[dict | Fault]]


FORMS = {
    "jsonl": Form("JSON lines, one sentence a line", json_lines, own_sentences),
    "spert": Form("SpERT's JSON array", json_array, spert_sentences),
    "dygie": Form("DyGIE's and PURE's JSON lines, one document a line", json_lines, dygie_sentences),
    "two": Form("Two are Better than One's JSON array", json_array, two_sentences),
}
"""Format name in a dataset's declaration -> form."""


def recognise(text: str) -> str:
    """The name of the form a file is in, judged by its first record, of arrays by the first that has an entity."""
    array = text.lstrip()[:1] == "["
    for _, record in (json_array if array else json_lines)(text):
        if not isinstance(record, dict):
            break
        if not array:
            return "dygie" if "sentences" in record else "jsonl"
        if entities := record.get("entities"):
            return "two" if isinstance(entities, list) and isinstance(entities[0], list) else "spert"
    return "spert" if array else "jsonl"


def located(path: Path, form: str) -> Iterator[tuple[str, dict | Fault]]:
    """Place (`file:line`, and the number of the sentence in an array or a document), and sentence as a dictionary or
    fault, of everything in a file."""
    array = FORMS[form].records is json_array
    for number, (line, record) in enumerate(FORMS[form].records(read_text(path))):
        if isinstance(record, Fault):
            yield f"{path}:{line}", record
            continue
        where = f"{path}:{line}: sentence {number}" if array else f"{path}:{line}"
        try:
            inside = 0
            for sentence in FORMS[form].sentences(record):
                several = form == "dygie" and not isinstance(sentence, Fault)
                yield f"{where}: sentence {inside}" if several else where, sentence
                inside += several
        except (TypeError, ValueError, KeyError, IndexError, AttributeError):
            yield where, Fault("", f"not of the form: {FORMS[form].title}")


def read(path: Path, form: str, types: dict[str, str] | None = None) -> list[Sentence]:
    """All sentences of a file.

    Args:
        types: declared names of types by their lower-case form, for files that write them in another case.

    Raises:
        UserError: the first mistake, as `file:line: field: what would be right`.
    """
    found = []
    for number, (where, record) in enumerate(located(path, form)):
        if isinstance(record, Fault):
            raise UserError(f"{where}: {record}")
        sentence = parse_sentence(record, where, default_id=f"{path.stem}-{number}")
        found.append(renamed(sentence, types) if types else sentence)
    return found


def renamed(sentence: Sentence, types: dict[str, str]) -> Sentence:
    """The sentence with its types as declared, whatever their case in the file."""
    return replace(
        sentence,
        entities=tuple(replace(e, type=types.get(e.type.lower(), e.type)) for e in sentence.entities),
        relations=tuple(replace(r, type=types.get(r.type.lower(), r.type)) for r in sentence.relations),
    )
