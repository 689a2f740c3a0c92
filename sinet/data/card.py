"""Dataset cards: what a dataset holds, counted, and held against what its declaration says it holds."""

import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations

from sinet import systems
from sinet.data.sentence import Entity, Labels, Sentence
from sinet.errors import UserError, plain
from sinet.markup import markdown

SHOWN_TYPES = 200
"""Types that the page of a card lists, the most frequent ones."""
WIDE = 8
"""Entities of more words than this are called wide: the span-based systems enumerate spans of up to 8 words."""

SCALARS = {
    "sentences": "sentences",
    "tokens": "tokens",
    "overlapping_entities": "overlapping entity pairs",
    "several_entity_types": "spans of several entity types",
    "several_relation_types": "pairs of several relation types",
    "wide_entities": f"entities wider than {WIDE} words",
    "duplicate_entities": "exact duplicate entities",
    "duplicate_relations": "exact duplicate relations",
    "repeated_sentences": "sentences that repeat an earlier one",
    "without_entities": "sentences without an entity",
    "longest": "longest sentence (words)",
}


def count(sentences: Sequence[Sentence], labels: Labels) -> dict:
    """The figures of one split; types that never occur are counted as 0."""
    entities = Counter({t: 0 for t in labels.entity_types})
    relations = Counter({t: 0 for t in labels.relation_types})
    overlapping = wide = duplicate_entities = duplicate_relations = several_entities = several_relations = 0
    for s in sentences:
        entities.update(e.type for e in s.entities)
        relations.update(r.type for r in s.relations)
        overlapping += _overlapping(s.entities)
        several_entities += _several((e.type, e.start, e.end) for e in s.entities)
        several_relations += _several(
            (r.type, *((e.start, e.end) for e in (s.entities[r.head], s.entities[r.tail]))) for r in s.relations
        )
        wide += sum(e.end - e.start > WIDE for e in s.entities)
        duplicate_entities += len(s.entities) - len({(e.type, e.start, e.end) for e in s.entities})
        duplicate_relations += len(s.relations) - len({(r.type, r.head, r.tail) for r in s.relations})
    return {
        "sentences": len(sentences),
        "tokens": sum(len(s.tokens) for s in sentences),
        "entities": dict(entities),
        "relations": dict(relations),
        "overlapping_entities": overlapping,
        "several_entity_types": several_entities,
        "several_relation_types": several_relations,
        "wide_entities": wide,
        "duplicate_entities": duplicate_entities,
        "duplicate_relations": duplicate_relations,
        "repeated_sentences": len(sentences) - len({s.tokens for s in sentences}),
        "without_entities": sum(not s.entities for s in sentences),
        "longest": max((len(s.tokens) for s in sentences), default=0),
    }


def _several(claims: Iterable[tuple]) -> int:
    """Places that have more than one type, of claims that are a type and a place."""
    return sum(n > 1 for n in Counter(tuple(place) for _, *place in set(claims)).values())


def missed_types(counted: Iterable[Mapping]) -> Iterator[str]:
    """Which systems cannot find all types of a span or a pair, where splits with these figures have several."""
    counted = list(counted)
    for what, of in (("span", "entity"), ("pair", "relation")):
        if n := sum(figures[f"several_{of}_types"] for figures in counted):
            yield (
                f"{what}s with several {of} types: {n}; these systems predict one type a {what} and miss the others: "
                f"{', '.join(name for name in systems.sources() if what in systems.settings(name).one_type)}"
            )


def _overlapping(entities: Sequence[Entity]) -> int:
    """Pairs of entities that share a word: all but those of which one ends before the other starts."""
    ends = sorted(e.end for e in entities)
    return len(entities) * (len(entities) - 1) // 2 - sum(bisect.bisect_right(ends, e.start) for e in entities)


