"""What annotation tools export, in characters of a text, into sentences of words; `sinet.data.exchange` writes it.

Each form is a reader that gives the documents of a file (`Annotated`). What a form can say and a sentence cannot
(discontinuous mentions, relations between events) is counted and listed with its place, never passed over in silence.
"""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sinet.data.decode import Fault, read_text
from sinet.data.document import Document, document_sentences
from sinet.data.formats import ENTITY, FORMS, RELATION, json_array, json_lines, list_fault, read, recognise
from sinet.data.misread import ANN_LINE, CONVERTED, TAG_LINE, has_words, tool_of, tool_of_text
from sinet.data.sentence import Sentence, parse_sentence, sentence_to_json, whole
from sinet.data.text import Word, sentences
from sinet.errors import UserError, nearest, plain, quoted, shown

BLANKS = " \t\n\r\v\f\x85\u2028\u2029"
"""What divides words that are given as such; a no-break space may be part of one (`sinet.data.sentence`)."""


class Span(NamedTuple):
    """A mention: what relations call it, its type, its characters [start, end), its place in the file, and the text
    that the file says it has."""

    id: Any
    type: str
    start: int
    end: int
    where: str
    text: str | None = None


class Arc(NamedTuple):
    """A relation: its type, what it calls its arguments, its place in the file."""

    type: str
    head: Any
    tail: Any
    where: str


class Annotated(NamedTuple):
    """A document; in a `tokenized` one blanks divide words and line breaks sentences."""

    name: str
    text: str
    spans: Sequence[Span]
    arcs: Sequence[Arc]
    where: str
    tokenized: bool = False


@dataclass
class Account:
    """What did not come through a conversion, by reason and with its places, and what was changed on the way."""

    lost: Counter = field(default_factory=Counter)
    changed: Counter = field(default_factory=Counter)
    _lost_at: list[str] = field(default_factory=list)
    _changed_at: list[str] = field(default_factory=list)

    @property
    def places(self) -> list[str]:
        """A line for each: first what is lost."""
        return [*self._lost_at, *self._changed_at]

    def lose(self, where: str, reason: str, what: str) -> None:
        """Count and list what is not converted."""
        self.lost[reason] += 1
        self._lost_at.append(f"{where}: {plain(what, 200)}: {reason}")

    def change(self, where: str, how: str, what: str) -> None:
        """Count and list what is converted otherwise than it stands there."""
        self.changed[how] += 1
        self._changed_at.append(f"{where}: {plain(what, 200)}: {how}")

    def summary(self) -> str:
        """Both counts in a line."""
        said = [f"lost: {_reasons(self.lost) or 'nothing'}"]
        return "; ".join(said + [f"changed: {_reasons(self.changed)}"] * bool(self.changed))


def _reasons(counts: Counter) -> str:
    return ", ".join(f"{reason} ({n:,})" for reason, n in counts.items())


# -- documents into sentences --------------------------------------------------------------------------------------


def convert(
    path: Path, form: str, tokenized: bool, lines: bool, account: Account, language: str = "en"
) -> list[Sentence]:
    """The sentences of a file, or of a folder of brat's.

    Args:
        form: a key of `READERS` or of `sinet.data.formats.FORMS`.
        tokenized: whether blanks divide words and line breaks sentences, as in what `sinet convert --to` writes.
        lines, language: as `sinet.data.text.sentences`.

    Raises:
        UserError: the first mistake, as `file:line: what would be right`.
    """
    if form in FORMS:
        return read(path, form)
    found = []
    for document in READERS[form](path, account):
        given = tokenized or document.tokenized
        made = document_sentences(resolved(document, given, account), _words(document.text, given, lines, language))
        for word in made.joined:
            what = f"the sentence from {quoted(word.text)} at {word.start}"
            account.change(document.where, "sentences joined to others for a mention or relation", what)
        for word in made.cut:
            what = f"{quoted(word.text)} at {word.start}"
            account.change(document.where, "words divided at the edge of a mention", what)
        found += [
            parse_sentence(sentence_to_json(sentence), document.where, sentence.id) for sentence in made.sentences
        ]
    return found


