"""Published formats read as one."""

import json
from collections import Counter
from pathlib import Path

import pytest

from sinet.data.decode import read_text
from sinet.data.formats import read, recognise
from sinet.data.prepare import BRACKETS, prepare, with_brackets
from sinet.data.sentence import Entity, Labels, Relation, Sentence, read_sentences, write_sentences
from sinet.errors import UserError
from sinet.evaluate.metrics import score
from sinet.grid.config import load_config
from sinet.grid.plan import resolve
from tests.conftest import DATASETS, LABELS, dataset
from tests.reference import stored

DOCUMENT = {
    "doc_key": "D",
    "sentences": [["We", "parse", "-LRB-", "well", "-RRB-", "."], ["Parsing", "uses", "trees", "."]],
    "ner": [[[1, 1, "TASK"]], [[6, 6, "Task"], [8, 8, "Method"]]],
    "relations": [[], [[8, 8, 6, 6, "USED-FOR"]]],
    "clusters": [[[1, 1], [6, 6]]],
}
TWO = {
    "tokens": ["a", "b", "c"],
    "entities": [[0, 1, "Task"], [1, 3, "Method"]],
    "relations": [[1, 3, 0, 1, "Used-for"]],
}
GOOD = {"tokens": ["a", "b", "c"], "entities": [{"type": "Task", "start": 0, "end": 2}], "relations": []}


def lines(path, *records):
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records) + "\n", encoding="utf-8")
    return path


def test_documents_become_sentences_with_their_coreference(tmp_path):
    path = lines(tmp_path / "d.jsonl", DOCUMENT)
    assert recognise(read_text(path)) == "dygie"
    first, second = read(path, "dygie", LABELS)
    assert first.tokens == ("We", "parse", "-LRB-", "well", "-RRB-", ".") and first.entities == (Entity("Task", 1, 2),)
    assert second == Sentence(
        "D-1",
        ("Parsing", "uses", "trees", "."),
        (Entity("Task", 0, 1), Entity("Method", 2, 3)),
        (Relation("Used-for", 1, 0),),
        "D",
        ((0, 1, 0),),
    )
    assert first.coreference == ((1, 2, 0),)


def test_two_are_better_form(tmp_path):
    path = tmp_path / "t.json"
    path.write_text(json.dumps([TWO]), encoding="utf-8")
    assert recognise(read_text(path)) == "table_sequence"
    (sentence,) = read(path, "table_sequence")
    assert sentence.entities == (Entity("Task", 0, 1), Entity("Method", 1, 3))
    assert sentence.relations == (Relation("Used-for", 1, 0),)


@pytest.mark.parametrize(
    "form, record, message",
    [
        ("dygie", DOCUMENT | {"ner": [[]]}, r"ner: should hold one list for each of the 2 sentences"),
        (
            "dygie",
            DOCUMENT | {"ner": [[[1, 6, "T"]], []], "relations": [[], []]},
            r"if your ends are exclusive, write 5",
        ),
        (
            "dygie",
            DOCUMENT | {"ner": [[[3, 1, "T"]], []], "relations": [[], []]},
            r"ner\[0\]\[0\].*reversed, write 1, 3",
        ),
        ("dygie", DOCUMENT | {"ner": [[], [[0, 1, "T"]]], "relations": [[], []]}, r"ner\[1\]\[0\].*write 6, 7"),
        (
            "dygie",
            DOCUMENT | {"relations": [[[0, 0, 1, 1, "X"]], []]},
            r"relations\[0\]\[0\]: \[0, 0\] is not the span of an",
        ),
        ("dygie", DOCUMENT | {"ner": [[[1]], []]}, r"ner\[0\]\[0\]: should be \[start, end, type\].*is \[1\]"),
        ("dygie", DOCUMENT | {"clusters": [[1]]}, r"clusters: should be a list of clusters"),
        ("dygie", DOCUMENT | {"sentences": [["a"], "b"]}, r"sentences\[1\]: should be a list of words"),
        (
            "table_sequence",
            TWO | {"relations": [[0, 2, 0, 1, "X"]]},
            r"relations\[0\]: \[0, 2\] is not the span of an .* \[0, 1\], \[1, 3\]",
        ),
        ("table_sequence", TWO | {"entities": [[0, 1]]}, r"entities\[0\]: should be \[start, end, type\].*is \[0, 1\]"),
        ("table_sequence", TWO | {"entities": {}}, r"entities: should be a list"),
        ("spert", GOOD | {"entities": [{"type": "T", "start": 2, "end": 0}]}, r"entities\[0\].*reversed, write 0, 2"),
        (
            "spert",
            GOOD | {"entities": [{"type": "T", "start": "0", "end": 1}]},
            r"entities\[0\]: start '0' and end 1 should",
        ),
    ],
)
def test_faults_of_other_forms_are_named(tmp_path, form, record, message):
    path = tmp_path / "in.json"
    path.write_text(json.dumps(record if form == "dygie" else [record]), encoding="utf-8")
    with pytest.raises(UserError, match=r"in\.json:1: .*" + message):
        read(path, form)


