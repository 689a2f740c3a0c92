"""`python -m sinet check`: every fault of files in a known format, each with its place and what would be right.

Faults of one line are found by the readers (`sinet.data.formats`, `sinet.data.sentence`); here they are collected, with
those that show only across sentences and files: duplicates, misspelt types, sentences too long for an encoder, types
that only some splits have, test sentences that occur in the training data.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sinet.data.card import card_markdown, count, missed_types, shared_sentences
from sinet.data.decode import REPLACEMENT, Fault, read_with_faults
from sinet.data.formats import FORMS, NotThisForm, located, recognise, renamed, spellings
from sinet.data.sentence import (
    Entity,
    Labels,
    Sentence,
    absences,
    ask_absence,
    mistakes,
    parse_sentence,
    whole,
    without_relations,
)
from sinet.errors import UserError, closest, counted, listed, nearest, quoted

RARE = 20
"""A type that is so many times rarer than one spelt almost like it is taken for a misspelling, without a label set."""
FEW, MANY = 20, 100
"""Entities of which one should be a single word, and one of several: a hint, and a fault in DyGIE's form."""
MOST_TYPES = 500
"""More types than this are not compared by their spelling, whose time grows with the square: none has so many."""
SPLIT_OF = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("dev", "devel", "development", "val", "valid", "validation"), "dev"
)
"""Words in the names of files, and the split that they mean."""
ALIKE = 0.85
"""How like two types must be spelt for that (difflib's ratio, whatever their case)."""


@dataclasses.dataclass(frozen=True)
class Report:
    """What was found: faults as `file:line: field: what is wrong, what would be right`, and a description of the files
    with a card of the sentences that can be read."""

    faults: list[str]
    description: str


def check_files(
    paths: Sequence[Path],
    labels: Labels | None,
    too_long: Callable[[Sequence[str]], str | None] | None,
    published: Mapping[int, int] | None = None,
    no_relation: Sequence[str] = (),
) -> Report:
    """Check files that belong together, as splits of one dataset, and describe them.

    Args:
        labels: the types that may occur; None to judge spelling by frequency.
        too_long: says what is wrong with the number of some words, or None.
        published: repeated entities and relations that a split of so many sentences is known to hold; no faults there.
        no_relation: relation types that are left out.

    Raises:
        UserError: a file that is named twice.
    """
    same = Counter(path.resolve() for path in paths)
    if twice := [str(path) for path in paths if same[path.resolve()] > 1]:
        raise UserError(f"{twice[0]}: named {same[Path(twice[0]).resolve()]} times; name each file once")
    train = str(_training(paths))
    known = labels and dataclasses.replace(labels, relation_types=(*labels.relation_types, *no_relation))
    files = {str(path): _check_file(path, known, too_long, published or {}, no_relation) for path in paths}
    described = [f"training split: {train}"] if len(paths) > 1 else []
    described += [file.description for file in files.values()]
    splits = {name: file.sentences for name, file in files.items() if file.read}
    types = {name: file.types for name, file in files.items() if file.read}
    between = [
        *(_spelling(splits) if labels is None else ()),
        *(() if files[train].illegible else _new_types(types, train)),
        *_repeated(splits, train),
    ]
    if between:
        described.append(f"across the files: {counted(len(between), 'fault')}")
    described += _lacking_types(types, train)
    if asked := absences(sorted({kind for fields in types.values() for kind in fields["relations"]})):
        described.append(ask_absence(asked))
    faults = [fault for file in files.values() for fault in file.faults]
    return Report([*faults, *between], "\n".join([*described, "", _card(splits, labels)]))


@dataclasses.dataclass
class _File:
    """What was found in one file.

    Attributes:
        sentences: those without a mistake, with their places.
        types: field -> type -> its first place, in refused sentences too.
        read: whether it is text at all; illegible: whether a type may be among what cannot be made out.
    """

    faults: list[str] = dataclasses.field(default_factory=list)
    description: str = ""
    sentences: list[tuple[str, Sentence]] = dataclasses.field(default_factory=list)
    types: dict[str, dict[str, str]] = dataclasses.field(default_factory=lambda: {"entities": {}, "relations": {}})
    read: bool = True
    illegible: bool = False