def _words(text: str, tokenized: bool, lines: bool, language: str) -> Iterator[list[Word]]:
    """The words of a text by sentences: as they stand there, or by the rules that `predict` follows."""
    if not tokenized:
        yield from sentences(text, lines, language)
        return
    for line in re.finditer(r"[^\n]+", text):
        words = [
            Word(word.group(), line.start() + word.start(), line.start() + word.end())
            for word in re.finditer(f"[^{BLANKS}]+", line.group())
        ]
        if words:
            yield words


def resolved(document: Annotated, tokenized: bool, account: Account) -> Document:
    """The document with distinct mentions, free of blanks at their edges, and relations that name them by position."""
    blanks, text = BLANKS if tokenized else None, document.text
    distinct: dict[tuple[str, int, int], int] = {}
    position: dict[Any, int] = {}
    for id, kind, start, end, where, annotated in document.spans:
        if annotated is not None and text[start:end].split() != annotated.split():
            begin, stop = _utf16_place(text, start), _utf16_place(text, end)
            if text[begin:stop].split() == annotated.split():
                account.change(where, "mentions whose offsets count units of UTF-16", quoted(annotated))
                start, end = begin, stop
        if not 0 <= start <= end <= len(text):
            right = "offsets count characters from 0, ends are exclusive"
            raise UserError(f"{where}: [{start}, {end}) is not within the text's {len(text):,} characters; {right}")
        said = text[start:end]
        if annotated is not None and said.split() != annotated.split():
            what = f"{quoted(annotated)}, there {quoted(said)}"
            account.lose(where, "mentions whose characters are others in the text", what)
            continue
        begin = start + len(said) - len(said.lstrip(blanks))
        stop = begin + len(said.strip(blanks))
        if begin == stop:
            account.lose(where, "empty mentions", f"[{start}, {end})")
            continue
        if (begin, stop) != (start, end):
            account.change(where, "mentions without the blanks at their edges", quoted(said))
        if (kind, begin, stop) in distinct:
            account.change(where, "repeated mentions merged", quoted(said))
        position.setdefault(id, distinct.setdefault((kind, begin, stop), len(distinct)))
    relations: dict[tuple[str, int, int], None] = {}
    for kind, head, tail, where in document.arcs:
        if absent := [id for id in (head, tail) if id not in position]:
            account.lose(where, "relations without an entity as argument", f"{kind} of {absent[0]}")
            continue
        triple = kind, position[head], position[tail]
        if triple in relations:
            account.change(where, "repeated relations merged", kind)
        relations[triple] = None
    return Document(document.name, text, tuple(distinct), tuple(relations))


def _utf16_place(text: str, units: int) -> int:
    """The character at which so many units of UTF-16 (JavaScript's) have passed."""
    return len(text.encode("utf-16-le")[: 2 * units].decode("utf-16-le", errors="ignore"))


# -- the forms -----------------------------------------------------------------------------------------------------


def recognised(path: Path) -> str:
    """The name of the form that a file is in, by its content, or a folder."""
    if next(path.glob("**/dataset_info.json"), None):
        to_lines = 'datasets.load_from_disk(FOLDER)["train"].to_json(FILE) makes JSON lines of it'
        raise UserError(f"{path}: a dataset of Hugging Face's; {to_lines}")
    if path.is_dir() or path.suffix == ".ann":
        return "brat"
    if path.suffix == ".spacy":
        return "docbin"
    text = read_text(path)
    if tool := tool_of_text(text):
        return CONVERTED[tool]
    other = recognise(text)
    records = [r for _, r in itertools.islice(FORMS[other].records(text), 100) if isinstance(r, dict)]
    if any(has_words(record, FORMS[other].keys) for record in records):
        return other
    tool = next(filter(None, map(tool_of, records)), None)
    if tool not in CONVERTED:
        raise UserError(f"{path}: of no known form; {_known()}")
    return CONVERTED[tool]


def checked_form(name: str | None) -> None:
    """Raise `UserError` for a name of no form that is read."""
    if name is not None and name not in READERS:
        raise UserError(f"--form {shown(name)}: {nearest(name, READERS)}")


