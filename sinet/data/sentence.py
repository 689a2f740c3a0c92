"""One sentence format for gold, predictions and raw text: JSON lines.

    {"id": "scierc-test-0", "tokens": ["We", ...],
     "entities": [{"type": "Method", "start": 4, "end": 6}],
     "relations": [{"type": "Used-for", "head": 0, "tail": 1}],
     "document": "...", "coreference": [[4, 6, 0]]}

`end` is exclusive; `head` and `tail` index into `entities`; `coreference` names mentions (start, end) of the document's
clusters by number. Only `tokens` is required, so raw text is read by the same reader; predictions carry a `score` on
each entity and relation.
"""

import difflib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sinet.errors import UserError, nearest


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
    id: str
    tokens: tuple[str, ...]
    entities: tuple[Entity, ...] = ()
    relations: tuple[Relation, ...] = ()
    document: str | None = None
    coreference: tuple[tuple[int, int, int], ...] = ()

    def with_labels(self, entities: Iterable[Entity], relations: Iterable[Relation]) -> "Sentence":
        """The same words under other annotations, e.g. a prediction."""
        return Sentence(self.id, self.tokens, tuple(entities), tuple(relations), self.document, self.coreference)

    def without_labels(self) -> "Sentence":
        """What a model may see of a sentence it is to label."""
        return Sentence(self.id, self.tokens, (), (), self.document)


@dataclass(frozen=True)
class Labels:
    """The label inventory of a dataset; the order of a type in its tuple is its class index."""

    entity_types: tuple[str, ...]
    relation_types: tuple[str, ...]
    symmetric: frozenset[str] = frozenset()

    @classmethod
    def from_json(cls, record: dict) -> "Labels":
        return cls(
            tuple(record["entity_types"]), tuple(record["relation_types"]), frozenset(record.get("symmetric", ()))
        )

    def to_json(self) -> dict:
        return {
            "entity_types": list(self.entity_types),
            "relation_types": list(self.relation_types),
            "symmetric": sorted(self.symmetric),
        }


KEYS = ("id", "tokens", "entities", "relations", "document", "coreference")


def mistakes(record: object) -> Iterator[tuple[str, str]]:
    """Everything wrong with decoded JSON that should be a sentence: field, and what would be right."""
    if not isinstance(record, dict):
        yield "", f'a sentence is an object such as {{"tokens": ["A", "word"]}}, not {record!r:.40}'
        return
    for key in record.keys() - set(KEYS):
        if close := difflib.get_close_matches(str(key), KEYS, n=1, cutoff=0.75):
            yield str(key), f"unknown key, did you mean {close[0]!r}?"
    tokens = record.get("tokens")
    if not isinstance(tokens, list) or not tokens:
        yield "tokens", "should be a list of at least one word"
        return
    for i, token in enumerate(tokens):
        if not isinstance(token, str) or not token.strip():
            yield f"tokens[{i}]", f"should be a word, is {token!r:.40}"
    for field in ("entities", "relations"):
        if not isinstance(record.get(field, []), list):
            yield field, "should be a list of objects"
            return
    entities = record.get("entities", [])
    for i, item in enumerate(entities):
        if not isinstance(item, dict) or not isinstance(item.get("type"), str):
            yield f"entities[{i}]", 'should be an object {"type", "start", "end"} with a text as type'
            continue
        start, end = item.get("start"), item.get("end")
        if not (_whole(start) and _whole(end)) or not 0 <= start < end <= len(tokens):
            hint = ""
            if _whole(start) and start == end and 0 <= start < len(tokens):
                hint = f"; if your ends are inclusive, write {end + 1}"
            yield (
                f"entities[{i}]",
                f"[{start}, {end}) is no span of the {len(tokens)} words: 0 <= start < end <= {len(tokens)} "
                f"is right (end is exclusive){hint}",
            )
    for i, item in enumerate(record.get("relations", [])):
        field = f"relations[{i}]"
        if not isinstance(item, dict) or not isinstance(item.get("type"), str):
            yield field, 'should be an object {"type", "head", "tail"} with a text as type'
            continue
        for role in ("head", "tail"):
            if not _whole(item.get(role)) or not 0 <= item[role] < len(entities):
                yield f"{field}.{role}", f"{item.get(role)!r} is no position in the list of {len(entities)} entities"
    clusters = record.get("coreference", [])
    if not isinstance(clusters, list) or not all(
        isinstance(m, list) and len(m) == 3 and all(map(_whole, m)) and 0 <= m[0] < m[1] <= len(tokens)
        for m in clusters
    ):
        yield "coreference", "should be a list of [start, end, cluster], end exclusive"


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def parse_sentence(record: object, where: str, default_id: str) -> Sentence:
    """Build a sentence from decoded JSON; `where` (`file:line`) opens every message.

    Raises:
        UserError: naming the first field that is missing or wrong, and what would be right.
    """
    for field, what in mistakes(record):
        raise UserError(f"{where}: {field}: {what}" if field else f"{where}: {what}")
    return Sentence(
        str(record.get("id", default_id)),
        tuple(record["tokens"]),
        tuple(Entity(e["type"], e["start"], e["end"], e.get("score")) for e in record.get("entities", ())),
        tuple(Relation(r["type"], r["head"], r["tail"], r.get("score")) for r in record.get("relations", ())),
        record.get("document"),
        tuple(map(tuple, record.get("coreference", ()))),
    )


def check_types(sentence: Sentence, labels: Labels, where: str) -> None:
    """Refuse a type that the dataset does not declare, naming the nearest one that it does."""
    for kind, items, known in (
        ("entities", sentence.entities, labels.entity_types),
        ("relations", sentence.relations, labels.relation_types),
    ):
        for i, item in enumerate(items):
            if item.type not in known:
                raise UserError(f"{where}: {kind}[{i}].type: unknown type {item.type!r}, {nearest(item.type, known)}")


def iter_sentences(path: Path) -> Iterator[Sentence]:
    """Read a JSON-lines file one sentence at a time; raises `UserError` with `file:line: field`."""
    try:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    record = json.loads(line)
                except json.JSONDecodeError as error:
                    raise UserError(f"{path}:{number}: broken JSON: {error.msg} at column {error.colno}") from None
                yield parse_sentence(record, f"{path}:{number}", default_id=str(number - 1))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 (byte {error.start}); convert the file to UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


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
    return record


def sentence_line(sentence: Sentence) -> str:
    """A sentence as a line of JSON."""
    return json.dumps(sentence_to_json(sentence), ensure_ascii=False) + "\n"


def write_sentences(path: Path, sentences: Iterable[Sentence]) -> None:
    """Write JSON lines, one sentence each."""
    with open(path, "w", encoding="utf-8") as file:
        for sentence in sentences:
            file.write(sentence_line(sentence))
