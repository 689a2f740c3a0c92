"""What is wrong with a file as a whole, so that one line says it: the form of another tool, annotation under keys that
are not read, offsets that count characters."""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sinet.data.decode import Fault
from sinet.data.sentence import meant_key, whole
from sinet.errors import listed, plain, shown


@dataclass(frozen=True)
class Keys:
    """Under which keys a form has its words, entities and relations, and what else it reads."""

    words: str
    entities: str
    others: tuple[str, ...]
    shape: str


SENTENCE = Keys(
    "tokens",
    "entities",
    ("coreference", "id", "document", "orig_id"),
    '{"tokens": ["A", "word"], "entities": [{"type", "start", "end"}], "relations": [{"type", "head", "tail"}]}',
)
SPANS = Keys(
    "tokens",
    "entities",
    SENTENCE.others,
    '{"tokens": ["A", "word"], "entities": [[start, end, type]], "relations": [[start, end, start, end, type]]}',
)
DOCUMENT = Keys(
    "sentences",
    "ner",
    ("clusters", "doc_key", "doc_id"),
    '{"sentences": [["A", "word"]], "ner": [[[start, end, type]]], "relations": [[[start, end, start, end, type]]]}',
)
TRIPLETS = Keys("tokens", "triplets", (), "sentence####[([aspect word numbers], [opinion word numbers], 'POS'), ...]")

TOOLS = (
    ("CrossRE", {"sentence", "ner"}),
    ("GLiNER", {"tokenized_text"}),
    ("Label Studio", {"annotations", "data"}),
    ("Label Studio", {"completions", "data"}),
    ("TACRED", {"token", "subj_start"}),
    ("DocRED", {"vertexSet"}),
    ("spaCy", {"paragraphs"}),
    ("OpenNRE", {"h", "t"}),
    ("Prodigy", {"text", "spans"}),
    ("Prodigy", {"text", "tokens", "relations"}),
    ("doccano", {"text", "entities"}),
    ("doccano", {"text", "label"}),
    ("doccano", {"text", "labels"}),
    ("doccano", {"data", "label"}),
)
"""Forms of other tools by keys that all their records have; the first that fits counts."""
TRIPLES = re.compile(r"tripl|^spo|relation_?(list|mentions)$", re.IGNORECASE)
"""Keys of triples that name their arguments by their words."""
TRIPLED = "a form of triples that name their arguments by words"
CONVERTED = {
    "doccano": "doccano",
    "Label Studio": "label-studio",
    "Prodigy": "prodigy",
    TRIPLED: "triples",
    "CrossRE": "crossre",
    "brat's annotation": "brat",
    "CoNLL's columns": "conll",
}
"""Forms of others that `sinet convert` reads, and what it calls them."""
ANN_LINE = re.compile(r"T\d+\t\S+ \d+ \d+[;\t]|R\d+\t\S+ \S+:\S+ |[EAMN#]\d+\t|\*\t")
"""How a line of brat's annotation begins."""
TAG_LINE = re.compile(r"[^ \t]+[ \t](?:.*[ \t])?(?:O|[BIESUL]-[^ \t]+)[ \t\r]*$")
"""A line of columns that ends with a tag."""
RELATED = re.compile(r"rel|tripl|^spo|link|edge|pair|^arcs?$", re.IGNORECASE)
"""Keys that hold relations in other tools."""
TAGS = re.compile(r"ner|tag|label|bio|ent(s|ity|ities)|mention|span|annot|rel|tripl", re.IGNORECASE)
"""Keys of annotation, be it a list of words or numbers."""
BIO = re.compile(r"O|[BIESUL]-.+|.+-[BIESUL]", re.DOTALL)
"""A tag of a word, the mark before the type or behind it."""
PREDICTED = "predicted_"
"""How DyGIE and PURE begin the keys of their output, which stand beside gold."""


def has_words(record: Any, keys: Keys) -> bool:
    """Whether a record has something for words where the form has them, be it faulty; other tools' are a text, objects,
    or numbers."""
    if not isinstance(record, dict) or keys.words not in record:
        return False
    words = record[keys.words]
    for _ in range(1 + (keys is DOCUMENT)):
        if not isinstance(words, list):
            return words is None
        if not words:
            return True
        words = words[0]
    return isinstance(words, str)


def tool_of(record: dict) -> str | None:
    """Whose form a record is in, by its keys."""
    whose = next((tool for tool, keys in TOOLS if keys <= record.keys()), None)
    return whose or (TRIPLED if any(TRIPLES.search(str(key)) for key in record) else None)