def _known() -> str:
    return f"--form names it, one of {', '.join(READERS)}"


def _json(text: str) -> Iterator[tuple[int, Any]]:
    return (json_array if text.lstrip()[:1] == "[" else json_lines)(text)


def _records(path: Path) -> Iterator[tuple[str, dict]]:
    """Place and object of each record of JSON lines or an array."""
    for line, record in _json(read_text(path)):
        if not isinstance(record, dict):
            what = record if isinstance(record, Fault) else f"should be an object, is {shown(record)}"
            raise UserError(f"{path}:{line}: {what}")
        yield f"{path}:{line}", record


KINDS = {str: "a text", int: "a whole number", list: "a list", dict: "an object"}


def _part(record: Any, key: str, kind: type, where: str) -> Any:
    """What a record holds under a key; raises `UserError` where that is nothing of the kind."""
    if not isinstance(record, dict):
        raise UserError(f"{where}: should be an object with {key!r}, is {shown(record)}")
    if not isinstance(record.get(key), kind) or (kind is int and not whole(record[key])):
        raise UserError(f"{where}: {key}: should be {KINDS[kind]}, is {shown(record.get(key))}")
    return record[key]


def _list(record: Any, key: str, where: str) -> Iterator[tuple[str, Any]]:
    """Place and item of a list that may be absent."""
    if not isinstance(record, dict) or record.get(key) is not None:
        yield from ((f"{where}: {key}[{i}]", item) for i, item in enumerate(_part(record, key, list, where)))


def _labels(record: dict, where: str) -> list[str]:
    """The texts of a list of labels, which may be absent."""
    named = [label for _, label in _list(record, "labels", where)]
    if not all(isinstance(label, str) for label in named):
        raise UserError(f"{where}: labels: should be texts, are {shown(named)}")
    return named


def _span_list(item: Any, parts: tuple[str, ...], where: str) -> list:
    """An entity or relation given as a list; raises `UserError` where it is none."""
    if fault := list_fault("", item, parts):
        raise UserError(f"{where}: {fault}")
    return item


def _first(record: dict, keys: Sequence[str]) -> str:
    """The first of the keys that a record has, else the first of all."""
    return next((key for key in keys if key in record), keys[0])


def _name(record: dict, path: Path, number: int) -> str:
    """A document's name: its id, else its number in the file."""
    id = record.get("id")
    return str(id) if isinstance(id, str) or whole(id) else f"{path.stem}-{number}"


ENTITY_LINE = re.compile(r"(T\S+)\t(\S+) (\d{1,9} \d{1,9}(?:;\d{1,9} \d{1,9})*)\t(.*)")
RELATION_LINE = re.compile(r"(R\S+)\t(\S+) \S+?:(\S+) \S+?:(\S+)\s*")
OTHER_LINES = {
    "E": "events",
    "A": "attributes",
    "M": "attributes",
    "N": "normalisations",
    "#": "notes",
    "*": "equivalences",
}


def brat(path: Path, account: Account) -> Iterator[Annotated]:
    """brat's standoff: `NAME.txt` beside `NAME.ann`, or a folder of such."""
    files = sorted(path.rglob("*.ann")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path}: the folder holds no .ann; {_known()}")
    for file in files:
        source = file.with_suffix(".txt")
        if not source.is_file():
            raise UserError(f"{source} is missing; brat keeps the text beside {file.name}")
        text, spans, arcs = read_text(source), [], []
        for number, line in enumerate(read_text(file).split("\n"), 1):
            where = f"{file}:{number}"
            if entity := ENTITY_LINE.fullmatch(line):
                id, kind, places, said = entity.groups()
                if ";" in places:
                    account.lose(where, "discontinuous mentions", quoted(said))
                    continue
                start, end = map(int, places.split())
                spans.append(Span(id, kind, start, end, where, said))
            elif relation := RELATION_LINE.fullmatch(line):
                _, kind, head, tail = relation.groups()
                arcs.append(Arc(kind, head, tail, where))
            elif line[:1] in OTHER_LINES and ANN_LINE.match(line):
                account.lose(where, OTHER_LINES[line[0]], quoted(line))
            elif line.strip():
                right = "T1<tab>Type 0 5<tab>words, or R1<tab>Type Arg1:T1 Arg2:T2"
                raise UserError(f"{where}: {quoted(line)} is no line of brat's; right is {right}")
        name = file.relative_to(path).with_suffix("").as_posix() if path.is_dir() else file.stem
        yield Annotated(name, text, spans, arcs, str(file))


