"""Predictions of other tools, laid on the sentences of a split."""

import itertools
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path

from sinet.data.convert import READERS, Account, recognised, resolved
from sinet.data.document import Document
from sinet.data.formats import FORMS, read, renamed
from sinet.data.sentence import Entity, Labels, Relation, Sentence
from sinet.errors import UserError, quoted


def read_predictions(path: Path, gold: Sequence[Sentence] | None, labels: Labels, account: Account) -> list[Sentence]:
    """The sentences of `gold` as a file predicts them; of a split that is not here yet, none.

    The file is in a form of sentences (`sinet.data.formats`) or of a tool that annotates characters, such as triples of
    strings (`sinet.data.convert`), one text a sentence. Its sentences are matched by their ids where it has all of the
    split's, else by their words, each once.

    Args:
        labels: the dataset's types, which a file may write in another case.
        account: is told which mentions end inside a word, and what else a text's annotation loses.

    Raises:
        UserError: a file that cannot be read, or not of these sentences, naming the first that differs. OSError.
    """
    form = recognised(path)
    found: list[Sentence | Document]
    if form in FORMS:
        found = [*read(path, form)]
    else:
        found = [resolved(document, True, account) for document in READERS[form](path, account)]
    return [] if gold is None else [renamed(s, labels) for s in _matched(path, gold, found, account)]


def _matched(
    path: Path, gold: Sequence[Sentence], found: Sequence[Sentence | Document], account: Account
) -> list[Sentence]:
    by_name = {_name(item): item for item in found}
    named = {sentence.id for sentence in gold} <= by_name.keys()
    by_words: dict[str, deque[Sentence | Document]] = {}
    for item in found:
        by_words.setdefault(_letters(item), deque()).append(item)
    size = f"{len(found):,} of the test split's {len(gold):,} sentences"
    made = []
    for sentence in gold:
        here, first = by_words.get(_letters(sentence)), quoted(" ".join(sentence.tokens[:8]))
        if named and _letters(item := by_name[sentence.id]) != _letters(sentence):
            raise UserError(f"{path}: sentence {quoted(sentence.id)}: other words than in the test split ({first} ...)")
        if not named and not here:
            raise UserError(f"{path}: sentence {quoted(sentence.id)} ({first} ...) is missing; the file has {size}")
        item = by_name[sentence.id] if named or not here else here.popleft()
        if isinstance(item, Document):
            made.append(_on_words(sentence, item, f"{path}: {sentence.id}", account))
        elif item.tokens != sentence.tokens:
            raise UserError(f"{path}: sentence {quoted(sentence.id)}: words divided otherwise than in the test split")
        else:
            made.append(sentence.with_labels(item.entities, item.relations))
    if len(found) > len(gold):
        ids = {sentence.id for sentence in gold}
        left = [item for items in by_words.values() for item in items if not named or _name(item) not in ids]
        raise UserError(f"{path}: sentence {quoted(_name((left or found)[0]))} is not in the test split; {size}")
    return made


def _name(item: Sentence | Document) -> str:
    return item.id if isinstance(item, Sentence) else item.name


def _letters(item: Sentence | Document) -> str:
    """All characters but blanks: the same however words are divided."""
    return "".join((" ".join(item.tokens) if isinstance(item, Sentence) else item.text).split())


def _on_words(sentence: Sentence, document: Document, where: str, account: Account) -> Sentence:
    """The mentions and relations of a document of these very characters on a sentence's words."""
    before = list(itertools.accumulate((not c.isspace() for c in document.text), initial=0))
    edges = list(itertools.accumulate((len("".join(word.split())) for word in sentence.tokens), initial=0))
    word = {edge: n for n, edge in enumerate(edges)}
    entities: list[Entity] = []
    number: dict[int, int] = {}
    for i, (kind, start, end) in enumerate(document.mentions):
        first, last = word.get(before[start]), word.get(before[end])
        if first is None or last is None:
            account.lose(where, "mentions that end inside a word", quoted(document.text[start:end]))
            continue
        number[i] = len(entities)
        entities.append(Entity(kind, first, last))
    relations = []
    for kind, head, tail in document.relations:
        if head in number and tail in number:
            relations.append(Relation(kind, number[head], number[tail]))
        else:
            account.lose(where, "relations without an entity as argument", kind)
    return sentence.with_labels(entities, relations)


def unknown_types(sentences: Sequence[Sentence], labels: Labels) -> Counter[str]:
    """Entities and relations by type, of the types that the labels lack."""
    return Counter(
        item.type
        for s in sentences
        for items, known in ((s.entities, labels.entity_types), (s.relations, labels.relation_types))
        for item in items
        if item.type not in known
    )


def said_of(unknown: Counter[str] | dict[str, int]) -> str:
    """Unknown types in a line; empty where there are none."""
    listed = ", ".join(f"{quoted(kind)} ({n:,})" for kind, n in sorted(unknown.items(), key=lambda of: -of[1]))
    return f"unknown types, counted as wrong: {listed}" if unknown else ""
