"""Files that are misread as a whole: one line says so, in `check` and wherever files are read."""

import json

import pytest

from sinet.data.check import check_files
from sinet.data.decode import read_text
from sinet.data.formats import FORMS, read, recognise
from sinet.errors import UserError


def write(path, records, array=False):
    text = json.dumps(records) if array else "".join(json.dumps(record) + "\n" for record in records)
    path.write_text(text, encoding="utf-8")
    return path


def only_fault(path) -> str:
    """The one fault that `check` lists and that ends reading."""
    (fault,) = check_files([path], None, None).faults
    with pytest.raises(UserError) as refused:
        read(path, recognise(read_text(path)))
    assert str(refused.value) == fault and len(fault) < 1000 and fault.startswith(f"{path}:1: ")
    return fault


FOREIGN = {
    "CrossRE": {"sentence": ["Kim", "sang"], "ner": [[0, 0, "singer"]], "relations": []},
    "GLiNER": {"tokenized_text": ["Kim", "sang"], "ner": [[0, 0, "Singer"]]},
    "Label Studio": {"data": {"text": "Kim sang"}, "annotations": [{"result": []}]},
    "Prodigy": {"text": "Kim sang", "tokens": [{"text": "Kim", "id": 0}], "spans": [], "relations": []},
    "doccano": {"text": "Kim sang", "label": [[0, 3, "Singer"]]},
    "TACRED": {"token": ["Kim", "sang"], "subj_start": 0, "relation": "per:title"},
    "DocRED": {"vertexSet": [], "sents": [["Kim", "sang"]], "labels": []},
    "triples that name": {"sentText": "Kim sang", "relationMentions": [{"em1Text": "Kim"}]},
    "triples": {"text": "Kim sang", "triplets": [["Kim", "did", "sang"]]},
    "no known form": {"utterance": "Kim sang", "slots": [1]},
}


@pytest.mark.parametrize("array", [False, True])
@pytest.mark.parametrize("whose", FOREIGN)
def test_a_file_of_another_tool_is_one_line(whose, array, tmp_path):
    record = FOREIGN[whose]
    fault = only_fault(write(tmp_path / "x.json", [record] * 40, array))
    assert whose in fault and ", ".join(record) in fault
    assert all(form.title in fault for form in FORMS.values()) and "convert each record to {" in fault
    assert ("did you mean 'sentences'" in fault) == (whose in ("CrossRE", "DocRED"))


def test_records_that_are_no_objects_are_one_line(tmp_path):
    assert "no record is an object" in only_fault(
        write(tmp_path / "x.json", [["Kim sang", {"entities": []}]] * 9, True)
    )


@pytest.mark.parametrize(
    "form, record, right",
    [
        ("jsonl", [{"tokens": ["a"]}], "spert"),
        ("jsonl", {"sentences": [["a"]]}, "dygie"),
        ("dygie", {"tokens": ["a"]}, "jsonl"),
    ],
)
def test_a_form_declared_for_another_names_the_right_one(form, record, right, tmp_path):
    with pytest.raises(UserError, match=rf"another form: .*; declare `format: {right}`"):
        read(write(tmp_path / "x.json", [record]), form)


@pytest.mark.parametrize(
    "form, text, right",
    [
        *((form, "good food####[([1], [0], 'POS')]\n", "aste") for form in FORMS if form != "aste"),
        ("aste", '{"tokens": ["a####[b]"]}\n', "jsonl"),
        ("aste", '[{"tokens": ["a"]}]\n', "spert"),
    ],
)
def test_lines_of_triplets_are_told_from_other_forms(form, text, right, tmp_path):
    (tmp_path / "x.txt").write_text(text)
    with pytest.raises(UserError, match=rf"x\.txt:1: the file is in another form: .*; declare `format: {right}`"):
        read(tmp_path / "x.txt", form)
    assert read(tmp_path / "x.txt", None)


WORDS = {"tokens": ["Kim", "sang"]}
DOCUMENT = {"sentences": [["Kim", "sang"]]}


@pytest.mark.parametrize(
    "record, lost",
    [
        (WORDS | {"entity_mentions": [{"start": 0, "end": 1, "entity_type": "PER"}]}, "entity_mentions"),
        (WORDS | {"spans": [[0, 1, "PER"]]}, "spans"),
        (WORDS | {"ner_tags": [1, 0]}, "ner_tags"),
        (WORDS | {"y": ["B-PER", "O"]}, "y"),
        (WORDS | {"y": ["U-PER", "O"]}, "y"),
        (WORDS | {"y": ["PER-B", "PER-I"]}, "y"),
        (WORDS | {"y": "B-PER O"}, "y"),
        (WORDS | {"entities": [], "annotation": {"entities": [[0, 1]]}}, "annotation"),
        (DOCUMENT | {"ner": [[]], "predicted_ner": [[[0, 0, "PER"]]]}, "predicted_ner"),
        (DOCUMENT | {"spans": [[[0, 0, "PER"]]]}, "spans"),
    ],
)
@pytest.mark.parametrize("array", [False, True])
def test_annotation_under_other_keys_is_a_fault(record, lost, array, tmp_path):
    if array and "sentences" in record:
        return
    fault = only_fault(write(tmp_path / "x.json", [record] * 3, array))
    assert f"no record has an entity under `{'ner' if 'sentences' in record else 'entities'}`, but 3 hold" in fault
    assert f"something under {lost}," in fault