def doccano(path: Path, account: Account) -> Iterator[Annotated]:
    """doccano's JSONL: `entities` and `relations`, or `label` [[start, end, type], ...] of sequence labelling."""
    for number, (where, record) in enumerate(_records(path)):
        text = _part(record, _first(record, ("text", "data")), str, where)
        spans, arcs = [], []
        for at, item in _list(record, "entities", where):
            start, end = _part(item, "start_offset", int, at), _part(item, "end_offset", int, at)
            spans.append(Span(_part(item, "id", int, at), _part(item, "label", str, at), start, end, at))
        for at, item in _list(record, "relations", where):
            head, tail = _part(item, "from_id", int, at), _part(item, "to_id", int, at)
            arcs.append(Arc(_part(item, "type", str, at), head, tail, at))
        for at, item in _list(record, _first(record, ("label", "labels")), where):
            start, end, kind = _span_list(item, ENTITY, at)[:3]
            spans.append(Span(at, kind, start, end, at))
        yield Annotated(_name(record, path, number), text, spans, arcs, where)


def label_studio(path: Path, account: Account) -> Iterator[Annotated]:
    """Label Studio's JSON: a task's `data` with a text, and of its `annotations` the first that was not cancelled."""
    for number, (where, record) in enumerate(_records(path)):
        data = _part(record, "data", dict, where)
        texts = [key for key, value in data.items() if isinstance(value, str) and key != "id"]
        key = "text" if "text" in data or len(texts) != 1 else texts[0]
        text = _part(data, key, str, f"{where}: data")
        done = [
            (at, annotation)
            for at, annotation in _list(record, _first(record, ("annotations", "completions")), where)
            if not isinstance(annotation, dict) or not annotation.get("was_cancelled")
        ]
        for at, _ in done[1:]:
            account.lose(at, "annotations beside a task's first", f"task {_name(record, path, number)}")
        spans, arcs = [], []
        results = [found for at, annotation in done[:1] for found in _list(annotation, "result", at)]
        for at, item in results:
            kind = _part(item, "type", str, at)
            if kind == "relation":
                head, tail = _part(item, "from_id", str, at), _part(item, "to_id", str, at)
                way = item.get("direction")
                ways = [(head, tail)] * (way != "left") + [(tail, head)] * (way in ("left", "bi"))
                named = _labels(item, at)
                arcs += [Arc(label, *pair, at) for label in named for pair in ways]
                if not named:
                    account.lose(at, "relations without a label", f"{head} to {tail}")
            elif kind == "labels":
                value = _part(item, "value", dict, at)
                start, end = _part(value, "start", int, at), _part(value, "end", int, at)
                said = value.get("text") if isinstance(value.get("text"), str) else None
                named = _labels(value, at)
                spans += [Span(_part(item, "id", str, at), label, start, end, at, said) for label in named]
                if not named:
                    account.lose(at, "mentions without a label", quoted(text[start:end]))
            else:
                account.lose(at, "results that are neither labels nor relations", kind)
        yield Annotated(_name(data if "id" in data else record, path, number), text, spans, arcs, where)