def _check_file(
    path: Path,
    labels: Labels | None,
    too_long: Callable[[Sequence[str]], str | None] | None,
    published: Mapping[int, int],
    no_relation: Sequence[str],
) -> _File:
    try:
        text, unreadable = read_with_faults(path)
    except UserError as error:
        return _File([str(error)], f"{path}: cannot be read", read=False)
    file = _File([*unreadable])
    form = recognise(text)
    named: dict[str, str] = {}  # id -> first place
    repeated: set[str] = set()
    left_out = {kind.lower() for kind in no_relation}
    title = f"{FORMS[form].title} (`format: {form}`)"
    for number, (where, record) in enumerate(located(path, form, text)):
        if isinstance(record, Fault):
            file.faults.append(f"{where}: {record}")
            file.illegible = True
            title = "of no known form" if isinstance(record, NotThisForm) else title
            continue
        if unreadable and REPLACEMENT in str(record):
            file.illegible = True
            continue  # its line is a fault already; what stands in it is not what was meant
        wrong = [str(fault) for fault in mistakes(record)]
        file.faults += (f"{where}: {what}" for what in (*wrong, *_record_faults(record, labels, too_long)))
        for kind, first in file.types.items():
            typed = [item["type"] for _, item in _typed(record, kind)]
            for name in (n for n in typed if kind == "entities" or n.lower() not in left_out):
                first.setdefault(_declared(name, labels, kind), where)
            file.illegible |= len(typed) < len(_items(record, kind))
        file.faults += _named_again(record, where, form, named)
        again = [f"{where}: {what}" for what in _repetitions(record)]
        file.faults += again
        repeated.update(again)
        if not wrong:
            sentence = without_relations(parse_sentence(record, where, f"{path.stem}-{number}"), no_relation)
            file.sentences.append((where, renamed(sentence, labels) if labels else sentence))
    if not file.sentences and not file.faults:
        file.faults.append(f"{path}:1: the file holds no sentence")
    entities = [entity for _, sentence in file.sentences for entity in sentence.entities]
    ends = _suspected_ends(form, entities)
    if ends and form == "dygie" and len(entities) >= MANY:
        file.faults.append(f"{path}:1: ner: {ends}")
        ends = None
    known = bool(repeated) and len(repeated) == published.get(len(file.sentences))
    if known:
        file.faults = [fault for fault in file.faults if fault not in repeated]
    file.description = (
        f"{path}: {title}, {counted(len(file.faults), 'fault')}"
        + (f"; {counted(len(repeated), 'repetition')}, as published" if known else "")
        + (f"; {ends}" if ends else "")
    )
    return file


def _card(splits: dict[str, list[tuple[str, Sentence]]], labels: Labels | None) -> str:
    plain = {name: [sentence for _, sentence in sentences] for name, sentences in splits.items() if sentences}
    if not plain:
        return "No sentence can be read."
    everything = [sentence for sentences in plain.values() for sentence in sentences]
    occurring = Labels(
        tuple(dict.fromkeys((*(labels.entity_types if labels else ()), *_types(everything, "entities")))),
        tuple(dict.fromkeys((*(labels.relation_types if labels else ()), *_types(everything, "relations")))),
        labels.symmetric if labels else frozenset(),
    )
    counted = {name: count(sentences, occurring) for name, sentences in plain.items()}
    stems = [Path(name).stem for name in plain]
    titles = dict(zip(plain, stems if len(set(stems)) == len(stems) else plain, strict=True))
    return card_markdown(
        {
            "title": ", ".join(Path(name).name for name in plain),
            "labels": occurring.to_json(),
            "splits": {titles[name]: figures for name, figures in counted.items()},
            "shared_sentences": shared_sentences({titles[name]: s for name, s in plain.items()}),
            "files": [],
            "notes": [f"Warning: {what}." for what in missed_types(counted.values())],
        }
    )


def _types(sentences: Sequence[Sentence], field: str) -> list[str]:
    return sorted({item.type for sentence in sentences for item in getattr(sentence, field)})


def _record_faults(
    record: Any, labels: Labels | None, too_long: Callable[[Sequence[str]], str | None] | None
) -> Iterator[str]:
    """Faults of a sentence whatever else is wrong with it: types, relations to oneself, length."""
    if not isinstance(record, dict):
        return
    for field, known in (
        ("entities", labels.entity_types if labels else None),
        ("relations", labels.relation_types if labels else None),
    ):
        for i, item in _typed(record, field):
            if known is not None and item["type"] not in known and item["type"].lower() not in spellings(known):
                yield f"{field}[{i}].type: unknown type {quoted(item['type'])}, {nearest(item['type'], known)}"
            if field == "relations" and whole(item.get("head")) and item["head"] == item.get("tail"):
                yield f"relations[{i}]: relates entity {item['head']} to itself; head and tail should differ"
    tokens: Any = record.get("tokens")
    words = isinstance(tokens, list) and tokens and all(isinstance(token, str) for token in tokens)
    if too_long is not None and words and (what := too_long(tokens)):
        yield f"tokens: {what}"


def _repetitions(record: Any) -> Iterator[str]:
    """Entities and relations that a sentence holds already."""
    for field, roles in (("entities", ("start", "end")), ("relations", ("head", "tail"))):
        seen: dict[tuple, int] = {}
        for i, item in _typed(record, field):
            places = [item.get(role) for role in roles]
            if all(map(whole, places)) and (earlier := seen.setdefault((item["type"], *places), i)) != i:
                yield f"{field}[{i}]: repeats {field}[{earlier}]; remove one"


def _typed(record: Any, field: str) -> Iterator[tuple[int, dict]]:
    """Place and item of the entities or relations that have a type."""
    for i, item in enumerate(_items(record, field)):
        if isinstance(item, dict) and isinstance(item.get("type"), str):
            yield i, item


def _items(record: Any, field: str) -> list:
    """The entities or relations of a record, whatever they are; none where there is no list of them."""
    items = record.get(field) if isinstance(record, dict) else None
    return items if isinstance(items, list) else []


