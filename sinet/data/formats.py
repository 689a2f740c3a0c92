"""Readers for the published file formats.

Each form is a pair: how a file falls into records, and what sentences a record holds, as dictionaries in the project's
own form (`sinet.data.sentence`). Reading stops at the first mistake; `sinet.data.check` goes on and lists them all.
"""

import bisect
import functools
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sinet.data.decode import Fault, decode, decode_at, read_text
from sinet.data.misread import (
    DOCUMENT,
    SENTENCE,
    SPANS,
    TRIPLETS,
    Keys,
    convert_hint,
    counted_characters,
    foreign_form,
    has_words,
    lost_annotation,
    renamed_items,
    tool_of_text,
)
from sinet.data.sentence import Labels, Sentence, check_types, controlled, misspelt, parse_sentence, whole
from sinet.errors import UserError

JUDGED = 100
"""Records of a file that its form is judged by; of an array those that hold entities."""
BROKEN = 1000
"""Broken elements of an array after which reading stops: each is found by counting the file's lines."""
BLANKS = re.compile(r"[ \t\r\n]*")
MISSING_COMMA = Fault("", "broken JSON: a comma is missing before this object")
TRIPLET_LINE = re.compile(r".*####[ ]*\[.*\]\s*", re.DOTALL)
"""A line of ASTE-Data-V2, which is no JSON."""
PYTHON_TO_JSON = str.maketrans("()'", '[]"')
"""Lists of ASTE-Data-V2 hold numbers, lists, tuples and names of polarities: as JSON they are the same lists."""

# -- files into records --------------------------------------------------------------------------------------------


def json_lines(text: str) -> Iterator[tuple[int, Any]]:
    """Line number and record, or the fault of a broken line; one fault when no line is a record."""
    before: list[tuple[int, Any]] = []  # what precedes the first line that is an object or an array
    records = False
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        record = decode(line)
        if records:
            yield number, record
            continue
        if isinstance(record, Fault) and not before and not isinstance(decode(text), Fault):
            yield number, Fault("", "one JSON object over several lines; write a sentence a line, or an array")
            return
        before.append((number, record))
        if records := isinstance(record, dict | list):
            yield from before
    if before and not records:
        number, first = before[0]
        what = first.what if isinstance(first, Fault) else f"{first!r:.40} is no object"
        if tool := tool_of_text(text):
            yield number, NotThisForm("", f"looks like {tool}; {convert_hint(tool)}known forms: {_known_forms()}")
        else:
            yield number, Fault("", f"{what}, and no other line is a JSON object; known forms: {_known_forms()}")


def json_array(text: str) -> Iterator[tuple[int, Any]]:
    """Line number and element of an array; what stands before a fault is still given."""
    line, counted = 1, 0

    def skip(position: int) -> int:
        found = BLANKS.match(text, position)
        return found.end() if found else position

    position = skip(0)
    if text[position : position + 1] != "[":
        yield 1, Fault("", "should be a JSON array of sentences; for JSON lines declare `format: jsonl`")
        return
    position = skip(position + 1)
    expected, broken = text[position : position + 1] != "]", 0
    while expected:
        line, counted = line + text.count("\n", counted, position), position
        start = position
        element, position = decode_at(text, start)
        if isinstance(element, Fault):
            broken += 1
            after = _next_element(text, start, position) if broken < BROKEN else None
            unread = "; what follows is not read" * (after is None and text[position:].strip(" \t\r\n]}") != "")
            yield line + text.count("\n", counted, position), replace(element, what=element.what + unread)
            if after is None:
                return
            position = after
            continue
        if isinstance(element, dict) and "sentences" in element and "tokens" not in element:
            yield line, Fault("", "an array of documents; write one document a line")
            return
        yield line, element
        position = skip(position)
        expected = text[position : position + 1] == ","
        where = line + text.count("\n", counted, position)
        if expected:
            position = skip(position + 1)
            if text[position : position + 1] == "]":
                yield where, Fault("", "broken JSON: a comma before the closing bracket; remove it")
                expected = False
        elif text[position : position + 1] == "{":
            yield where, MISSING_COMMA
            expected = True
    where = text.count("\n", 0, position) + 1
    if text[position : position + 1] != "]":
        yield where, Fault("", "broken JSON: a comma or the array's closing bracket is missing")
    elif text[position + 1 :].strip():
        yield where, Fault("", "broken JSON: extra text after the array")