def prodigy(path: Path, account: Account) -> Iterator[Annotated]:
    """Prodigy's JSONL of rel.manual or ner.manual: `spans` and `relations` of accepted answers."""
    for number, (where, record) in enumerate(_records(path)):
        if record.get("answer", "accept") != "accept":
            account.lose(where, "texts whose answer is not accept", str(record["answer"]))
            continue

        def span(item: Any, at: str) -> Span:
            start, end = _part(item, "start", int, at), _part(item, "end", int, at)
            kind = "" if item.get("label") is None else _part(item, "label", str, at)
            return Span((start, end, kind), kind, start, end, at)

        spans = [span(item, at) for at, item in _list(record, "spans", where)]
        arcs = []
        for at, item in _list(record, "relations", where):
            head, tail = (span(_part(item, key, dict, at), f"{at}.{key}").id for key in ("head_span", "child_span"))
            arcs.append(Arc(_part(item, "label", str, at), head, tail, at))
        for unnamed in (s for s in spans if not s.type):
            account.lose(unnamed.where, "mentions without a label", f"[{unnamed.start}, {unnamed.end})")
        meta = record.get("meta") if isinstance(record.get("meta"), dict) else {}
        text = _part(record, "text", str, where)
        yield Annotated(_name(meta or {}, path, number), text, [s for s in spans if s.type], arcs, where)


def triples(path: Path, account: Account) -> Iterator[Annotated]:
    """Triples of strings, WebNLG's (`triple_list`) and NYT's (`relationMentions`, with types in `entityMentions`). A
    string is a mention where it stands first in the text as whole words; its type is `Entity` where none is given."""
    for number, (where, record) in enumerate(_records(path)):
        text = _part(record, _first(record, ("text", "sentText")), str, where)
        kinds = {
            _part(item, "text", str, at): _part(item, "label", str, at)
            for at, item in _list(record, "entityMentions", where)
        }
        spans: dict[str, Span] = {}
        arcs = []
        key = _first(record, ("triple_list", "relationMentions"))
        _part(record, key, list, where)
        for at, item in _list(record, key, where):
            if key == "relationMentions":
                head, kind, tail = (_part(item, part, str, at) for part in ("em1Text", "label", "em2Text"))
            elif isinstance(item, list) and len(item) == 3 and all(isinstance(part, str) for part in item):
                head, kind, tail = item
            else:
                raise UserError(f"{at}: should be [head, relation, tail], three texts, is {shown(item)}")
            for said in (head, tail):
                if said not in spans:
                    places = [m.start() for m in re.finditer(rf"(?<!\w){re.escape(said)}(?!\w)", text) if said.strip()]
                    if not places:
                        account.lose(at, "strings that are not in the text", quoted(said))
                        continue
                    if len(places) > 1:
                        ambiguous = "ambiguous strings, taken at their first place"
                        account.change(at, ambiguous, f"{quoted(said)} stands at {', '.join(map(str, places[:10]))}")
                    spans[said] = Span(said, kinds.get(said, "Entity"), places[0], places[0] + len(said), at)
            arcs.append(Arc(kind, head, tail, at))
        yield Annotated(_name(record, path, number), text, [*spans.values()], arcs, where)


def crossre(path: Path, account: Account) -> Iterator[Annotated]:
    """CrossRE's JSONL: words of a `sentence`, `ner` [start, end, type] and `relations` [start, end, start, end, type,
    ...] by words, ends inclusive; what follows a relation's type is not read."""
    for where, record in _records(path):
        words = _part(record, "sentence", list, where)
        if not all(isinstance(word, str) for word in words):
            raise UserError(f"{where}: sentence: should be a list of words, is {shown(words)}")
        begins = list(itertools.accumulate((len(word) + 1 for word in words), initial=0))
        spans = []
        for at, item in _list(record, "ner", where):
            start, end, kind = _span_list(item, ENTITY, at)[:3]
            if not 0 <= start <= end < len(words):
                raise UserError(f"{at}: [{start}, {end}] is no span of the {len(words)} words; ends are inclusive")
            spans.append(Span((start, end), kind, begins[start], begins[end + 1] - 1, at))
        arcs = []
        for at, item in _list(record, "relations", where):
            *places, kind = _span_list(item, RELATION, at)[:5]
            arcs.append(Arc(kind, tuple(places[:2]), tuple(places[2:]), at))
        yield Annotated(_part(record, "doc_key", str, where), " ".join(words), spans, arcs, where, tokenized=True)


