"""Every fault of files in a known form, listed with its place."""

import copy
import json
import re
from collections.abc import Iterator

import pytest

from sinet.cli import main
from sinet.data.check import check_files
from sinet.data.formats import read, recognise
from sinet.data.sentence import Labels, read_sentences
from sinet.errors import UserError
from tests.conftest import CORPUS, DATASETS, LABELS
from tests.test_formats import DOCUMENT, GOOD, TWO, lines


def faults(capsys, *arguments) -> list[str]:
    assert main(["check", *map(str, arguments)]) == 2
    return capsys.readouterr().err.splitlines()[1:]


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
        (4, "relations[0].tail: 9 is not a position", ""),
        (4, "entities[0].type: unknown type 'Taks'", "did you mean 'Task'?"),
        (4, "relations[1]: relates entity 1 to itself", ""),
        (4, "entities[2]: repeats entities[1]", ""),
        (5, "tokens: 602 word pieces, minilm takes 512", "split the sentence"),
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
    assert len(said.err.splitlines()) == 2 and "train.jsonl:3: entities[0]: [0, 9) is not a span" in said.err, (
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
    capsys.readouterr()
    few = {field: parts[:20] for field, parts in document(1).items()}
    assert main(["check", str(lines(tmp_path / "a.jsonl", few))]) == 0, "few entities may well be long"
    assert "; none of 20 entities is one word; ends are inclusive" in capsys.readouterr().out


@pytest.mark.parametrize("widths, suspected", [([1] * 20, True), ([1] * 19 + [2], False), ([1] * 19, False)])
def test_inclusive_ends_in_a_form_with_exclusive_ones_are_hinted(widths, suspected, tmp_path, capsys):
    """No fault: a file may well hold nothing but names of one word."""
    records = [
        {"tokens": ["a", "b", str(i)], "entities": [{"type": "Task", "start": 0, "end": width}], "relations": []}
        for i, width in enumerate(widths)
    ]
    (tmp_path / "a.json").write_text(json.dumps(records))
    assert main(["check", str(tmp_path / "a.json")]) == 0
    hint = "entities is one word; ends are exclusive in this form: if yours are inclusive"
    assert (hint in capsys.readouterr().out) == suspected


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
            "table_sequence",
            TWO,
            TWO | {"entities": [*TWO["entities"], {"type": "Task"}]},
            "entities[2]: should be [start, end, type]",
        ),
        (
            "table_sequence",
            TWO,
            TWO | {"entities": [*TWO["entities"], [[0], 1, "T"]]},
            "entities[2]: should be [start, end, type]",
        ),
        (
            "table_sequence",
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
    assert found[1].startswith(
        f"{path}:1: sentence 1: ner[1][2]: [0, 1] is not a span of the sentence's words (6 to 9)"
    )


@pytest.mark.parametrize("form, record", [("spert", GOOD), ("table_sequence", TWO), ("dygie", DOCUMENT)])
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
        (SURROGATE, r"'\ud800' is half of a surrogate pair"),
        (r'{"tokens": ["a"], "entities": [{"type": "\udc00", "start": 0, "end": 1}]}', "is half of a surrogate pair"),
        (r'{"id": "\ud800", "tokens": ["a"]}', "is half of a surrogate pair"),
        (r'{"tokens": ["a"], "document": "\ud800"}', "is half of a surrogate pair"),
        ("[" * 100_000, "nested too deeply"),
        ('{"tokens": ' * 100_000, "nested too deeply"),
        ('{"tokens": ["a"], "id": ' + "9" * 5000 + "}", "integer string conversion"),
        ('{"tokens": ["a"], "tokens": ["b"]}', "key 'tokens' occurs twice in an object"),
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


@pytest.mark.parametrize(
    "record, told",
    [
        ({"tokens": ["a"], "entity": []}, {"entity": "entities"}),
        ({"tokens": ["a"], "ents": [], "rels": []}, {"ents": "entities", "rels": "relations"}),
        ({"token": ["a"]}, {"token": "tokens"}),
        ({"sentences": [["a"]], "nre": [[]], "relation": [[]]}, {"nre": "ner", "relation": "relations"}),
        ({"sentences": [["a"]], "ner": [[]], "predicted_relations": [[]], "events": [[]]}, {}),
        ({"sentences": [["a"]], "ner": [[]], "clutsers": [], "event_clusters": []}, {"clutsers": "clusters"}),
        ({"tokens": ["a"], "pos": ["x"], "doc": "d", "relation": "r", "sss": [], "ids": [1], "references": []}, {}),
        ({"tokens": ["a"], "relation_types": [], "entity_types": [], "uid": "x", "translations": []}, {}),
    ],
)
def test_annotation_under_a_key_like_ours_is_no_silent_loss(record, told, tmp_path, capsys):
    path = lines(tmp_path / "a.jsonl", record)
    assert main(["check", str(path)]) == (2 if told else 0)
    said = capsys.readouterr().err
    assert all(f"{path}:1: {key}: unknown key, did you mean {known!r}?" in said for key, known in told.items())
    if told:
        with pytest.raises(UserError, match="did you mean"):
            read(path, recognise(path.read_text()))


def test_keys_of_an_array_are_looked_at_too(tmp_path, capsys):
    (tmp_path / "a.json").write_text(json.dumps([TWO, {"tokens": ["a"], "entities": [], "relation": []}]))
    (fault,) = faults(capsys, tmp_path / "a.json")
    assert fault == f"{tmp_path}/a.json:1: sentence 1: relation: unknown key, did you mean 'relations'?"


@pytest.mark.parametrize("indent", ["", "  "])
def test_an_array_goes_on_behind_a_broken_element(indent, tmp_path, capsys):
    good, empty, open_ended = json.dumps(GOOD), '{"tokens": []}', '{"tokens": ["b"]'
    elements = [good, '{"tokens": ["a",]}', empty, open_ended, good, empty]
    text = "[\n" + ",\n".join(indent + element for element in elements) + "\n" + indent + good + "\n]"
    (tmp_path / "a.json").write_text(text)
    found = faults(capsys, tmp_path / "a.json")
    places = [re.match(r".*?:(\d+): (sentence \d+|broken)", fault).groups() for fault in found]
    # an object that is not closed is noticed at the next one; before the last a comma is missing
    assert places == [("3", "broken"), ("4", "sentence 2"), ("6", "broken"), ("7", "sentence 5"), ("8", "broken")]
    assert not any("not read" in fault for fault in found)


def test_entities_in_the_column_of_a_broken_sentence_are_no_sentences(tmp_path, capsys):
    path = tmp_path / "a.json"
    text = json.dumps([GOOD, GOOD, GOOD | {"tokens": []}], indent=0)
    path.write_text(text.replace('"b"', "b", 1))
    found = faults(capsys, path)
    assert len(found) == 2 and ": broken JSON: Expecting value" in found[0]
    assert re.search(r":\d+: sentence 2: tokens: should be a list", found[1])


def test_sentences_behind_a_missing_comma_keep_their_numbers(tmp_path, capsys):
    path = tmp_path / "a.json"
    path.write_text('[{"tokens": ["a"]}\n {"tokens": []},\n]')
    assert [fault.removeprefix(f"{path}:") for fault in faults(capsys, path)] == [
        "2: broken JSON: a comma is missing before this object",
        "2: sentence 1: tokens: should be a list of at least one word",
        "2: broken JSON: a comma before the closing bracket; remove it",
    ]


def test_behind_a_broken_element_of_a_line_nothing_is_read(tmp_path, capsys):
    (tmp_path / "a.json").write_text('[{"tokens": ["a",]}, {"tokens": []}]')
    (fault,) = faults(capsys, tmp_path / "a.json")
    assert fault.startswith(f"{tmp_path}/a.json:1: broken JSON") and fault.endswith("; what follows is not read")


def test_an_array_is_known_by_the_sentences_that_hold_entities(tmp_path, capsys):
    (tmp_path / "a.json").write_text(json.dumps([TWO | {"entities": [], "relations": []}] * 120 + [TWO]))
    assert main(["check", str(tmp_path / "a.json")]) == 0
    assert "`format: table_sequence`" in capsys.readouterr().out


def test_ids_stand_once_in_a_file(tmp_path, capsys):
    path = lines(tmp_path / "a.jsonl", GOOD | {"id": 1}, GOOD | {"id": "b"}, GOOD, GOOD, GOOD | {"id": "1"})
    (fault,) = faults(capsys, path)
    assert fault == f"{path}:5: id: '1' is also the id of {path}:1; give each its own"
    path = lines(tmp_path / "d.jsonl", DOCUMENT, DOCUMENT)
    (fault,) = faults(capsys, path)
    assert fault == f"{path}:2: doc_key: 'D' is also the doc_key of {path}:1; give each its own"
    nameless = {key: value for key, value in DOCUMENT.items() if key != "doc_key"}
    assert main(["check", str(lines(tmp_path / "d.jsonl", nameless, nameless))]) == 0


def test_coreference_outside_the_sentences_is_a_fault(tmp_path, capsys):
    path = lines(tmp_path / "d.jsonl", DOCUMENT | {"clusters": [[[1, 1], [5, 6]], [[0, 99], [1, 0]]]})
    found = faults(capsys, path)
    assert [re.search(r"clusters\S+ (\[.*?\])", fault)[1] for fault in found] == ["[5, 6]", "[0, 99]", "[1, 0]"]


def test_the_training_split_is_the_one_that_is_called_so(tmp_path, capsys):
    """Whatever the order in which a shell lists the files."""
    same, other = GOOD | {"tokens": ["x", "y", "z"]}, GOOD
    dev, test, train = (
        lines(tmp_path / f"c_{name}.jsonl", *records)
        for name, records in (("dev", [GOOD | {"tokens": ["d", "e", "f"]}]), ("test", [same]), ("train", [other, same]))
    )
    (fault,) = faults(capsys, dev, test, train)
    assert fault.startswith(f"{test}:1: tokens: the same sentence as {train}:2")
    assert main(["check", str(dev), str(train)]) == 0 and f"training split: {train}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "names, train",
    [
        (("x_dev", "x_test", "x_train", "x_train_dev"), 2),
        (("dev/data", "train/data"), 1),
        (("restrained", "test"), 0),
        (("a_train", "b_train"), 0),
        (("dev", "train-2"), 1),
    ],
)
def test_names_of_training_splits(names, train, tmp_path, capsys):
    paths = []
    for i, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        paths.append(lines(tmp_path / f"{name}.jsonl", {"tokens": [str(i)]}))
    assert main(["check", *map(str, paths)]) == 0
    assert capsys.readouterr().out.startswith(f"training split: {paths[train]}\n")


