"""Published formats read as one, and every fault of a file listed with its place."""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sinet.__main__ import main
from sinet.config import load_config, resolve
from sinet.data.check import check_files
from sinet.data.decode import read_text
from sinet.data.formats import read, recognise
from sinet.data.prepare import BRACKETS, prepare, with_brackets
from sinet.data.sentence import Entity, Labels, Relation, Sentence, read_sentences, write_sentences
from sinet.errors import UserError
from sinet.provenance import ROOT
from sinet.score.metrics import score
from tests.conftest import CORPUS, DATASETS, LABELS, SOURCES

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


def faults(capsys, *arguments) -> list[str]:
    assert main(["check", *map(str, arguments)]) == 2
    return capsys.readouterr().err.splitlines()[1:]


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
    assert recognise(read_text(path)) == "two"
    (sentence,) = read(path, "two")
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
            r"relations\[0\]\[0\]: \[0, 0\] is the span of no",
        ),
        ("dygie", DOCUMENT | {"ner": [[[1]], []]}, r"ner\[0\]\[0\]: should be \[start, end, type\].*is \[1\]"),
        ("dygie", DOCUMENT | {"clusters": [[1]]}, r"clusters: should be a list of clusters"),
        ("dygie", DOCUMENT | {"sentences": [["a"], "b"]}, r"sentences\[1\]: should be a list of words"),
        (
            "two",
            TWO | {"relations": [[0, 2, 0, 1, "X"]]},
            r"relations\[0\]: \[0, 2\] is the span of no .* \[0, 1\], \[1, 3\]",
        ),
        ("two", TWO | {"entities": [[0, 1]]}, r"entities\[0\]: should be \[start, end, type\].*is \[0, 1\]"),
        ("two", TWO | {"entities": {}}, r"entities: should be a list"),
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


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_scierc_documents_are_the_sentences_of_scierc(split, tmp_path):
    config = load_config()
    texts = {}
    for name in ("scierc", "scierc-documents"):
        prepare(name, config["datasets"][name], [str(DATASETS)], tmp_path / name)
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


def test_folds_are_datasets_whose_training_is_all_the_others(tmp_path):
    config = load_config()
    assert "ade" not in config["datasets"] and {f"ade-{i}" for i in range(10)} <= config["datasets"].keys()
    card = prepare("ade-3", config["datasets"]["ade-3"], [str(DATASETS)], tmp_path / "kept")
    splits = {s: read_sentences(tmp_path / "kept" / f"{s}.jsonl") for s in ("train", "dev", "test")}
    assert sum(map(len, splits.values())) == 4272 and len(splits["test"]) == 427
    assert len(splits["dev"]) == round(0.1 * (4272 - 427))
    overlapping = sum(c["overlapping_entities"] for c in card["splits"].values())
    assert overlapping > 0
    declared = config["datasets"]["ade-3"] | {"overlapping": "removed"}
    card = prepare("ade-3", declared, [str(DATASETS)], tmp_path / "removed")
    assert sum(c["overlapping_entities"] for c in card["splits"].values()) == 0
    assert all(sum(c["relations"].values()) > 0 for c in card["splits"].values())


def test_a_grid_that_names_folds_runs_them_all(tmp_path):
    overlay = tmp_path / "c.yaml"
    overlay.write_text("grid: [{datasets: [ade], encoders: [minilm], models: [sinet], seeds: [0], recipe: short}]")
    plan = resolve(load_config(overlay))
    assert [run.dataset for run in plan.runs] == [f"ade-{i}" for i in range(10)]


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
    assert [prepared_claims(s) for s in reread(path, "two", labels, tmp_path)] == spert

    for reading in score(again, documents, labels).values():
        assert all(figures["f1"] == 100 for figures in reading.values())


# -- check ------------------------------------------------------------------------------------------------------------


def test_a_good_file_is_described(capsys):
    assert main(["check", str(CORPUS)]) == 0
    out = capsys.readouterr().out
    assert "`format: jsonl`), no faults" in out and "| sentences | 10 |" in out
    assert main(["check", str(DATASETS / "conll04" / "conll04_dev.json"), "--dataset", "conll04"]) == 0
    assert "`format: spert`" in capsys.readouterr().out
    documents = DATASETS / "scierc_documents" / "train.json"
    assert main(["check", str(documents), "--dataset", "scierc-documents"]) == 0
    assert "4 repetitions, as published" in capsys.readouterr().out