def _spelling(splits: dict[str, list[tuple[str, Sentence]]]) -> Iterator[str]:
    """Types that occur rarely and are spelt almost like a frequent one."""
    for field in ("entities", "relations"):
        places: dict[str, list[str]] = {}
        for sentences in splits.values():
            for where, sentence in sentences:
                for i, item in enumerate(getattr(sentence, field)):
                    places.setdefault(item.type, []).append(f"{where}: {field}[{i}].type")
        counts = Counter({kind: len(where) for kind, where in places.items()})
        if len(counts) > MOST_TYPES:
            first = next(iter(places.values()))[0]
            yield f"{first}: {len(counts):,} types in all; types are a small set of classes, is this the text instead?"
            continue
        for kind, at in places.items():
            frequent = {other.lower(): other for other, n in counts.items() if n >= RARE * counts[kind]}
            if close := closest(kind.lower(), frequent, cutoff=ALIKE):
                yield (
                    f"{at[0]}: {quoted(kind)} occurs {counted(counts[kind], 'time')} in all, "
                    f"{frequent[close]!r} {counts[frequent[close]]}; "
                    "if it is a type of its own, name it in --labels"
                )


def _declared(kind: str, labels: Labels | None, field: str) -> str:
    """A type as it is declared, whatever its case in the file."""
    known = () if labels is None else labels.entity_types if field == "entities" else labels.relation_types
    return spellings(known).get(kind.lower(), kind)


def split_of(path: Path) -> str | None:
    """The split that a file is called after (`x_train.json`, of several such words the last), or its folder (`train/`),
    if any."""
    words = [SPLIT_OF[word] for word in re.split(r"[^a-z]+", path.stem.lower()) if word in SPLIT_OF]
    return words[-1] if words else SPLIT_OF.get(path.absolute().parent.name.lower())


def _training(paths: Sequence[Path]) -> Path:
    """The file that is called train, else the first."""
    called = [path for path in paths if split_of(path) == "train"]
    return called[0] if len(called) == 1 else paths[0]


def _named_again(record: Any, where: str, form: str, named: dict[str, str]) -> Iterator[str]:
    """The fault of an id, or of the name of a document of sentences, that an earlier one has; `named` keeps them."""
    if not isinstance(record, dict) or "id" not in record:
        return
    name = record["document"] if form == "dygie" else record["id"]
    if form == "dygie":
        if record["id"] != f"{name}-0":
            return  # told at the document's first sentence
        where = where.rsplit(": sentence ", 1)[0]
    if name is not None and (earlier := named.setdefault(str(name), where)) != where:
        what = "doc_key" if form == "dygie" else "id"
        yield f"{where}: {what}: {quoted(str(name))} is also the {what} of {earlier}; give each its own"


def _suspected_ends(form: str, entities: Sequence[Entity]) -> str | None:
    """What lets ends be taken for exclusive in DyGIE's form, for inclusive in others, though every span fits. Spans of
    ASTE-Data-V2 have no end, but all their words."""
    lengths = [entity.end - entity.start for entity in entities]
    if len(lengths) < FEW:
        return None
    if form == "dygie" and min(lengths) > 1:
        return (
            f"none of {len(lengths)} entities is one word; ends are inclusive in this form: if yours are exclusive, "
            "write each less by one"
        )
    if form not in ("dygie", "aste") and max(lengths) == 1:
        return (
            f"each of {len(lengths)} entities is one word; ends are exclusive in this form: if yours are inclusive, "
            "write each greater by one"
        )
    return None


def _new_types(types: dict[str, dict[str, dict[str, str]]], train: str) -> Iterator[str]:
    """Types of other files that the training split lacks, at their first place."""
    if not any(types.get(train, {}).values()):
        return
    for fields in types.values():
        for field, found in fields.items():
            known = types[train][field]
            new = [kind for kind in found if kind not in known]
            if len(new) > MOST_TYPES:
                yield f"{found[new[0]]}: {field}: {len(new):,} types never occur in {train}: {listed(new)}"
                continue
            for kind in new:
                yield f"{found[kind]}: {field}: type {quoted(kind)} never occurs in {train}, {nearest(kind, known)}"


def _lacking_types(types: dict[str, dict[str, dict[str, str]]], train: str) -> Iterator[str]:
    """Types of the training split that another file lacks: no fault, as small splits lack rare types."""
    for name, fields in types.items():
        for field, found in fields.items():
            if lacking := sorted(types.get(train, fields)[field].keys() - found.keys()):
                yield f"{name}: no {field} of the types {listed(lacking)}, which {train} has"


def _repeated(splits: dict[str, list[tuple[str, Sentence]]], train: str) -> Iterator[str]:
    """Sentences of other files that stand in the training split."""
    first: dict[tuple[str, ...], str] = {}
    for where, sentence in splits.get(train, ()):
        first.setdefault(sentence.tokens, where)
    for name, sentences in splits.items():
        for where, sentence in sentences if name != train else ():
            if sentence.tokens in first:
                yield f"{where}: tokens: the same sentence as {first[sentence.tokens]}; remove one of them"