def test_relations_under_another_key_are_a_fault_beside_entities(tmp_path):
    person = {"type": "PER", "start": 0, "end": 1}
    record = WORDS | {"entities": [person, person | {"start": 1, "end": 2}], "relation_mentions": [[0, 1, "x"]]}
    assert "no record has a relation under `relations`, but 2 hold" in only_fault(
        write(tmp_path / "x.jsonl", [record] * 2)
    )


def test_relations_within_entities_are_a_fault(tmp_path):
    entity = {"type": "PER", "start": 0, "end": 1, "relations": [{"type": "did", "tail": 1}]}
    record = WORDS | {"entities": [entity, {"type": "ACT", "start": 1, "end": 2}]}
    assert "2 hold something under relations of entities" in only_fault(write(tmp_path / "x.jsonl", [record] * 2))


@pytest.mark.parametrize(
    "record, told",
    [
        ({"tokens": "Kim sang"}, "tokens: no record has a list of words, this one has 'Kim sang'"),
        ({"tokens": [["Kim", "NNP"]]}, "tokens: no record has a list of words"),
        ({"tokens": [101, 7]}, "tokens: no record has a list of words"),
        ({"sentences": ["Kim sang"]}, "sentences: no record has a list of sentences, each a list of words"),
        ({"words": ["Kim"], "sentences": [[0, 1]]}, "sentences: no record has a list of sentences"),
        (
            WORDS | {"entities": [{"label": "PER", "start": 0, "end": 1}]},
            "entities and none has type; this one has label",
        ),
        (
            WORDS
            | {"entities": [{"type": "P", "start": 0, "end": 1}], "relations": [{"type": "r", "from": 0, "to": 0}]},
            "relations and none has head and tail; this one has type, from, to",
        ),
    ],
)
def test_the_right_keys_over_another_form_are_one_line(record, told, tmp_path):
    assert told in only_fault(write(tmp_path / "x.jsonl", [record] * 40))


def test_other_lists_than_annotation_are_none(tmp_path):
    more = {"pos": ["NNP", "VBD"], "heads": [1, -1], "relations": []}
    path = write(tmp_path / "x.jsonl", [WORDS | more, WORDS | more | {"entities": []}])
    assert check_files([path], None, None).faults == []


def spans(form, *places):
    """A record of `Kim , 9 , sings old songs in Seoul .` whose entities are at these places."""
    words = ["Kim", ",", "9", ",", "sings", "old", "songs", "in", "Seoul", "."]
    if form == "dygie":
        return {"sentences": [words], "ner": [[[*place, "T"] for place in places]]}
    listed = form == "two"
    return {
        "tokens": words,
        "entities": [[*p, "T"] if listed else {"type": "T", "start": p[0], "end": p[1]} for p in places],
    }


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("places", [[(0, 3), (29, 34)], [(0, 3), (27, 32)], [(0, 2), (29, 33)]])
def test_offsets_in_characters_are_one_hint(form, places, tmp_path):
    """Words joined by blanks, as running text, and with inclusive ends."""
    path = write(tmp_path / "x.json", [spans(form, *places)] * 30, array=form in ("spert", "two"))
    right = "[8, 8]" if form == "dygie" else "[8, 9]"
    fault = only_fault(path)
    assert f"as characters it is 'Seoul': offsets count words, write {right}" in fault


@pytest.mark.parametrize("start, end", [(5, 8), (9, 12)], ids=["UTF-16", "UTF-8"])
def test_offsets_in_bytes_or_units_are_the_same_hint(start, end, tmp_path):
    record = {"tokens": ["😀😀", "Kim", "sang"], "entities": [{"type": "P", "start": start, "end": end}]}
    assert "it is 'Kim': offsets count words, write [1, 2]" in only_fault(write(tmp_path / "x.jsonl", [record] * 9))


@pytest.mark.parametrize("form", FORMS)
def test_single_wrong_spans_are_no_characters(form, tmp_path):
    path = write(
        tmp_path / "x.json", [spans(form, (4, 5), (5, 6)), spans(form, (8, 40))], array=form in ("spert", "two")
    )
    (fault,) = check_files([path], None, None).faults
    assert "characters" not in fault


def test_a_relation_between_sentences_is_named_so(tmp_path):
    document = {"sentences": [["Kim", "sang"], ["Lee", "too"]], "ner": [[[0, 0, "P"]], [[2, 2, "P"]]]}
    path = write(tmp_path / "x.json", [document | {"relations": [[], [[2, 2, 0, 0, "with"]]]}])
    (fault,) = check_files([path], None, None).faults
    assert "relations[1][0]: [0, 0] is an entity of the document's sentence 0; relations between sentences" in fault
    path = write(tmp_path / "x.json", [document | {"relations": [[], [[2, 2, 3, 3, "with"]]]}])
    (fault,) = check_files([path], None, None).faults
    assert "[3, 3] is not the span of an entity of the sentence" in fault