def table_checksum(sentences: Sequence[Sentence], symmetric: frozenset[str]) -> dict[str, int]:
    """Cells of the word-by-word table of every sentence, by type: entities fill their span by their span, relations
    overwrite span by span, symmetric ones also transposed; and the sum of squared lengths, `cells`."""
    total: Counter[str] = Counter()
    for sentence in sentences:
        total["cells"] += len(sentence.tokens) ** 2
        table: dict[tuple[int, int], str] = {}
        for e in sentence.entities:
            table.update({(i, j): e.type for i in range(e.start, e.end) for j in range(e.start, e.end)})
        for r in sentence.relations:
            head, tail = sentence.entities[r.head], sentence.entities[r.tail]
            cells = [(i, j) for i in range(head.start, head.end) for j in range(tail.start, tail.end)]
            table.update(dict.fromkeys(cells, r.type))
            if r.type in symmetric:
                table.update({(j, i): r.type for i, j in cells})
        total.update(table.values())
    return dict(total)


def shared_sentences(splits: Mapping[str, Sequence[Sentence]]) -> dict[str, int]:
    """How many distinct sentences each pair of splits has in common, as `train/test`."""
    words = {name: {s.tokens for s in sentences} for name, sentences in splits.items()}
    return {f"{a}/{b}": len(words[a] & words[b]) for a, b in combinations(words, 2)}


def check_counts(dataset: str, split: str, found: dict, declared: dict) -> None:
    """Refuse a split that does not hold what is declared, listing every difference."""

    def differ(name: str, actual: int, expected: int) -> list[str]:
        return [f"{name} {actual}, declared {expected}"] if actual != expected else []

    differences: list[str] = []
    for field, expected in declared.items():
        actual = found[field]
        if isinstance(expected, dict):
            for kind in sorted(expected.keys() | actual.keys()):
                differences += differ(f"{field} {kind}", actual.get(kind, 0), expected.get(kind, 0))
        else:
            differences += differ(field, actual, expected)
    if differences:
        raise UserError(f"{dataset} {split}: {'; '.join(differences)}")


def card_markdown(card: dict) -> str:
    """The card as a page: one table of figures, one of entity and one of relation types, splits as columns."""
    splits = list(card["splits"])

    def table(title: str, rows: list[tuple[str, list[int]]]) -> list[str]:
        head = [f"| {title} | " + " | ".join(map(_cell, splits)) + " |", "|---|" + "---:|" * len(splits)]
        return [*head, *(f"| {name} | " + " | ".join(f"{v:,}" for v in values) + " |" for name, values in rows), ""]

    def column(field: str) -> list:
        return [card["splits"][s][field] for s in splits]

    def typed(field: str) -> list[tuple[str, list[int]]]:
        counts = column(field)
        kinds = sorted(counts[0], key=lambda t: -counts[0][t])
        rows = [("**all**", [sum(c.values()) for c in counts])]
        rows += [(_cell(t), [c[t] for c in counts]) for t in kinds[:SHOWN_TYPES]]
        if rest := kinds[SHOWN_TYPES:]:
            rows.append((f"{len(rest):,} more types", [sum(c[t] for t in rest) for c in counts]))
        return rows

    shared = ", ".join(f"{pair} {n}" for pair, n in card["shared_sentences"].items())
    return "\n".join(
        [
            f"# {markdown(card['title'])}",
            "",
            *table("figure", [(title, column(field)) for field, title in SCALARS.items()]),
            *table("entities", typed("entities")),
            *table("relations", typed("relations")),
            f"Symmetric relation types: {', '.join(map(_cell, card['labels']['symmetric'])) or 'none'}.",
            *([f"Sentences shared between splits: {markdown(shared)}."] if shared else []),
            "",
            *map(markdown, card.get("notes") or ()),
            "",
            *([_files(card["files"])] if card["files"] else []),
        ]
    )


def _cell(name: str) -> str:
    return markdown(plain(name))


def _files(files: Sequence[dict]) -> str:
    listed = "; ".join(f"{f['split']} {markdown(f['path'])} SHA-256 {f['sha256'][:16]}…" for f in files)
    return f"Files: {listed}.\n"