def conll(path: Path, account: Account) -> Iterator[Annotated]:
    """Columns, a word a line, its tag in BIO or BIOES last, a blank line after a sentence, and `-DOCSTART-` before a
    document. An I that follows nothing of its type begins a mention."""
    words: list[list[tuple[str, str, str]]] = [[]]  # place, word and tag, by sentence
    number = 0

    def document() -> Annotated:
        text, before = "", ("", "")  # the mark and type of the tag before
        spans: list[Span] = []
        for sentence in filter(None, words):
            text, before = text + "\n" * bool(text), ("", "")
            for i, (at, word, tag) in enumerate(sentence):
                text += " " * bool(i)
                mark, _, kind = tag.partition("-")
                if mark in ("I", "E", "L") and kind == before[1] and before[0] in ("B", "I"):
                    spans[-1] = spans[-1]._replace(end=len(text) + len(word))
                elif kind:
                    spans.append(Span(at, kind, len(text), len(text) + len(word), at))
                    if mark in ("I", "E", "L"):
                        account.change(at, "mentions that begin without B", quoted(word))
                text, before = text + word, (mark, kind)
        return Annotated(f"{path.stem}-{number}", text, spans, [], f"{path}:1", tokenized=True)

    for line, columns in enumerate(read_text(path).split("\n"), 1):
        if columns.startswith("-DOCSTART-"):
            if any(words):
                yield document()
                number += 1
            words = [[]]
        elif not columns.strip():
            words.append([])
        elif not TAG_LINE.match(columns):
            right = "a word, blanks or a tab, and last its tag: O, B-Type or I-Type"
            raise UserError(f"{path}:{line}: {quoted(columns.strip())} should be {right}")
        else:
            word, *_, tag = re.split(r"[ \t]+", columns.strip(" \t\r"))
            words[-1].append((f"{path}:{line}", word, tag))
    if any(words):
        yield document()


def docbin(path: Path, account: Account) -> Iterator[Annotated]:
    """spaCy's DocBin: words, sentences where they are marked, `ents` and the span group `sc`; relations as in the
    extension `rel` of spaCy's own project for them, {(first token of head, of tail): {type: 1.0, or 0.0 for none}}."""
    from spacy.tokens import Doc, DocBin
    from spacy.vocab import Vocab

    if not Doc.has_extension("rel"):
        Doc.set_extension("rel", default={})
    try:
        docs = list(DocBin().from_disk(path).get_docs(Vocab()))
    except Exception as error:  # spaCy checks nothing of what it unpacks
        right = "write it with DocBin.to_disk"
        raise UserError(f"{path}: no DocBin of spaCy's ({type(error).__name__}); {right}") from None
    for number, doc in enumerate(docs):
        where, text, ends = f"{path}: text {number}", "", [0]
        begins = []
        for token in doc:
            blank = "" if not text or token.is_space else "\n" if token.is_sent_start else " "
            word = "" if token.is_space else token.text
            begins.append(len(text + blank))
            text += blank + word
            ends.append(len(text))
        spans = [
            Span((kind, span.start), span.label_, begins[span.start], ends[span.end], where)
            for kind, found in (("ents", doc.ents), ("sc", doc.spans.get("sc", ())))
            for span in found
        ]
        first = {start: (kind, start) for kind, start in reversed([span.id for span in spans])}
        arcs = [
            Arc(kind, first.get(head, f"token {head}"), first.get(tail, f"token {tail}"), where)
            for (head, tail), kinds in doc._.rel.items()
            for kind, holds in kinds.items()
            if holds >= 0.5
        ]
        yield Annotated(f"{path.stem}-{number}", text, spans, arcs, where, tokenized=True)


READERS: dict[str, Callable[[Path, Account], Iterator[Annotated]]] = {
    "brat": brat,
    "doccano": doccano,
    "label-studio": label_studio,
    "prodigy": prodigy,
    "triples": triples,
    "crossre": crossre,
    "conll": conll,
    "docbin": docbin,
}
"""Form -> its reader; beside them the forms of sentences (`sinet.data.formats`) are read."""
