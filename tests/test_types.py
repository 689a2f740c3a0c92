"""Types that stand for no relation, that share a place, that the labels lack, or that are unfit to be printed."""

import json

import pytest

from sinet.cli import main
from sinet.data.check import check_files
from sinet.data.prepare import prepare
from sinet.data.sentence import Labels, absences, read_sentences
from sinet.errors import UserError
from tests.conftest import dataset

LABELS = Labels(("Town", "River"), ("flows-through", "near"))


def sentence(*relations, towns=("Town", "Town", "River"), **more):
    places = ((0, 1), (2, 3), (4, 5))
    return {
        "tokens": ["Linz", "and", "Wien", "and", "Donau"],
        "entities": [{"type": t, "start": s, "end": e} for t, (s, e) in zip(towns, places, strict=True)],
        "relations": [{"type": t, "head": h, "tail": e} for t, h, e in relations],
    } | more


def write(path, *records, array=False):
    path.write_text(json.dumps(records) if array else "".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return path


def declaration(folder, *records, **more):
    folder.mkdir(parents=True)
    for split in ("train", "dev", "test"):
        write(folder / f"{split}.jsonl", *records)
    files = {split: {"path": f"{split}.jsonl"} for split in ("train", "dev", "test")}
    return {"title": "Mine", "format": "jsonl", "files": files} | LABELS.to_json() | more


# -- absence of a relation -----------------------------------------------------------------------------------------


def test_names_of_the_absence_of_a_relation():
    absent = ["no_relation", "No-Relation", "NA", "N/A", "None", "null", "Other", "Other(e1,e2)", "O", "not related"]
    absent += ["NonRelation", "unrelated", "NIL", "negative", "NOTA", "norel", "FALSE", "no_interaction"]
    absent += [
        "other_relation",
        "NONE-REL",
        "undefined",
        "DDI-false",
        "no_association",
        "relation_none",
        "\u65e0\u5173\u7cfb",
    ]
    assert (
        absences(
            [*absent, "near", "other_family", "knows", "notable-work", "native-of", "Nationality", "note", "mother-of"]
        )
        == absent
    )
    assert absences(["POS", "NEG", "NA"]) == ["NA"], "a polarity is no absence"


@pytest.mark.parametrize("array", [False, True])
def test_check_asks_about_them_and_leaves_them_out(array, tmp_path, capsys):
    path = write(tmp_path / "x.json", sentence(("near", 0, 1), ("NA", 0, 2), ("no_relation", 1, 2)), array=array)
    report = check_files([path], None, None)
    assert (
        report.faults == [] and "NA, no_relation: do these relation types stand for the absence" in report.description
    )
    assert main(["check", str(path), "--no-relation", "na", "No_Relation"]) == 0
    out = capsys.readouterr().out
    assert "do these relation" not in out and "| **all** | 1 |" in out and "| NA |" not in out
    faults = check_files([path], LABELS, None, no_relation=["NA", "no_relation"]).faults
    assert faults == [] and len(check_files([path], LABELS, None).faults) == 2


def test_a_declaration_leaves_them_out(tmp_path, caplog):
    records = [sentence(("near", 0, 1), ("na", 0, 2)), sentence(("NA", 1, 2))]
    declared = declaration(tmp_path / "mine", *records)
    with pytest.raises(UserError, match=r"unknown type 'na'"):
        prepare("mine", dataset(declared), [str(tmp_path)], tmp_path / "out")
    card = prepare("mine", dataset(declared | {"no_relation": ["NA"]}), [str(tmp_path)], tmp_path / "out")
    assert card["splits"]["train"]["relations"] == {"flows-through": 0, "near": 1}
    assert card["notes"] == ["Skipped as the absence of a relation (NA): 6."]
    assert [r.type for s in read_sentences(tmp_path / "out" / "dev.jsonl") for r in s.relations] == ["near"]
    assert "absence" not in caplog.text
    types = {"relation_types": ["near", "NA"]}
    prepare("mine", dataset(declared | types), [str(tmp_path)], tmp_path / "out")
    assert "NA: do these relation types stand for the absence of a relation?" in caplog.text
    with pytest.raises(UserError, match=r"mine: no_relation: 'NA' is one of relation_types, too"):
        prepare("mine", dataset(declared | types | {"no_relation": ["NA"]}), [str(tmp_path)], tmp_path / "out")


# -- several types in one place ------------------------------------------------------------------------------------


def test_places_with_several_types_are_counted_and_named_with_the_systems_that_keep_one(tmp_path, caplog):
    twice = sentence(("near", 0, 2), ("flows-through", 0, 2), ("near", 1, 2), ("near", 1, 0))
    twice["entities"][1] = {"type": "River", "start": 0, "end": 1}
    path = write(tmp_path / "x.jsonl", twice, sentence(("near", 0, 1)))
    said = check_files([path], None, None).description
    assert "| spans of several entity types | 1 |" in said and "| pairs of several relation types | 1 |" in said
    (span,) = (line for line in said.splitlines() if "spans with several entity types: 1;" in line)
    (pair,) = (line for line in said.splitlines() if "pairs with several relation types: 1;" in line)
    assert "spert" in span and "pfn" not in span and "pure" in pair and "spert" not in pair
    assert (
        "several"
        not in check_files([write(path, sentence(("near", 0, 1)))], None, None).description.split("Warning")[1:]
    )
    prepare("mine", dataset(declaration(tmp_path / "mine", twice)), [str(tmp_path)], tmp_path / "out")
    assert "mine: pairs with several relation types: 3; these systems predict one type a pair" in caplog.text


# -- scoring -------------------------------------------------------------------------------------------------------


DOCUMENT = {
    "sentences": [["Linz", "and", "Wien", "and", "Donau"]],
    "ner": [[[0, 0, "Town"], [2, 2, "Town"], [4, 4, "River"]]],
    "relations": [[[4, 4, 0, 0, "flows-through"]]],
}
SPANS = {
    "tokens": DOCUMENT["sentences"][0],
    "entities": [[0, 1, "Town"], [2, 3, "Town"], [4, 5, "River"]],
    "relations": [[4, 5, 0, 1, "flows-through"]],
}
GOLD = sentence(("flows-through", 2, 0))


@pytest.mark.parametrize("errors", [(), ("--errors",)])
def test_every_form_is_scored(errors, tmp_path, capsys):
    forms = {"a.jsonl": GOLD, "b.json": [GOLD], "c.json": DOCUMENT, "d.json": [SPANS]}
    paths = []
    for name, record in forms.items():
        paths.append(tmp_path / name)
        paths[-1].write_text(json.dumps(record))
    said = set()
    for gold in paths:
        for predicted in paths:
            assert main(["score", "--gold", str(gold), "--predictions", str(predicted), *errors, "--symmetric"]) == 0
            said.add(capsys.readouterr().out)
    assert len({text.replace("a-0", "").replace("b-0", "") for text in said}) == 1 or errors
    if not errors:
        assert json.loads(said.pop())["directed"]["rel_plus"]["f1"] == 100


@pytest.mark.parametrize("errors", [(), ("--errors",)])
@pytest.mark.parametrize("wrong", ["gold", "predictions"])
@pytest.mark.parametrize("array", [False, True])
def test_types_that_the_labels_lack_are_no_types_to_score(errors, wrong, array, tmp_path, capsys):
    bad = sentence(("flows-trough", 2, 0)) if array else sentence(("near", 0, 1), towns=("Town", "Twon", "River"))
    files = {
        name: write(tmp_path / f"{name}.json", bad if name == wrong else GOLD, array=array)
        for name in ("gold", "predictions")
    }
    (tmp_path / "labels.json").write_text(json.dumps(LABELS.to_json()))
    assert main(["score", *errors, *(word for name, path in files.items() for word in (f"--{name}", str(path)))]) == 2
    right = "relations[0].type: unknown type 'flows-trough', did you mean 'flows-through'?"
    right = right if array else "entities[1].type: unknown type 'Twon', did you mean 'Town'?"
    said = capsys.readouterr().err
    assert f"{files[wrong]}:1: " in said and right in said and said.count("\n") == 1


@pytest.mark.parametrize(
    "record",
    [
        {"entity_types": ["A"]},
        {"entity_types": "AB", "relation_types": ["r"]},
        {"entity_types": {"A": 1}, "relation_types": ["r"]},
        {"entity_types": ["A", "A"], "relation_types": ["r"]},
        {"entity_types": ["A\n"], "relation_types": ["r"]},
        {"entity_types": [""], "relation_types": ["r"]},
        {"entity_types": ["A"], "relation_types": ["r"], "symmetric": ["s"]},
        {"entity_types": ["A"], "relation_types": ["r"], "symmetric": "r"},
        {"entity_types": ["A"], "relation_types": [["r"]]},
        [],
    ],
)
def test_labels_of_half_a_form_are_refused(record, tmp_path):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"labels\.json: should hold \{.*, each type once"):
        Labels.read(path)