def aste(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_triplets_become_aspects_opinions_and_polarities(tmp_path):
    figures = stored("aste.json")
    path = aste(tmp_path / "a.txt", *figures["lines"])
    assert recognise(read_text(path)) == "aste"
    found = read(path, None, Labels(tuple(figures["entity_types"]), tuple(figures["relation_types"])))
    assert [s.id for s in found] == [f"a-{i}" for i in range(len(figures["lines"]))]
    for sentence, right in zip(found, figures["sentences"], strict=True):
        spans = [[e.start, e.end] for e in sentence.entities]
        assert list(sentence.tokens) == right["words"]
        assert [[*span, e.type] for span, e in zip(spans, sentence.entities, strict=True)] == right["entities"]
        assert [[r.type, spans[r.head], spans[r.tail]] for r in sentence.relations] == right["relations"]


def test_triplets_are_read_as_annotated(tmp_path):
    """A span that is aspect and opinion is two entities; a repeated triplet a repeated relation; an own separator in
    the words stays; Span-ASTE's repeated separator is one."""
    path = aste(
        tmp_path / "a.txt",
        "a #### b####[([2], [2], 'NEU'), ([2], [2], 'NEU')]",
        "",
        "good food #### #### ####[([1], [0], 'POS')]",
        "no triplet####[]",
    )
    first, second, third = read(path, None)
    assert first.tokens == ("a", "####", "b")
    assert first.entities == (Entity("Aspect", 2, 3), Entity("Opinion", 2, 3))
    assert first.relations == 2 * (Relation("NEU", 0, 1),)
    assert second == Sentence(
        "a-1",
        ("good", "food"),
        (Entity("Opinion", 0, 1), Entity("Aspect", 1, 2)),
        (Relation("POS", 1, 0),),
    )
    assert third == Sentence("a-2", ("no", "triplet"))


@pytest.mark.parametrize(
    "line, message",
    [
        ("no separator", r"no #### in the line; sentence####\[\(\[aspect .* is right"),
        ("a b####[([0], [1], 'POS')", r"broken list of triplets: .* at column 26"),
        ("a b####[([0], [1], 'POS') + open('x')]", r"broken list of triplets: .* at column 27"),
        ("a b####{}", r"triplets: should be a list, is \{\}"),
        ("a b####", r"broken list of triplets"),
        ("a b####[([0], [1])]", r"triplets\[0\]: should be \(\[aspect word numbers\], .* is \[\[0\], \[1\]\]"),
        ("a b####[([0], [1], 'POS'), ([0], 1, 'POS')]", r"triplets\[1\]\[1\]: should be a list of .* is 1"),
        ("a b####[([], [1], 'POS')]", r"triplets\[0\]\[0\]: should be a list of at least one word number"),
        ("a b####[([1], [2], 'POS')]", r"triplets\[0\]\[1\]: \[2\] are not all words .*; numbers 0 to 1 are right"),
        ("a b####[([-1], [1], 'POS')]", r"triplets\[0\]\[0\]: \[-1\] are not all words"),
        ("a b c####[([0, 2], [1], 'POS')]", r"triplets\[0\]\[0\]: \[0, 2\] is no span: all numbers"),
        ("a b c####[([0], [2, 1], 'POS')]", r"triplets\[0\]\[1\]: \[2, 1\] is no span"),
        ("a  b####[([0], [1], 'POS')]", r"tokens\[1\]: should be a word, is ''"),
        ("a b####[([0], [1], 'BAD')]", r"relations\[0\]\.type: unknown type 'BAD'"),
    ],
)
def test_faults_of_triplets_have_their_place(tmp_path, line, message):
    path = aste(tmp_path / "a.txt", "a b####[([0], [1], 'POS')]", line)
    with pytest.raises(UserError, match=r"a\.txt:2: .*" + message):
        read(path, "aste", Labels(("Aspect", "Opinion"), ("NEG", "NEU", "POS")))


TRIPLETS = {  # Xu et al. (2020), ASTE-Data-V2: sentences and triplets of train, dev and test
    "14lap": ((906, 1460), (219, 346), (328, 543)),
    "14res": ((1266, 2338), (310, 577), (492, 994)),
    "15res": ((605, 1013), (148, 249), (322, 485)),
    "16res": ((857, 1394), (210, 339), (326, 514)),
}


@pytest.mark.parametrize("name", TRIPLETS)
def test_aspect_sentiment_triplets_are_as_published(name, tmp_path, caplog):
    card = prepare(name, dataset(load_config()["datasets"][name]), [str(DATASETS)], tmp_path)["splits"]
    found = [(split["sentences"], sum(split["relations"].values())) for split in card.values()]
    assert tuple(found) == TRIPLETS[name] and "absence" not in caplog.text


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_scierc_documents_are_the_sentences_of_scierc(split, tmp_path):
    config = load_config()
    texts = {}
    for name in ("scierc", "scierc-documents"):
        prepare(name, dataset(config["datasets"][name]), [str(DATASETS)], tmp_path / name)
        texts[name] = read_sentences(tmp_path / name / f"{split}.jsonl")

    def plain(sentence: Sentence) -> tuple:
        spans = [(e.type, e.start, e.end) for e in sentence.entities]
        return (
            sentence.tokens,
            sorted(spans),
            sorted((r.type, spans[r.head], spans[r.tail]) for r in sentence.relations),
        )

    assert [plain(s) for s in texts["scierc"]] == [plain(s) for s in texts["scierc-documents"]]
    assert any(s.coreference for s in texts["scierc-documents"])
    documents = [s.document for s in texts["scierc-documents"]]
    assert len(dict.fromkeys(documents)) == {"train": 350, "dev": 50, "test": 100}[split]
    assert documents == sorted(documents, key=list(dict.fromkeys(documents)).index), "documents stay together"
    if split != "train":
        assert [*Counter(documents).values()] == config["datasets"]["scierc"]["documents"][split]


def test_folds_are_datasets_whose_training_is_all_the_others(tmp_path):
    config = load_config()
    assert "ade" not in config["datasets"] and {f"ade-{i}" for i in range(10)} <= config["datasets"].keys()
    card = prepare("ade-3", dataset(config["datasets"]["ade-3"]), [str(DATASETS)], tmp_path / "kept")
    splits = {s: read_sentences(tmp_path / "kept" / f"{s}.jsonl") for s in ("train", "dev", "test")}
    assert sum(map(len, splits.values())) == 4272 and len(splits["test"]) == 427
    assert len(splits["dev"]) == round(0.1 * (4272 - 427))
    overlapping = sum(c["overlapping_entities"] for c in card["splits"].values())
    assert overlapping > 0
    declared = config["datasets"]["ade-3"] | {"overlapping": "removed"}
    card = prepare("ade-3", dataset(declared), [str(DATASETS)], tmp_path / "removed")
    assert sum(c["overlapping_entities"] for c in card["splits"].values()) == 0
    assert all(sum(c["relations"].values()) > 0 for c in card["splits"].values())


def test_a_grid_that_names_folds_runs_them_all(tmp_path):
    overlay = tmp_path / "c.yaml"
    overlay.write_text("grid: [{datasets: [ade], encoders: [minilm], models: [sinet], seeds: [0], recipe: short}]")
    plan = resolve(load_config(overlay))
    assert plan.datasets == [f"ade-{i}" for i in range(10)]


# -- published preprocessing, bit for bit --------------------------------------------------------------------------


Claims = tuple[list[str], list[tuple], list[tuple]]


def claims(tokens: list[str], spans: list[tuple], relations: list[tuple]) -> Claims:
    """What of a sentence is scored: words, typed spans, and relations with their arguments' types and spans."""
    return list(tokens), sorted(spans), sorted((kind, spans[head], spans[tail]) for kind, head, tail in relations)


def prepared_claims(sentence: Sentence) -> Claims:
    spans = [(e.type, e.start, e.end) for e in sentence.entities]
    return claims(sentence.tokens, spans, [(r.type, r.head, r.tail) for r in sentence.relations])


def reread(path: Path, form: str, labels: Labels, folder: Path) -> list[Sentence]:
    """A file read, written in the project's form, and read again."""
    write_sentences(folder / "again.jsonl", read(path, form, labels))
    return read_sentences(folder / "again.jsonl")


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_published_files_lose_nothing_that_is_scored(split, tmp_path):
    """SciERC as published in SpERT's and in DyGIE's form, against its own JSON taken apart here."""
    labels = Labels.from_json(load_config()["datasets"]["scierc"])
    types = {kind.lower(): kind for kind in (*labels.entity_types, *labels.relation_types)}
    path = DATASETS / "scierc" / f"scierc_{split}.json"
    raw = json.loads(path.read_text(encoding="utf-8"))
    spert = [
        claims(
            record["tokens"],
            [(e["type"], e["start"], e["end"]) for e in record["entities"]],
            [(r["type"], r["head"], r["tail"]) for r in record["relations"]],
        )
        for record in raw
    ]
    again = reread(path, "spert", labels, tmp_path)
    assert [prepared_claims(s) for s in again] == spert

    path, dygie, clusters = DATASETS / "scierc_documents" / f"{split}.json", [], 0
    for line in path.read_text(encoding="utf-8").splitlines():
        document, base = json.loads(line), 0
        clusters += sum(map(len, document["clusters"]))
        for words, ner, related in zip(document["sentences"], document["ner"], document["relations"], strict=True):
            spans = [(types[kind.lower()], start - base, end - base + 1) for start, end, kind in ner]
            plain = [(start, end) for _, start, end in spans]
            found = [
                (
                    types[r[4].lower()],
                    plain.index((r[0] - base, r[1] - base + 1)),
                    plain.index((r[2] - base, r[3] - base + 1)),
                )
                for r in related
            ]
            dygie.append(claims(words, spans, found))
            base += len(words)
    documents = reread(path, "dygie", labels, tmp_path)
    assert [prepared_claims(s) for s in documents] == dygie
    assert [([BRACKETS.get(w, w) for w in words], *rest) for words, *rest in dygie] == spert
    documents = list(map(with_brackets, documents))
    assert sum(len(s.coreference) for s in documents) == clusters > 0

    path = tmp_path / "two.json"
    written = [
        {
            "tokens": record["tokens"],
            "entities": [[e["start"], e["end"], e["type"]] for e in record["entities"]],
            "relations": [
                [record["entities"][r[role]][side] for role in ("head", "tail") for side in ("start", "end")]
                + [r["type"]]
                for r in record["relations"]
            ],
        }
        for record in raw
    ]
    path.write_text(json.dumps(written), encoding="utf-8")
    assert [prepared_claims(s) for s in reread(path, "table_sequence", labels, tmp_path)] == spert

    for reading in score(again, documents, labels).values():
        assert all(figures["f1"] == 100 for figures in reading.values())