def tool_of_text(text: str) -> str | None:
    """Whose form a text that is no JSON is in, by its first lines."""
    lines = [line for line in text[:10_000].split("\n")[:100] if line.strip() and not line.startswith("-DOCSTART-")]
    lines = lines[: -1 if len(text) > 10_000 else None]  # the last may be cut
    if lines and all(map(ANN_LINE.match, lines)):
        return "brat's annotation"
    return "CoNLL's columns" if lines and all(map(TAG_LINE.match, lines)) else None


def convert_hint(tool: str | None) -> str:
    """The command that reads a form of others, if one does."""
    return "`sinet convert FILE --out DIR` reads it; " if tool in CONVERTED else ""


def foreign_form(records: Sequence[object], known: str) -> Fault:
    """The fault of a file whose records have no words for a form that is `known` here."""
    record = next((record for record in records if isinstance(record, dict)), None)
    if record is None:
        return Fault(
            "", f"no record is an object but {plain(repr(records[0]))}; write {SENTENCE.shape}; known forms: {known}"
        )
    names = list(map(str, record))
    whose = tool_of(record)
    form = f"looks like {whose}" if whose else "is of no known form"
    for keys in (SENTENCE, DOCUMENT):
        meant = next((name for name in names if name != keys.words and meant_key(name, (keys.words,))), None)
        if meant is not None:
            break
    else:
        keys = SENTENCE
    hint = "" if meant is None else f"unknown key, did you mean {keys.words!r}? The file "
    if under := next((k for k in (SENTENCE, DOCUMENT) if k.words in record), None):  # words of another kind
        keys, meant, right = under, under.words, "words" if under is SENTENCE else "sentences, each a list of words"
        hint = f"no record has a list of {right}, this one has {shown(record[meant])}; the file "
    convert = f"{convert_hint(whose)}convert each record to {keys.shape}; known forms: {known}"
    return Fault(plain(meant or ""), f"{hint}{form}, with the keys {listed(names)}; {convert}")


NAMED = {"entities": ("type", "start", "end"), "relations": ("type", "head", "tail")}


def renamed_items(records: Sequence[tuple[int, object]]) -> Iterator[tuple[int, Fault]]:
    """Line and fault of entities or relations none of which has a key that all need, as they are another tool's."""
    for field, needed in NAMED.items():
        items = [
            (line, i, item)
            for line, record in records
            if isinstance(record, dict) and isinstance(record.get(field), list)
            for i, item in enumerate(record[field])
            if isinstance(item, dict)
        ]
        lacking = [key for key in needed if not any(key in item for _, _, item in items)]
        if len(items) > 1 and lacking:
            line, i, first = items[0]
            what = f"{len(items):,} {field} and none has {' and '.join(lacking)}; this one has {listed(list(first))}"
            yield line, Fault(f"{field}[{i}]", f"{what}; write {SENTENCE.shape}")


def lost_annotation(records: Sequence[tuple[int, object]], keys: Keys) -> Iterator[tuple[int, Fault]]:
    """Line and fault of annotation that would be passed over, as no record has any where it is read."""
    unread: dict[str, list[int]] = {}  # key -> lines of the records that hold something there
    entities = relations = False
    for line, record in records:
        if isinstance(record, dict):
            entities = entities or _filled(record.get(keys.entities))
            relations = relations or _filled(record.get("relations"))
            for key, value in (*record.items(), *_inside(record.get(keys.entities))):
                read = key in (keys.words, keys.entities, "relations", *keys.others)
                if not read and (_filled(value) or _tagged(key, value)):
                    unread.setdefault(key, []).append(line)
    related = {key: lines for key, lines in unread.items() if RELATED.search(key) and not key.startswith(PREDICTED)}
    if not entities and unread:
        lost, what, where = unread, "an entity", keys.entities
    elif not relations and related:
        lost, what, where = related, "a relation", "relations"
    else:
        return
    line = min(lines[0] for lines in lost.values())
    number = max(map(len, lost.values()))
    yield (
        line,
        Fault(
            "",
            f"no record has {what} under `{where}`, but {number:,} {'hold' if number > 1 else 'holds'} something under "
            f"{listed(sorted(lost))}, which is not read; write {keys.shape}, or remove what is no annotation",
        ),
    )


def _inside(entities: object) -> Iterator[tuple[str, object]]:
    """What stands as relations within entities."""
    for entity in entities if isinstance(entities, list) else ():
        if isinstance(entity, dict):
            yield from ((f"{key} of entities", value) for key, value in entity.items() if RELATED.search(key))


def _filled(value: Any) -> bool:
    """Whether a value is an object that is not empty, or a list of lists or objects one of which is not."""
    if isinstance(value, dict):
        return bool(value)
    return isinstance(value, list) and any(isinstance(item, list | dict) and item for item in value)