def triplet_lines(text: str) -> Iterator[tuple[int, Any]]:
    """Line number and record, `tokens` and `triplets`, of lines `sentence####[([aspect], [opinion], 'POS'), ...]`, or
    the fault of a broken line. Words stand between single blanks."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        words, separator, _ = line.rpartition("####")
        if not separator:
            yield number, Fault("", f"no #### in the line; {TRIPLETS.shape} is right")
            continue
        # read at its place in the line, which a fault then names
        triplets = decode(" " * len(words + separator) + line[len(words + separator) :].translate(PYTHON_TO_JSON))
        if isinstance(triplets, Fault):
            yield number, replace(triplets, what=triplets.what.replace("broken JSON", "broken list of triplets"))
            continue
        words = words.removesuffix("#### #### ")  # Span-ASTE's own files repeat the separator
        yield number, {"tokens": words.rstrip(" ").split(" "), "triplets": triplets}


def _next_element(text: str, start: int, broken: int) -> int | None:
    """Where, behind a broken element that began a line, the next line begins with a sentence in the same column, or
    with an object that is broken, too; None where no line does."""
    indent = text[text.rfind("\n", 0, start) + 1 : start].removeprefix("[")
    if indent.strip():
        return None
    found = max(start, text.rfind("\n", start, broken)) - 1
    while (found := text.find(f"\n{indent}{{", found + 1)) >= 0:
        element, _ = decode_at(text, found + 1 + len(indent))
        if isinstance(element, Fault) or "tokens" in element:  # not an entity or a relation in the same column
            return found + 1 + len(indent)
    return None


# -- records into sentences ----------------------------------------------------------------------------------------


def own_sentences(record: Any) -> Iterator[dict | Fault]:
    """The project's own form: a record is a sentence."""
    yield record


def spert_sentences(record: Any) -> Iterator[dict | Fault]:
    """SpERT's form is ours, with `orig_id` naming the document where there is one."""
    if isinstance(record, dict) and isinstance(record.get("orig_id"), str):
        record = {"document": record["orig_id"]} | record
    yield record


def two_sentences(record: Any) -> Iterator[dict | Fault]:
    """Two are Better than One: entities `[start, end, type]`, relations `[start, end, start, end, type]`, ends
    exclusive; a relation names its arguments by their spans."""
    if not isinstance(record, dict):
        yield record
        return
    entities, relations = record.get("entities", []), record.get("relations", [])
    made = {}
    if isinstance(entities, list) and isinstance(relations, list):
        place = _places(entities)
        made["relations"] = [_by_spans(f"relations[{i}]", item, place) for i, item in enumerate(relations)]
        made["entities"] = [
            list_fault(f"entities[{i}]", item, ENTITY) or {"type": item[2], "start": item[0], "end": item[1]}
            for i, item in enumerate(entities)
        ]
    yield record | {field: items for field, items in made.items() if field in record}


