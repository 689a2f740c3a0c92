"""One sentence format for gold, predictions and raw text: JSON lines.

    {"id": "scierc-test-0", "tokens": ["We", ...],
     "entities": [{"type": "Method", "start": 4, "end": 6}],
     "relations": [{"type": "Used-for", "head": 0, "tail": 1}],
     "document": "...", "coreference": [[4, 6, 0]],
     "heads": [1, -1, ...], "dependencies": ["nsubj", "ROOT", ...], "pos": ["PRP", "VBP", ...]}

`end` is exclusive; `head` and `tail` index into `entities`; `coreference` names mentions (start, end) of the document's
clusters by number. `heads`, `dependencies` and `pos` are a parse (`sinet.data.parse`): of each word the position of the
word that it depends on, -1 for none, how it does, and its part of speech. Only `tokens` is required, so raw text is
read by the same reader; predictions carry a `score` on each entity and relation.
"""

import functools
import itertools
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sinet.data.decode import Fault, decoded, utf8_lines
from sinet.data.parse import DEPENDENCIES, TAGS
from sinet.errors import CONTROL, UserError, closest, listed, nearest, plain, quoted
from sinet.files import check_sum, json_line


@dataclass(frozen=True, slots=True)
class Entity:
    """A typed mention over the words [start, end)."""

    type: str
    start: int
    end: int
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Relation:
    """A typed, directed relation; `head` and `tail` are positions in the sentence's entity list."""

    type: str
    head: int
    tail: int
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Sentence:
    """Words with entities and relations, gold or predicted.

    A relation's `head` and `tail` are positions in `entities`, an entity's `start` and `end` (exclusive) positions in
    `tokens`. `coreference` holds (start, end, cluster) of mentions, where a dataset has them. `text` holds the words of
    the whole document, of which this sentence begins at `offset`; its sentences share one tuple. `heads`,
    `dependencies` and `pos` hold its parse, one of each a word, or nothing.
    """

    id: str
    tokens: tuple[str, ...]
    entities: tuple[Entity, ...] = ()
    relations: tuple[Relation, ...] = ()
    document: str | None = None
    coreference: tuple[tuple[int, int, int], ...] = ()
    text: tuple[str, ...] = field(default=(), compare=False, repr=False)
    offset: int = field(default=0, compare=False, repr=False)
    heads: tuple[int, ...] = field(default=(), repr=False)
    dependencies: tuple[str, ...] = field(default=(), repr=False)
    pos: tuple[str, ...] = field(default=(), repr=False)

    def with_labels(self, entities: Iterable[Entity], relations: Iterable[Relation]) -> "Sentence":
        """The same words under other annotations, e.g. a prediction."""
        return replace(self, entities=tuple(entities), relations=tuple(relations))

    def without_labels(self) -> "Sentence":
        """What a model may see of a sentence it is to label."""
        return replace(self, entities=(), relations=(), coreference=())

    def without_parse(self) -> "Sentence":
        """The sentence alone, as predictions are written."""
        return replace(self, heads=(), dependencies=(), pos=())

    def context(self, window: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The words before and after it in its document that fill a window of so many words, as in PURE (Zhong and
        Chen, NAACL 2021, section 3.4): half of the rest on either side; what one side lacks the other does not get."""
        end, rest = self.offset + len(self.tokens), max(0, window - len(self.tokens))
        return self.text[max(0, self.offset - rest // 2) : self.offset], self.text[end : end + rest - rest // 2]


@dataclass(frozen=True)
class Labels:
    """The label inventory of a dataset; the order of a type in its tuple is its class index."""

    entity_types: tuple[str, ...]
    relation_types: tuple[str, ...]
    symmetric: frozenset[str] = frozenset()

    @classmethod
    def from_json(cls, record: dict) -> "Labels":
        """What `to_json` gave; without `symmetric`, no type is."""
        return cls(
            tuple(record["entity_types"]), tuple(record["relation_types"]), frozenset(record.get("symmetric", ()))
        )

    @classmethod
    def occurring(cls, sentences: Iterable[Sentence]) -> "Labels":
        """The types that occur, sorted."""
        entities: set[str] = set()
        relations: set[str] = set()
        for sentence in sentences:
            entities.update(e.type for e in sentence.entities)
            relations.update(r.type for r in sentence.relations)
        return cls(tuple(sorted(entities)), tuple(sorted(relations)))

    @classmethod
    def read(cls, path: Path) -> "Labels":
        """The labels of a `labels.json`; raises `UserError` for a file that holds none, and `OSError`."""
        try:
            check_sum(path)
            record = json.loads(path.read_text(encoding="utf-8"))
            labels = cls.from_json(record)
            for types in (record["entity_types"], record["relation_types"], record.get("symmetric", [])):
                if not isinstance(types, list) or not all(map(_is_type, types)) or len(set(types)) < len(types):
                    raise TypeError
            if not labels.symmetric <= set(labels.relation_types):
                raise TypeError
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            right = '{"entity_types": [...], "relation_types": [...], "symmetric": [some relation types]}'
            raise UserError(
                f"{path}: should hold {right}, each type once, as a prepared dataset's labels.json"
            ) from None
        return labels

    def to_json(self) -> dict:
        """As `labels.json` has it."""
        return {
            "entity_types": list(self.entity_types),
            "relation_types": list(self.relation_types),
            "symmetric": sorted(self.symmetric),
        }


GOLD_ENTITY_RELATIONS = "gold_entity_relations"
"""Key of a predicted sentence, of the relations that were decided between the gold sentence's entities."""
PARSE = {"heads", "dependencies", "pos"}
"""Keys of a parse, which is read where all are there."""
LONGEST_WORD = 10_000
"""Characters of a word: some tokenizers' time grows with the square of them."""
# white space that ends a word; CoreNLP's words may hold a no-break space ("1 1/2")
BLANK = re.compile(r"[ \t\n\r\v\f\x85\u2028\u2029]")


def mistakes(record: Any) -> Iterator[Fault]:
    """Everything wrong with decoded JSON that should be a sentence."""
    if not isinstance(record, dict):
        yield Fault("", f'a sentence is an object such as {{"tokens": ["A", "word"]}}, not {record!r:.40}')
        return
    yield from misspelt(record, ("tokens", "entities", "relations"))
    if not isinstance(record.get("id", ""), str) and not whole(record["id"]):
        yield Fault("id", f"should be a text or a whole number, is {record['id']!r:.40}")
    tokens = record.get("tokens")
    if not isinstance(tokens, list) or not tokens:
        yield Fault("tokens", "should be a list of at least one word")
        return
    for i, token in enumerate(tokens):
        if not isinstance(token, str) or not token.strip():
            yield Fault(f"tokens[{i}]", f"should be a word, is {token!r:.40}")
        elif len(token) > LONGEST_WORD:
            yield Fault(f"tokens[{i}]", f"a word of {len(token):,} characters, {LONGEST_WORD:,} at most; split it")
        elif BLANK.search(token):
            yield Fault(f"tokens[{i}]", f"should be a word without white space, is {token!r:.40}")
    if not isinstance(record.get("document"), str | None):
        yield Fault("document", f"should be a document's name, is {record['document']!r:.40}")
    for key in ("id", "document"):
        if isinstance(record.get(key), str) and (what := controlled(record[key])):
            yield Fault(key, what)
    unlisted = [key for key in ("entities", "relations") if not isinstance(record.get(key, []), list)]
    yield from (Fault(key, f"should be a list, is {record[key]!r:.40}") for key in unlisted)
    if unlisted:
        return
    entities = record.get("entities", [])
    for key, items, check in (
        ("entities", entities, lambda item: _entity_mistakes(item, len(tokens))),
        ("relations", record.get("relations", []), lambda item: _relation_mistakes(item, len(entities))),
    ):
        for i, item in enumerate(items):
            if isinstance(item, Fault):
                yield item
                continue
            for part, what in check(item):
                yield Fault(f"{key}[{i}]{part}", what)
    clusters = record.get("coreference", [])
    if not isinstance(clusters, list) or not all(
        isinstance(m, list) and len(m) == 3 and all(map(whole, m)) and 0 <= m[0] < m[1] <= len(tokens) for m in clusters
    ):
        yield Fault("coreference", "should be a list of [start, end, cluster], end exclusive")
    yield from _parse_mistakes(record, len(tokens))


def _parse_mistakes(record: dict, words: int) -> Iterator[Fault]:
    """What is wrong with a parse, if there is one: other tools' keys are called `pos`, too."""
    if not record.keys() >= PARSE:
        return
    for key in sorted(PARSE):
        if not isinstance(items := record[key], list) or len(items) != words:
            yield Fault(key, f"should be a list of {words} items, one a word")
            return
    for key, known in (("dependencies", DEPENDENCIES), ("pos", TAGS)):
        for i, item in enumerate(record[key]):
            if item not in known:
                yield Fault(f"{key}[{i}]", f"unknown label {quoted(str(item))}, {nearest(str(item), known)}")
                return
    heads = record["heads"]
    for i, head in enumerate(heads):
        if not whole(head) or not -1 <= head < words:
            yield Fault(f"heads[{i}]", f"should be the position of a word, or -1 for a root, is {head!r:.40}")
            return
    # a word is above itself where as many steps as there are words lead to no root
    above = list(range(words))
    for _ in range(words):
        above = [heads[word] if word >= 0 else -1 for word in above]
        if not any(word >= 0 for word in above):
            return
    yield Fault("heads", f"word {next(i for i, word in enumerate(above) if word >= 0)} hangs below itself")


def misspelt(record: dict, known: tuple[str, ...]) -> Iterator[Fault]:
    """Lists whose key resembles a known one that the record lacks: annotation that would be lost without a word. Other
    tools' keys may stand beside ours."""
    for key, value in sorted(record.items()):
        meant = meant_key(key, known) if isinstance(value, list) and key not in known else None
        if meant is not None and meant not in record:
            yield Fault(plain(key), f"unknown key, did you mean {meant!r}?")


@functools.lru_cache(maxsize=1024)
def meant_key(key: str, known: tuple[str, ...]) -> str | None:
    """The known key that another one abbreviates (`ents`, `entity`), or is a slip of the keyboard for."""
    stem = key.rstrip("sy")
    for name in known:
        if (len(stem) > 2 and name.startswith(stem)) or sorted(key) == sorted(name):
            return name
    return closest(key, known, cutoff=0.85)


def controlled(name: str) -> str | None:
    """What is wrong with a name that holds a line break or another control character."""
    return f"{quoted(name)} holds a line break or control character; remove it" if CONTROL.search(name) else None


def _entity_mistakes(item: Any, words: int) -> Iterator[tuple[str, str]]:
    if not _typed(item):
        hint = "; lists are Two are Better than One's form, an array (`format: table_sequence`)" * isinstance(
            item, list
        )
        yield "", f'should be an object {{"type", "start", "end"}} with a text as type, is {item!r:.60}{hint}'
        return
    start, end = item.get("start"), item.get("end")
    if not (whole(start) and whole(end)):
        yield "", f"start {start!r:.40} and end {end!r:.40} should be whole numbers"
    elif not 0 <= start < end <= words:
        hint = ""
        if 0 <= start == end < words:
            hint = f"; if your ends are inclusive, write {end + 1}"
        elif 0 <= end < start <= words:
            hint = f"; if they are reversed, write {end}, {start}"
        yield (
            "",
            f"[{start}, {end}) is not a span of the {words} words: 0 <= start < end <= {words} is right "
            f"(end is exclusive){hint}",
        )
    yield from _common_mistakes(item)


def _relation_mistakes(item: Any, entities: int) -> Iterator[tuple[str, str]]:
    if not _typed(item):
        yield "", f'should be an object {{"type", "head", "tail"}} with a text as type, is {item!r:.60}'
        return
    for role in ("head", "tail"):
        if not whole(item.get(role)) or not 0 <= item[role] < entities:
            yield f".{role}", f"{item.get(role)!r:.40} is not a position in the list of {entities} entities"
    yield from _common_mistakes(item)


def _common_mistakes(item: dict) -> Iterator[tuple[str, str]]:
    if what := controlled(item["type"]):
        yield ".type", what
    score = item.get("score")
    number = isinstance(score, int | float) and not isinstance(score, bool) and abs(score) < math.inf
    if score is not None and not number:
        yield ".score", f"should be a finite number, is {score!r:.40}"


def _typed(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("type"), str) and bool(item["type"].strip())


def _is_type(name: object) -> bool:
    return isinstance(name, str) and bool(name.strip()) and not controlled(name)


def whole(value: Any) -> bool:
    """Whether decoded JSON is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def parse_sentence(record: Any, where: str, default_id: str) -> Sentence:
    """Build a sentence from decoded JSON; `where` (`file:line`) opens every message.

    Raises:
        UserError: naming the first field that is missing or wrong, and what would be right.
    """
    for fault in mistakes(record):
        raise UserError(f"{where}: {fault}")
    parse: dict[str, Any] = {key: tuple(record[key]) for key in PARSE} if record.keys() >= PARSE else {}
    return Sentence(
        str(record.get("id", default_id)),
        tuple(record["tokens"]),
        tuple(Entity(e["type"], e["start"], e["end"], e.get("score")) for e in record.get("entities", ())),
        tuple(Relation(r["type"], r["head"], r["tail"], r.get("score")) for r in record.get("relations", ())),
        record.get("document"),
        tuple(map(tuple, record.get("coreference", ()))),
        **parse,
    )


def check_types(sentence: Sentence, labels: Labels, where: str) -> None:
    """Refuse a type that the dataset does not declare, naming the nearest one that it does."""
    both: tuple[tuple[str, Sequence[Entity | Relation], tuple[str, ...]], ...] = (
        ("entities", sentence.entities, labels.entity_types),
        ("relations", sentence.relations, labels.relation_types),
    )
    for kind, items, known in both:
        for i, item in enumerate(items):
            if item.type not in known:
                raise UserError(
                    f"{where}: {kind}[{i}].type: unknown type {quoted(item.type)}, {nearest(item.type, known)}"
                )


NO_RELATION = re.compile(
    r"o|n|na|nan|nota|nil|null|void|nothing|neither|unknown|undefined|unrelated|background|\w*norel\w*|"
    r"(no|non|none|not|neg|negatives?|others?|false)(oftheabove|applicable|rel|relat(ed|ions?|ionships?)|"
    r"(link|edge|label|type|interact|assoc|connect)\w*)?|(rel\w*|ddi)(none|other|false)|[无無没沒]\w*|其[他它]|未知"
)
"""Lower-case letters of types that stand for the absence of a relation in other corpora."""


def absences(types: Iterable[str]) -> list[str]:
    """The relation types that by their name are the absence of one; a negative beside a positive is a polarity."""
    letters = {kind: re.sub(r"\(e\d,e\d\)|[\W\d_]", "", kind.lower()) for kind in types}
    polarities = {"neg", "negative"} if {"pos", "positive"} & set(letters.values()) else set()
    return [kind for kind, name in letters.items() if NO_RELATION.fullmatch(name) and name not in polarities]


def ask_absence(types: Sequence[str]) -> str:
    """The question about relation types that by their name are none."""
    return (
        f"{listed(types)}: do these relation types stand for the absence of a relation? If so, skip them: "
        f"`no_relation: [{', '.join(map(quoted, types))}]` in the dataset's declaration, "
        f"`check --no-relation {' '.join(map(plain, types))}`"
    )


def without_relations(sentence: Sentence, types: Collection[str]) -> Sentence:
    """The sentence without relations of some types, whatever their case."""
    left_out = {kind.lower() for kind in types}
    return replace(sentence, relations=tuple(r for r in sentence.relations if r.type.lower() not in left_out))


def against_roles(sentences: Iterable[Sentence], labels: Labels) -> str | None:
    """What keeps data from a system that takes every head of a relation for the first of two entity types, every tail
    for the second; None where nothing does. Relation types that are not declared are passed over."""
    rule = "heads of relations should be of the first of two entity types, tails of the second; here"
    types = labels.entity_types
    if len(types) != 2:
        return f"{rule} are the entity types {listed(types)}"
    if labels.symmetric:
        return f"{rule} relations are without a direction ({listed(sorted(labels.symmetric))})"
    for sentence in sentences:
        for r in sentence.relations:
            head, tail = sentence.entities[r.head].type, sentence.entities[r.tail].type
            if r.type in labels.relation_types and (head, tail) != types:
                return f"{rule} sentence {quoted(sentence.id)} relates {quoted(head)} to {quoted(tail)}"
    return None


def iter_sentences(path: Path, labels: bool = True) -> Iterator[Sentence]:
    """Read a JSON-lines file one sentence at a time; raises `UserError` with `file:line: field`.

    Without `labels` entities and relations are passed over, whatever they are. Sentences that follow each other under
    one `document` are its text: it is read to its end before they are given.
    """
    check_sum(path)

    def alone() -> Iterator[Sentence]:
        for number, line in utf8_lines(path):
            if line.strip():
                record = decoded(line, f"{path}:{number}")
                if not labels and isinstance(record, dict):
                    record |= {"entities": [], "relations": []}
                yield parse_sentence(record, f"{path}:{number}", default_id=str(number - 1))

    yield from in_documents(alone())


def in_documents(sentences: Iterable[Sentence]) -> Iterator[Sentence]:
    """The sentences with the text of their document: of those that follow each other under one name."""
    for document, together in itertools.groupby(sentences, key=lambda sentence: sentence.document):
        if document is None:
            yield from together
            continue
        whole = list(together)
        text = tuple(word for sentence in whole for word in sentence.tokens)
        offsets = itertools.accumulate((len(sentence.tokens) for sentence in whole), initial=0)
        yield from (replace(s, text=text, offset=offset) for s, offset in zip(whole, offsets, strict=False))


def by_document(documents: Sequence[str | None]) -> list[list[int]]:
    """Positions of the sentences of each document, in the order of the data: of those that follow each other under one
    name; a sentence of no document is one by itself."""
    runs = itertools.groupby(enumerate(documents), key=lambda item: item[0] if item[1] is None else item[1])
    return [[i for i, _ in run] for _, run in runs]


def read_sentences(path: Path) -> list[Sentence]:
    """All sentences of a JSON-lines file."""
    return list(iter_sentences(path))


def sentence_to_json(sentence: Sentence) -> dict:
    """The record of one line, without the fields that are absent."""

    def annotation(item: Entity | Relation, *fields: str) -> dict:
        record = {"type": item.type} | {field: getattr(item, field) for field in fields}
        return record if item.score is None else record | {"score": round(item.score, 4)}

    record = {
        "id": sentence.id,
        "tokens": list(sentence.tokens),
        "entities": [annotation(e, "start", "end") for e in sentence.entities],
        "relations": [annotation(r, "head", "tail") for r in sentence.relations],
    }
    if sentence.document is not None:
        record["document"] = sentence.document
    if sentence.coreference:
        record["coreference"] = [list(mention) for mention in sentence.coreference]
    if sentence.heads:
        record |= {key: list(getattr(sentence, key)) for key in sorted(PARSE)}
    return record


def sentence_line(sentence: Sentence) -> str:
    """A sentence as a line of JSON."""
    return json_line(sentence_to_json(sentence))


def write_sentences(path: Path, sentences: Iterable[Sentence]) -> None:
    """Write JSON lines, one sentence each."""
    with open(path, "w", encoding="utf-8") as file:
        for sentence in sentences:
            file.write(sentence_line(sentence))