def test_repetitions_that_are_declared_are_no_faults(tmp_path, capsys):
    train = DATASETS / "scierc" / "scierc_train.json"
    assert main(["check", str(train), "--dataset", "scierc"]) == 0
    assert "`format: spert`), no faults; 4 repetitions, as published" in capsys.readouterr().out
    records = json.loads(train.read_text(encoding="utf-8"))
    records[0]["entities"].append(records[0]["entities"][0])
    (tmp_path / "a.json").write_text(json.dumps(records))
    found = faults(capsys, tmp_path / "a.json", "--dataset", "scierc")
    assert len(found) == 5 and all("; remove one" in fault for fault in found), "a fifth is not as published"


def test_every_fault_of_a_file_is_listed(tmp_path, capsys):
    path = lines(
        tmp_path / "bad.jsonl",
        {"tokens": ["a", "b"], "entities": [{"type": "Task", "start": 1, "end": 1}]},
        {"tokens": ["a", ""], "entitis": []},
        '{"tokens": ["a"',
        {
            "tokens": ["a", "b", "c"],
            "entities": [{"type": "Taks", "start": 0, "end": 1}, *[{"type": "Task", "start": 1, "end": 2}] * 2],
            "relations": [{"type": "Used-for", "head": 0, "tail": 9}, {"type": "Used-for", "head": 1, "tail": 1}],
        },
        {"tokens": ["word"] * 600},
    )
    (tmp_path / "labels.json").write_text(json.dumps(LABELS.to_json()))
    found = faults(capsys, path, "--labels", tmp_path / "labels.json")
    expected = [
        (1, "entities[0]: [1, 1)", "if your ends are inclusive, write 2"),
        (2, "entitis: unknown key", "did you mean 'entities'?"),
        (2, "tokens[1]: should be a word", ""),
        (3, "broken JSON", "column"),
        (4, "relations[0].tail: 9 is no position", ""),
        (4, "entities[0].type: unknown type 'Taks'", "did you mean 'Task'?"),
        (4, "relations[1]: relates entity 1 to itself", ""),
        (4, "entities[2]: repeats entities[1]", ""),
        (5, "tokens: 602 word pieces, minilm takes 512", "divide the sentence"),
    ]
    assert len(found) == len(expected)
    for (line, start, end), fault in zip(expected, found, strict=True):
        assert fault.startswith(f"{path}:{line}: {start}") and end in fault
    assert faults(capsys, path, "--limit", 2)[2].startswith("... and")


def test_faults_between_splits_are_listed(tmp_path, capsys):
    sentence = {"tokens": ["a", "b"], "entities": [{"type": "Task", "start": 0, "end": 1}]}
    train = lines(tmp_path / "train.jsonl", sentence, sentence | {"tokens": ["c", "d"]})
    test = lines(
        tmp_path / "test.jsonl", sentence, {"tokens": ["e"], "entities": [{"type": "Tsk", "start": 0, "end": 1}]}
    )
    found = faults(capsys, train, test)
    assert any(f"{test}:2: entities: type 'Tsk' never occurs in {train}, did you mean 'Task'?" in f for f in found)
    assert any(f"{test}:1: tokens: the same sentence as {train}:1" in f for f in found)


def test_types_that_only_some_splits_have_are_said_both_ways(tmp_path, capsys):
    def record(*kinds: str, end: int = 1) -> dict:
        return {"tokens": [*kinds, "."], "entities": [{"type": kind, "start": 0, "end": end} for kind in kinds]}

    train = lines(tmp_path / "train.jsonl", record("Task"), record("Rare"), record("Method", end=9))
    test = lines(tmp_path / "test.jsonl", record("Task", "Method"))
    assert main(["check", str(train), str(test)]) == 2
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 2 and "train.jsonl:3: entities[0]: [0, 9) is no span" in said.err, (
        "a type of a refused sentence is no new one elsewhere"
    )
    assert f"{test}: no entities of the types Rare, which {train} has" in said.out
    train = lines(tmp_path / "d.jsonl", {"sentences": [["a", "b"]], "ner": [[[0, 0, "Task"], [0, 9, "Method"]]]})
    (fault,) = faults(capsys, train, test)
    assert "d.jsonl:1: sentence 0: ner[0][1]" in fault, "nor is one whose span cannot be read"