def dygie_sentences(record: Any) -> Iterator[dict | Fault]:
    """DyGIE's and PURE's form: a document of `sentences`, with `ner` [start, end, type], `relations` [start, end,
    start, end, type] and `clusters` [[start, end], ...], offsets counted through the document, ends inclusive."""
    if isinstance(record, list):
        yield Fault("", "an array of documents; write one document a line")
        return
    if not isinstance(record, dict) or not isinstance(record.get("sentences"), list):
        yield Fault("sentences", "should be a list of sentences, each a list of words")
        return
    yield from misspelt(record, ("sentences", "ner", "relations", "clusters", "doc_key"))
    sentences, name = record["sentences"], record.get("doc_key", record.get("doc_id"))
    if whole(name):
        name = str(name)
    if isinstance(name, str) and (what := controlled(name)):
        yield Fault("doc_key", what)
        name = None
    ner = record.get("ner") or [[] for _ in sentences]
    related = record.get("relations") or [[] for _ in sentences]
    clusters = record.get("clusters") or []
    for field, parts in (("ner", ner), ("relations", related)):
        if not isinstance(parts, list) or len(parts) != len(sentences) or not all(isinstance(p, list) for p in parts):
            yield Fault(field, f"should hold one list for each of the {len(sentences)} sentences")
            return
    unlisted = [i for i, words in enumerate(sentences) if not isinstance(words, list)]
    if unlisted:
        yield Fault(f"sentences[{unlisted[0]}]", "should be a list of words")
        return
    if not isinstance(clusters, list) or not all(
        isinstance(c, list) and all(isinstance(s, list) and len(s) >= 2 and whole(s[0]) and whole(s[1]) for s in c)
        for c in clusters
    ):
        yield Fault("clusters", "should be a list of clusters, each a list of [start, end]")
        clusters = []
    bounds = list(itertools.accumulate(map(len, sentences), initial=0))
    coreference: list[list[list[int]]] = [[] for _ in sentences]
    for i, cluster in enumerate(clusters):
        for j, (start, end, *_) in enumerate(cluster):
            number = bisect.bisect_right(bounds, start) - 1
            if 0 <= number < len(sentences) and start <= end < bounds[number + 1]:
                coreference[number].append([start - bounds[number], end - bounds[number] + 1, i])
            else:
                rule = "offsets count through the document, ends are inclusive"
                yield Fault(f"clusters[{i}][{j}]", f"[{start}, {end}] is not a span of one of its sentences; {rule}")
    home: dict[tuple[int, int], int] = {}  # span of an entity -> its sentence
    for number, items in enumerate(ner):
        for span in _places(items):
            home.setdefault(span, number)
    for number, (words, (base, behind)) in enumerate(zip(sentences, itertools.pairwise(bounds), strict=True)):
        entities: list[Any] = []
        place = _places(ner[number])
        for i, item in enumerate(ner[number]):
            field = f"ner[{number}][{i}]"
            if fault := list_fault(field, item, ENTITY):
                entities.append(fault)
            elif not base <= item[0] <= item[1] < behind:
                entities.append(Fault(field, _outside(item[0], item[1], base, len(words))))
            else:
                entities.append({"type": item[2], "start": item[0] - base, "end": item[1] - base + 1})
        named = {} if name is None else {"id": f"{name}-{number}", "document": name}
        yield named | {
            "tokens": words,
            "entities": entities,
            "relations": [
                _by_spans(f"relations[{number}][{i}]", item, place, home) for i, item in enumerate(related[number])
            ],
            "coreference": sorted(coreference[number]),
        }


def triplet_sentences(record: Any) -> Iterator[dict | Fault]:
    """ASTE-Data-V2 (Xu et al., EMNLP 2020): a triplet is a relation, its polarity, from an aspect to an opinion, each
    given by all numbers of its words. The spans of the triplets are the entities, each once under either type, by
    their place; a triplet that is repeated is a repeated relation."""
    words, triplets = record["tokens"], record["triplets"]
    if not isinstance(triplets, list):
        yield Fault("triplets", f"should be a list, is {triplets!r:.40}")
        return
    read: list[tuple[tuple[int, int, str], tuple[int, int, str], str] | Fault] = []
    for i, item in enumerate(triplets):
        if not (isinstance(item, list) and len(item) == 3 and isinstance(item[2], str)):
            what = f"should be ([aspect word numbers], [opinion word numbers], 'POLARITY'), is {item!r:.60}"
            read.append(Fault(f"triplets[{i}]", what))
            continue
        spans = [_span_of(numbers, len(words)) for numbers in item[:2]]
        wrong = [Fault(f"triplets[{i}][{k}]", span) for k, span in enumerate(spans) if isinstance(span, str)]
        aspect, opinion = ((*span, kind) for span, kind in zip(spans, ASPECT_OPINION, strict=True))
        read.append(wrong[0] if wrong else (aspect, opinion, item[2]))
    found = sorted({entity for item in read if not isinstance(item, Fault) for entity in item[:2]})
    place = {entity: i for i, entity in enumerate(found)}
    yield {
        "tokens": words,
        "entities": [{"type": kind, "start": start, "end": end} for start, end, kind in found],
        "relations": [
            item if isinstance(item, Fault) else {"type": item[2], "head": place[item[0]], "tail": place[item[1]]}
            for item in read
        ],
    }


ASPECT_OPINION = ("Aspect", "Opinion")


def _span_of(numbers: Any, words: int) -> tuple[int, int] | str:
    """Start and end (exclusive) of a span given by the numbers of its words, or what is wrong with them."""
    if not isinstance(numbers, list) or not numbers or not all(map(whole, numbers)):
        return f"should be a list of at least one word number, is {numbers!r:.60}"
    start, end = numbers[0], numbers[-1] + 1
    if not 0 <= min(numbers) <= max(numbers) < words:
        return f"{numbers!r:.60} are not all words of the sentence; numbers 0 to {words - 1} are right"
    if numbers != list(range(start, end)):
        return f"{numbers!r:.60} is no span: all numbers of its words are listed, one after another"
    return start, end