# -- names that are not fit to be printed --------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r", "\x1b[31m", "\x00", "\u2028", "\x9b2J"])
def test_names_with_control_characters_are_refused_and_escaped(end, tmp_path):
    good = sentence(("near", 0, 1))
    for record, field in (
        (good | {"id": f"s{end}"}, "id"),
        (good | {"document": f"d{end}"}, "document"),
        (sentence((f"near{end}", 0, 1)), "relations[0].type"),
        (sentence(towns=(f"Town{end}", "Town", "Town")), "entities[0].type"),
        ({"doc_key": f"d{end}", **DOCUMENT}, "doc_key"),
    ):
        (fault,) = check_files([write(tmp_path / "x.jsonl", record)], None, None).faults
        assert f": {field}: " in fault and "holds a line break or control character; remove it" in fault
        assert fault.isprintable()


def test_long_names_are_shortened(tmp_path):
    long = "T" * 1_000_000
    record = sentence((long, 0, 1), id=long, document=long, **{long[:-1]: [[1]]})
    report = check_files([write(tmp_path / "x.jsonl", record, record)], LABELS, None)
    assert len(report.faults) > 2 and max(map(len, report.faults)) < 1500 and len(report.description) < 5000
    with pytest.raises(UserError) as refused:
        prepare("mine", dataset(declaration(tmp_path / "mine", record)), [str(tmp_path)], tmp_path / "out")
    assert len(str(refused.value)) < 1500 and "1,000,000 characters" in str(refused.value)


def test_a_bar_in_a_type_ends_no_cell(tmp_path):
    said = check_files([write(tmp_path / "x.jsonl", sentence(("a|b", 0, 1)))], None, None).description
    assert "| a\\|b | 1 |" in said