def _tagged(key: str, value: Any) -> bool:
    """Whether a value is a list of tags: called so, or all in BIO's form or one of its kin, which a text may be, too.
    Other lists of words or numbers, as of parts of speech, are no annotation of entities."""
    tags = value.split() if isinstance(value, str) else value
    if not isinstance(tags, list) or not tags or any(isinstance(item, list | dict) for item in tags):
        return False
    called = isinstance(value, list) and bool(TAGS.search(key))
    return called or all(isinstance(item, str) and BIO.fullmatch(item) for item in tags)


# -- offsets in characters -----------------------------------------------------------------------------------------

GLUED_LEFT, GLUED_RIGHT = re.compile(r"^([.,;:!?%)\]}'”]|n't$)"), re.compile(r"[(\[{$“]$")
"""Words before and after which running text has no blank."""


def counted_characters(records: Sequence[tuple[int, object]], keys: Keys) -> tuple[int, Fault] | None:
    """Line and fault of a file whose spans are mostly words if they count characters, some being none if they count
    words."""
    aligned = spans = 0
    inclusive = keys is DOCUMENT
    first: tuple[int, Fault] | None = None
    for line, record in records:
        for field, words, start, end, base in _spans(record, keys):
            spans += 1
            fits = base <= start < end + inclusive <= base + len(words.tokens)
            place = words.at(start, end)
            aligned += place is not None
            if not fits and place is not None and first is None:
                begin, stop = place
                fault = (
                    f"[{start}, {end}] is not a span of the {len(words.tokens)} words, but as characters it is "
                    f"{plain(' '.join(words.tokens[begin:stop]))!r}: offsets count words, write "
                    f"[{begin + base}, {stop + base - inclusive}]; so for the whole file, whose offsets seem to count "
                    "characters"
                )
                first = line, Fault(field, fault)
    return first if 2 * aligned > spans else None


def _sizes(tokens: list[str]) -> tuple[Callable[[str], int], ...]:
    """How a word's length may be counted."""
    if all(map(str.isascii, tokens)):
        return (len,)
    return (
        len,
        lambda word: len(word.encode(errors="replace")),
        lambda word: len(word.encode("utf-16-le", errors="replace")) // 2,
    )


class _Words:
    """The words of a sentence, and where each begins and ends in its text: joined by blanks, or as running text, in
    characters, bytes of UTF-8 and units of UTF-16 (JavaScript's)."""

    def __init__(self, tokens: list[str], before: int) -> None:
        self.tokens, self.before = tokens, before
        self.edges: list[tuple[dict[int, int], dict[int, int]]] = []
        for glued, size in itertools.product((False, True), _sizes(tokens)):
            place, starts, ends = 0, {}, {}
            for i, token in enumerate(tokens):
                near = glued and i and (GLUED_LEFT.search(token) or GLUED_RIGHT.search(tokens[i - 1]))
                place += bool(i) and not near
                starts[place] = i
                place += size(token)
                ends[place] = i + 1
            self.edges.append((starts, ends))

    def at(self, start: int, end: int) -> tuple[int, int] | None:
        """The words [begin, stop) that the characters of a span are, its end exclusive or inclusive, counted through
        the sentence or, with so many characters before it, the document."""
        for (starts, ends), last, offset in itertools.product(self.edges, (0, 1), {0, self.before}):
            begin, stop = starts.get(start - offset), ends.get(end - offset + last)
            if begin is not None and stop is not None and begin < stop:
                return begin, stop
        return None


def _spans(record: Any, keys: Keys) -> Iterator[tuple[str, _Words, int, int, int]]:
    """Field, words, start, end (exclusive unless it counts characters) and first word's number of each entity whose
    form is right."""
    words, entities = (record.get(key) for key in (keys.words, keys.entities)) if isinstance(record, dict) else (0, 0)
    if not isinstance(words, list) or not isinstance(entities, list):
        return
    several = keys is DOCUMENT
    sentences = zip(words, entities, strict=False) if several else [(words, entities)]
    base = before = 0
    for number, (tokens, items) in enumerate(sentences):
        if not isinstance(tokens, list) or not isinstance(items, list) or not all(isinstance(t, str) for t in tokens):
            return
        made = _Words(tokens, before)
        for i, item in enumerate(items):
            if not isinstance(item, dict | list):
                continue
            span: list[Any] = [item.get("start"), item.get("end")] if isinstance(item, dict) else item[:2]
            if len(span) == 2 and all(map(whole, span)):
                yield f"{keys.entities}{f'[{number}]' if several else ''}[{i}]", made, span[0], span[1], base
        base += len(tokens)
        before += sum(map(len, tokens)) + len(tokens)