NOWHERE: Mapping[tuple[int, int], int] = {}
ENTITY, RELATION = ("start", "end", "type"), ("start", "end", "start", "end", "type")


def list_fault(field: str, item: Any, parts: tuple[str, ...]) -> Fault | None:
    """What is wrong with the form of an entity or relation given as a list; whatever follows its type is passed
    over."""
    n = len(parts)
    if isinstance(item, list) and len(item) >= n and all(map(whole, item[: n - 1])) and isinstance(item[n - 1], str):
        return None
    return Fault(field, f"should be [{', '.join(parts)}] with whole numbers and a text as type, is {item!r:.60}")


def _places(entities: list) -> dict[tuple[int, int], int]:
    """The first place of each span in a list of entities given as lists."""
    place: dict[tuple[int, int], int] = {}
    for i, entity in enumerate(entities):
        if list_fault("", entity, ENTITY) is None:
            place.setdefault((entity[0], entity[1]), i)
    return place


def _by_spans(
    field: str, item: Any, place: dict[tuple[int, int], int], home: Mapping[tuple[int, int], int] = NOWHERE
) -> dict | Fault:
    """A relation that names its arguments by their spans, turned into one that names their places; `home`: the sentence
    of every span of its document."""
    if fault := list_fault(field, item, RELATION):
        return fault
    head, tail = (item[0], item[1]), (item[2], item[3])
    for span in (head, tail):
        if span not in place:
            if span in home:
                rule = "relations between sentences are not supported; remove it"
                return Fault(field, f"{list(span)} is an entity of the document's sentence {home[span]}; {rule}")
            known = ", ".join(str(list(known)) for known in itertools.islice(place, 8)) or "none"
            return Fault(field, f"{list(span)} is not the span of an entity of the sentence; spans: {known}")
    return {"type": item[4], "head": place[head], "tail": place[tail]}


def _outside(start: int, end: int, base: int, words: int) -> str:
    """What is wrong with a span that is not within a sentence of a document."""
    hint = ""
    if start < end == base + words:
        hint = f"; if your ends are exclusive, write {end - 1}"
    elif base <= end < start < base + words:
        hint = f"; if they are reversed, write {end}, {start}"
    elif base and 0 <= start <= end < words:
        hint = f"; if yours count from the sentence's start, write {start + base}, {end + base}"
    span = f"{base} to {base + words - 1}" if words else "none"
    return (
        f"[{start}, {end}] is not a span of the sentence's words ({span}); offsets count through the document, ends "
        f"are inclusive{hint}"
    )


@dataclass(frozen=True)
class Form:
    """A published file format: its name for people, how a file falls into records, and a record into sentences, and the
    keys of a record."""

    title: str
    records: Callable[[str], Iterator[tuple[int, Any]]]
    sentences: Callable[[object], Iterator[dict | Fault]]
    keys: Keys


FORMS = {
    "jsonl": Form("JSON lines, one sentence a line", json_lines, own_sentences, SENTENCE),
    "spert": Form("SpERT's JSON array", json_array, spert_sentences, SENTENCE),
    "dygie": Form("DyGIE's and PURE's JSON lines, one document a line", json_lines, dygie_sentences, DOCUMENT),
    "table_sequence": Form("Two are Better than One's JSON array", json_array, two_sentences, SPANS),
    "aste": Form("ASTE-Data-V2's lines, sentence####[triplets]", triplet_lines, triplet_sentences, TRIPLETS),
}
"""Format name in a dataset's declaration -> form."""


def _known_forms() -> str:
    return "; ".join(form.title for form in FORMS.values())


def recognise(text: str) -> str:
    """The name of the form a file is in, by its first records: of JSON lines by whether most are documents, of arrays
    by what most entities are. Lines of ASTE-Data-V2 are told by their separator."""
    filled = (line for line in text.split("\n") if line.strip())
    some_lines = list(itertools.islice(filled, JUDGED))
    triplets = sum(bool(TRIPLET_LINE.fullmatch(line)) and isinstance(decode(line), Fault) for line in some_lines)
    if triplets > len(some_lines) - triplets:
        return "aste"
    array = text.lstrip()[:1] == "["
    records = (record for _, record in (json_array if array else json_lines)(text) if isinstance(record, dict))
    if not array:
        judged = list(itertools.islice(records, JUDGED))
        documents = sum("sentences" in record for record in judged)
        return "dygie" if documents > len(judged) - documents else "jsonl"
    listed = (record.get("entities") for record in records)
    some = itertools.islice((items for items in listed if items and isinstance(items, list)), JUDGED)
    entities = [entity for items in some for entity in items]
    lists = sum(isinstance(entity, list) for entity in entities)
    return "table_sequence" if lists > len(entities) - lists else "spert"