def test_types_of_an_unreadable_training_line_are_no_new_ones(tmp_path, capsys):
    train = lines(tmp_path / "train.jsonl", GOOD, json.dumps(GOOD).replace("Task", "Org")[:-1])
    test = lines(tmp_path / "test.jsonl", json.dumps(GOOD).replace("Task", "Org").replace('"c"', '"d"'))
    (fault,) = faults(capsys, train, test)
    assert fault.startswith(f"{train}:2: broken JSON")


def test_files_in_no_known_form_are_one_fault(tmp_path, capsys):
    (fault,) = faults(capsys, lines(tmp_path / "a.txt", *["Some words .", "17", "More words ."] * 40))
    assert f"{tmp_path}/a.txt:1: broken JSON" in fault and "known forms: JSON lines, one sentence a line; S" in fault
    (fault,) = faults(capsys, lines(tmp_path / "a.json", json.dumps([DOCUMENT, DOCUMENT])))
    assert fault == f"{tmp_path}/a.json:1: an array of documents; write one document a line"
    with pytest.raises(UserError, match="an array of documents; write one document a line"):
        read(tmp_path / "a.json", "dygie")
    mixed = lines(tmp_path / "m.jsonl", {"sentences": 3}, *[GOOD | {"tokens": ["a", "b", str(i)]} for i in range(5)])
    (fault,) = faults(capsys, mixed)
    assert fault.startswith(f"{mixed}:1: tokens: "), "one odd record does not make five sentences documents"