def test_exclusive_ends_in_a_form_with_inclusive_ones_are_suspected(tmp_path, capsys):
    def document(width: int) -> dict:
        words = [[str(i), "a", "b", "c"] for i in range(120)]
        return {"sentences": words, "ner": [[[4 * i, 4 * i + width, "Task"]] for i in range(120)]}

    (fault,) = faults(capsys, lines(tmp_path / "a.jsonl", document(1)))
    assert fault.startswith(f"{tmp_path}/a.jsonl:1: ner: none of 120 entities is one word") and "exclusive" in fault
    assert main(["check", str(lines(tmp_path / "a.jsonl", document(0)))]) == 0


def test_a_rare_spelling_is_suspected(tmp_path, capsys):
    many = [{"tokens": ["a", str(i)], "entities": [{"type": "Method", "start": 0, "end": 1}]} for i in range(30)]
    odd = {"tokens": ["x"], "entities": [{"type": "Metod", "start": 0, "end": 1}]}
    (fault,) = faults(capsys, lines(tmp_path / "a.jsonl", *many, odd))
    assert (
        "a.jsonl:31: entities[0].type: 'Metod' occurs 1 time in all, 'Method' 30; if it is a type of its own" in fault
    )


@pytest.mark.parametrize(
    "form, good, bad, field",
    [
        ("spert", GOOD, GOOD | {"entities": [[0, 1, "Task"]]}, "entities[0]: should be an object"),
        ("spert", GOOD, GOOD | {"entities": ["Task"]}, "entities[0]: should be an object"),
        ("spert", GOOD, GOOD | {"relations": [[0, 1]]}, "relations[0]: should be an object"),
        (
            "two",
            TWO,
            TWO | {"entities": [*TWO["entities"], {"type": "Task"}]},
            "entities[2]: should be [start, end, type]",
        ),
        (
            "two",
            TWO,
            TWO | {"entities": [*TWO["entities"], [[0], 1, "T"]]},
            "entities[2]: should be [start, end, type]",
        ),
        (
            "two",
            TWO,
            TWO | {"relations": [[0, 1, "Used-for"]]},
            "relations[0]: should be [start, end, start, end, type]",
        ),
    ],
)
def test_one_item_of_the_wrong_form_is_named_and_the_others_are_checked(form, good, bad, field, tmp_path, capsys):
    """Whatever the item looks like, the file keeps its form, and the sentences around it are read."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps([bad, good, good | {"tokens": ["a", ""]}, good]), encoding="utf-8")
    assert main(["check", str(path)]) == 2
    out, err = capsys.readouterr()
    found = err.splitlines()[1:]
    assert found[0].startswith(f"{path}:1: sentence 0: {field}")
    assert f"{path}:1: sentence 2: tokens[1]: should be a word, is ''" in found
    assert f"`format: {form}`" in out and "| sentences | 2 |" in out, "the card is of the sentences that can be read"


def test_one_entity_of_the_wrong_form_in_a_document_is_named_and_the_others_are_checked(tmp_path, capsys):
    bad = DOCUMENT | {"ner": [[[1, 1, "Task"], ["x"]], [[6, 6, "Task"], [8, 8, "Method"], [0, 1, "Task"]]]}
    path = lines(tmp_path / "d.jsonl", bad, DOCUMENT | {"doc_key": "E"})
    assert main(["check", str(path)]) == 2
    out, err = capsys.readouterr()
    found = err.splitlines()[1:]
    assert len(found) == 2 and "| sentences | 2 |" in out
    assert found[0].startswith(f"{path}:1: sentence 0: ner[0][1]: should be [start, end, type]")
    assert found[1].startswith(f"{path}:1: sentence 1: ner[1][2]: [0, 1] is no span of the sentence's words (6 to 9)")


@pytest.mark.parametrize("form, record", [("spert", GOOD), ("two", TWO), ("dygie", DOCUMENT)])
def test_no_decodable_file_ends_in_a_traceback(form, record, tmp_path):
    """Every part of a record, replaced by every kind of JSON value, is a fault or is read."""

    def spoilt(value: object) -> Iterator[object]:
        yield from (None, True, 3, -1.5, "x", [], {}, [[]], [None], {"a": 1})
        if isinstance(value, dict | list):
            for key, part in value.items() if isinstance(value, dict) else enumerate(value):
                for other in spoilt(part):
                    changed = copy.deepcopy(value)
                    changed[key] = other
                    yield changed

    path = tmp_path / "in.json"
    read_whole, others = 0, list(spoilt(record))
    for other in others:
        path.write_text(json.dumps(other if form == "dygie" else [other]), encoding="utf-8")
        check_files([path], None, None)
        try:
            read_whole += bool(read(path, form))
        except UserError as error:
            assert str(error).startswith(f"{path}:1"), str(error)
    assert len(others) > 100 and 0 < read_whole < len(others)


def test_an_indented_object_is_one_fault(tmp_path, capsys):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(GOOD, indent=2))
    (fault,) = faults(capsys, path)
    assert fault == f"{path}:1: one JSON object over several lines; write a sentence a line, or an array"


def test_related_names_that_are_alike_are_no_misspellings(tmp_path, capsys):
    def relation(kind: str, n: int) -> dict:
        entities = [{"type": "PER", "start": 0, "end": 1}, {"type": "PER", "start": 1, "end": 2}]
        return {
            "tokens": [kind, str(n)],
            "entities": entities,
            "relations": [{"type": kind, "head": 0, "tail": 1}],
        }

    records = [*(relation("ORG-AFF", n) for n in range(200)), *(relation("GEN-AFF", n) for n in range(9))]
    assert main(["check", str(lines(tmp_path / "a.jsonl", *records))]) == 0
    records += [relation("ORG-AF", n) for n in range(9)]
    (fault,) = faults(capsys, lines(tmp_path / "a.jsonl", *records))
    assert "a.jsonl:210: relations[0].type: 'ORG-AF' occurs 9 times in all, 'ORG-AFF' 200;" in fault


SURROGATE = r'{"tokens": ["a", "\ud800"]}'


@pytest.mark.parametrize(
    "text, message",
    [
        (SURROGATE, r"'\ud800' is half of a character"),
        (r'{"tokens": ["a"], "entities": [{"type": "\udc00", "start": 0, "end": 1}]}', "is half of a character"),
        (r'{"id": "\ud800", "tokens": ["a"]}', "is half of a character"),
        (r'{"tokens": ["a"], "document": "\ud800"}', "is half of a character"),
        ("[" * 100_000, "brackets within brackets, too deep to be read"),
        ('{"tokens": ' * 100_000, "brackets within brackets, too deep to be read"),
        ('{"tokens": ["a"], "id": ' + "9" * 5000 + "}", "integer string conversion"),
        ('{"tokens": ["a"], "tokens": ["b"]}', "key 'tokens' stands twice in an object"),
        ('{"tokens": ["a"], "id": {}}', "id: should be a text or a whole number, is {}"),
        ('{"tokens": ["a b"]}', "tokens[0]: should be a word without white space, is 'a b'"),
        (r'{"tokens": ["a\nb"]}', "tokens[0]: should be a word without white space"),
        ('{"tokens": ["a"], "entities": [{"type": "", "start": 0, "end": 1}]}', "entities[0]: should be an object"),
        (
            '{"tokens": ["a"], "entities": [{"type": "T", "start": 0, "end": 1, "score": NaN}]}',
            "entities[0].score: should be a finite number, is nan",
        ),
    ],
)
def test_what_json_can_hold_and_a_sentence_cannot_is_one_fault(text, message, tmp_path, capsys):
    """In JSON lines, in an array, and for a reader that stops."""
    path = lines(tmp_path / "a.jsonl", GOOD, text)
    (fault,) = faults(capsys, path)
    assert fault.startswith(f"{path}:2: ") and message in fault
    with pytest.raises(UserError, match=re.escape(message)):
        read_sentences(path)
    array = lines(tmp_path / "a.json", f"[{json.dumps(GOOD)},\n{text}]")
    (fault,) = faults(capsys, array)
    assert fault.startswith(f"{array}:2: ") and message in fault


def test_whole_characters_and_no_break_spaces_are_read(tmp_path):
    path = lines(tmp_path / "a.jsonl", r'{"tokens": ["\ud83d\ude00", "1\u00a01/2"]}')
    assert read(path, "jsonl")[0].tokens == ("\U0001f600", "1\xa01/2")


def test_keys_of_other_tools_that_resemble_ours_are_passed_over(tmp_path):
    path = lines(tmp_path / "a.jsonl", GOOD | {"ltokens": ["x"], "rtokens": ["y"], "relation": []})
    assert main(["check", str(path)]) == 0


def test_files_in_no_known_form_are_one_fault(tmp_path, capsys):
    (fault,) = faults(capsys, lines(tmp_path / "a.txt", *["Some words .", "17", "More words ."] * 40))
    assert f"{tmp_path}/a.txt:1: broken JSON" in fault and "known forms: JSON lines, one sentence a line; S" in fault
    (fault,) = faults(capsys, lines(tmp_path / "a.json", json.dumps([DOCUMENT, DOCUMENT])))
    assert fault == f"{tmp_path}/a.json:1: documents in an array; write one a line"
    with pytest.raises(UserError, match="documents in an array; write one a line"):
        read(tmp_path / "a.json", "dygie")
    mixed = lines(tmp_path / "m.jsonl", {"sentences": 3}, *[GOOD | {"tokens": ["a", "b", str(i)]} for i in range(5)])
    (fault,) = faults(capsys, mixed)
    assert fault.startswith(f"{mixed}:1: tokens: "), "one odd record does not make five sentences documents"


def test_the_first_file_alone_is_the_training_split(tmp_path, capsys):
    records = [GOOD | {"tokens": ["a", "b", "c"]}, GOOD | {"tokens": ["a", "b", "c"]}]
    dev, test = (
        lines(tmp_path / f"{name}.jsonl", record) for name, record in zip(("dev", "test"), records, strict=True)
    )
    (fault,) = faults(capsys, tmp_path / "train.jsonl", dev, test)
    assert "train.jsonl: No such file" in fault
    assert main(["check", str(dev), str(tmp_path / "." / "dev.jsonl")]) == 2
    assert "dev.jsonl: named 2 times; name each file once" in capsys.readouterr().err


def test_a_relation_without_arguments_relates_nothing_to_itself(tmp_path, capsys):
    found = faults(capsys, lines(tmp_path / "a.jsonl", GOOD | {"relations": [{"type": "X"}, {"type": "X"}]}))
    assert len(found) == 4 and not any("itself" in fault or "repeats" in fault for fault in found)


def test_declared_names_are_one_map_a_field(tmp_path, capsys):
    labels = Labels(("PER", "Per", "Cause"), ("cause",))
    kinds = ("PER", "Per", "CAUSE")
    record = {
        "tokens": ["a", "b", "c"],
        "entities": [{"type": kind, "start": i, "end": i + 1} for i, kind in enumerate(kinds)],
        "relations": [{"type": "Cause", "head": 0, "tail": 1}],
    }
    path = lines(tmp_path / "a.jsonl", record)
    (sentence,) = read(path, "jsonl", labels)
    assert [e.type for e in sentence.entities] == ["PER", "Per", "Cause"] and sentence.relations[0].type == "cause"
    (tmp_path / "labels.json").write_text(json.dumps(labels.to_json()))
    other = lines(tmp_path / "b.jsonl", json.dumps(record).replace("CAUSE", "cause").replace('"c"', '"d"'))
    assert main(["check", str(path), str(other), "--labels", str(tmp_path / "labels.json")]) == 0
    path = lines(tmp_path / "a.jsonl", json.dumps(record).replace("Per", "per"))
    (fault,) = faults(capsys, path, "--labels", tmp_path / "labels.json")
    assert "entities[1].type: unknown type 'per', did you mean" in fault
    with pytest.raises(UserError, match=r"a\.jsonl:1: entities\[1\]\.type: unknown type 'per', did you mean"):
        read(path, "jsonl", labels)


def test_files_that_are_no_text_or_empty_are_faults(tmp_path, capsys):
    (tmp_path / "latin.jsonl").write_bytes(b'{"tokens": ["a"]}\n{"tokens": ["\xe9"]}\n{"tokens": []}\n{"id": "\xe9"}')
    (tmp_path / "empty.jsonl").write_text("")
    found = faults(capsys, tmp_path / "latin.jsonl", tmp_path / "empty.jsonl")
    places = [fault.removeprefix(str(tmp_path)).split("(")[0].strip() for fault in found]
    assert places[:2] == ["/latin.jsonl:2: not UTF-8", "/latin.jsonl:4: not UTF-8"]
    assert places[2].startswith("/latin.jsonl:3: tokens: ")
    assert places[3].startswith("/empty.jsonl:1: the file holds no sentence") and len(places) == 4


def test_faults_in_an_array_name_line_and_sentence(tmp_path, capsys):
    path = tmp_path / "a.json"
    good = {"tokens": ["a"], "entities": [], "relations": []}
    path.write_text("[\n" + json.dumps(good) + ",\n" + json.dumps(good | {"tokens": []}) + ",\n{]", encoding="utf-8")
    found = faults(capsys, path)
    assert found[0].startswith(f"{path}:3: sentence 1: tokens:") and found[1].startswith(f"{path}:4: broken JSON")


# -- a dataset of one's own ----------------------------------------------------------------------------------------


def test_the_lines_of_contributing_make_a_dataset(tmp_path):
    """The lines as they stand there, followed in a copy of the project: check, declare, put, name, plan, prepare."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("**A dataset.**")[1].split("\n**")[0]
    block = "\n".join(line[4:] for line in text.splitlines() if line.startswith("    "))
    (command,) = re.findall(r"`python -m sinet (check [^`]+)`", text)
    (mirror,) = re.findall(r"Put the files into `([^`]+)`", text)
    for name in SOURCES:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)

    def step(*arguments: str) -> subprocess.CompletedProcess:
        environment = {k: v for k, v in os.environ.items() if k != "SINET_MIRRORS"}
        done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    folder = tmp_path / mirror
    folder.mkdir(parents=True)
    for split in ("train", "dev", "test"):
        record = {
            "tokens": ["Ann", "lives", "in", f"the-{split}-city"],
            "entities": [{"type": "Person", "start": 0, "end": 1}, {"type": "Place", "start": 3, "end": 4}],
            "relations": [{"type": "lives-in", "head": 0, "tail": 1}],
        }
        lines(folder / f"{split}.jsonl", record)
    files = [str(folder / name) if name.endswith(".jsonl") else name for name in command.split()]
    assert "no faults" in step(sys.executable, "-m", "sinet", *files).stdout

    grid = "{datasets: [mine], encoders: [minilm], models: [sinet], seeds: [0], recipe: short}"
    (tmp_path / "mine.yaml").write_text(f"{block}\ngrid: [{grid}]\n", encoding="utf-8")
    planned = step(sys.executable, "-m", "sinet", "plan", "--config", "mine.yaml").stdout.splitlines()
    assert [json.loads(line)["dataset"] for line in planned] == ["mine"]
    made = tmp_path / "results" / "data" / "mine"
    target = str((made / "train.jsonl").relative_to(tmp_path))
    step("snakemake", "--cores", "1", "--configfile", "mine.yaml", "--", target)
    assert json.loads((made / "card.json").read_text())["splits"]["test"]["relations"] == {"lives-in": 1}
    assert Labels.from_json(json.loads((made / "labels.json").read_text())).entity_types == ("Person", "Place")
    assert read_sentences(made / "dev.jsonl")[0].tokens[3] == "the-dev-city"