def located(path: Path, form: str, text: str) -> Iterator[tuple[str, dict | Fault]]:
    """Place (`file:line`, and the number of the sentence in an array or a document), and sentence as a dictionary or
    fault, of everything in a file that holds this text."""
    array = FORMS[form].records is json_array
    records = list(FORMS[form].records(text))
    if whole_file := _of_whole_file(form, records, text):
        line, fault = whole_file
        yield f"{path}:{line}", fault
        yield from ((f"{path}:{line}", record) for line, record in records if isinstance(record, Fault))
        return
    number = -1
    for line, record in records:
        number += record is not MISSING_COMMA
        if isinstance(record, Fault):
            yield f"{path}:{line}", record
            continue
        where = f"{path}:{line}: sentence {number}" if array else f"{path}:{line}"
        inside = 0
        for sentence in FORMS[form].sentences(record):
            several = form == "dygie" and not isinstance(sentence, Fault)
            yield f"{where}: sentence {inside}" if several else where, sentence
            inside += several


def _holds_words(form: str, text: str) -> bool:
    """Whether a record of a file has words where the form has them."""
    records = itertools.islice(FORMS[form].records(text), JUDGED)
    return any(has_words(record, FORMS[form].keys) for _, record in records)


class NotThisForm(Fault):
    """The fault of a file that is not in the form it is read in."""


def _of_whole_file(form: str, records: list[tuple[int, Any]], text: str) -> tuple[int, Fault] | None:
    """Line and fault of a file whose records are all misread in the same way."""
    keys, legible = FORMS[form].keys, [(line, record) for line, record in records if not isinstance(record, Fault)]
    if not legible:
        other = recognise(text)
        if other != form and "aste" in (form, other) and _holds_words(other, text):
            return 1, NotThisForm("", f"the file is in another form: {FORMS[other].title}; declare `format: {other}`")
        return None
    records = [record for _, record in legible]
    if not any(has_words(record, keys) for record in records):
        array = isinstance(records[0], list) and FORMS[form].records is json_lines
        other = recognise(text)
        if array and form == "dygie":
            return None  # documents in an array, which its reader says
        if array or any(has_words(record, FORMS[other].keys) for record in records):
            fault = Fault("", f"the file is in another form: {FORMS[other].title}; declare `format: {other}`")
        else:
            fault = foreign_form(records, _known_forms())
        return legible[0][0], NotThisForm(fault.field, fault.what)
    renamed = renamed_items(legible) if keys is SENTENCE else ()
    return counted_characters(legible, keys) or next(itertools.chain(renamed, lost_annotation(legible, keys)), None)


def read(path: Path, form: str | None, labels: Labels | None = None) -> list[Sentence]:
    """All sentences of a file.

    Args:
        form: None to recognise it.
        labels: the types that may occur; files may write them in another case. None for any.

    Raises:
        UserError: the first mistake, as `file:line: field: what would be right`.
    """
    found, text = [], read_text(path)
    for number, (where, record) in enumerate(located(path, form or recognise(text), text)):
        if isinstance(record, Fault):
            raise UserError(f"{where}: {record}")
        sentence = parse_sentence(record, where, default_id=f"{path.stem}-{number}")
        if labels is not None:
            sentence = renamed(sentence, labels)
            check_types(sentence, labels, where)
        found.append(sentence)
    return found


def renamed(sentence: Sentence, labels: Labels) -> Sentence:
    """The sentence with its types as declared, whatever their case in the file."""
    entities, relations = spellings(labels.entity_types), spellings(labels.relation_types)
    return replace(
        sentence,
        entities=tuple(replace(e, type=entities.get(e.type.lower(), e.type)) for e in sentence.entities),
        relations=tuple(replace(r, type=relations.get(r.type.lower(), r.type)) for r in sentence.relations),
    )


@functools.cache
def spellings(types: tuple[str, ...]) -> dict[str, str]:
    """Declared names by their lower-case form, without those that differ in nothing but case: they are written exactly
    or not at all."""
    times = Counter(kind.lower() for kind in types)
    return {kind.lower(): kind for kind in types if times[kind.lower()] == 1}