def test_no_other_file_stands_in_for_a_missing_training_split(tmp_path, capsys):
    records = [GOOD | {"tokens": ["a", "b", "c"]}, GOOD | {"tokens": ["a", "b", "c"]}]
    dev, test = (
        lines(tmp_path / f"{name}.jsonl", record) for name, record in zip(("dev", "test"), records, strict=True)
    )
    (fault,) = faults(capsys, tmp_path / "train.jsonl", dev, test)
    assert "train.jsonl: No such file" in fault
    assert main(["check", str(dev), str(tmp_path / "." / "dev.jsonl")]) == 2
    assert "dev.jsonl: named 2 times; name each file once" in capsys.readouterr().err


def test_a_relation_without_arguments_relates_nothing_to_itself(tmp_path, capsys):
    whole = {"type": "X", "head": 0, "tail": 7}  # so that the others are slips, not another tool's form
    found = faults(capsys, lines(tmp_path / "a.jsonl", GOOD | {"relations": [whole, {"type": "X"}, {"type": "X"}]}))
    assert len(found) == 5 and not any("itself" in fault or "repeats" in fault for fault in found)


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


def test_an_encoder_of_ones_own_file_is_known(encoder_folder, tmp_path, capsys):
    declared = {"title": "Mine", "path": str(encoder_folder("bert")), "cased": False}
    (tmp_path / "own.yaml").write_text(json.dumps({"encoders": {"mine": declared}}))
    given = ["check", str(CORPUS), "--encoder", "mine"]
    assert main([*given, "--config", str(tmp_path / "own.yaml")]) == 0
    assert "[UNK] to mine" in capsys.readouterr().out
    assert main(given) == 2 and "--encoder 'mine': not declared" in capsys.readouterr().err
