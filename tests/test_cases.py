"""The inputs that users brought (`../shared/cases`), each through the command."""

import json
from pathlib import Path

import pytest

from sinet.cli import main
from sinet.data.prepare import prepare
from sinet.errors import UserError
from tests.conftest import dataset

CASES = Path("../shared/cases")
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not beside the project")

FOREIGN = {
    "crossre.jsonl": ("CrossRE", "sentence: unknown key, did you mean 'sentences'?"),
    "doccano.jsonl": ("doccano", "id, text, entities, relations, Comments"),
    "gliner.jsonl": ("GLiNER", "tokenized_text, ner, relations"),
    "labelstudio.json": ("Label Studio", "id, annotations, data"),
    "prodigy.jsonl": ("Prodigy", "text, tokens, spans, relations, answer"),
    "triples.json": ("triples that name their arguments by words", "text, triple_list"),
}


def checked(path: Path, capsys, *options: str) -> tuple[int, list[str], str]:
    """Status of `check`, its faults, and its description."""
    status = main(["check", str(path), *options])
    said = capsys.readouterr()
    return status, said.err.splitlines()[1:], said.out


@pytest.mark.parametrize("name", FOREIGN)
def test_cases_of_foreign_forms(name, tmp_path, capsys):
    path = CASES / "foreign-forms" / name
    status, (fault,), _ = checked(path, capsys)
    assert status == 2 and all(part in fault for part in FOREIGN[name]) and "known forms: JSON lines" in fault
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_bytes(path.read_bytes())
    declared = {"title": "Mine", "files": {split: {"path": name} for split in ("train", "dev", "test")}}
    declared |= {
        "format": "spert" if path.suffix == ".json" else "jsonl",
        "entity_types": ["a"],
        "relation_types": ["b"],
    }
    with pytest.raises(UserError) as refused:
        prepare("mine", dataset(declared), [str(tmp_path)], tmp_path / "out")
    assert str(refused.value).split(":1: ")[1] == fault.split(":1: ")[1]


def test_cases_of_lost_annotation(capsys):
    for name, key in (("entities.jsonl", "entities"), ("ner.jsonl", "ner")):
        status, (fault,), _ = checked(CASES / "lost-annotation" / name, capsys)
        assert status == 2 and f"2 hold something under {key}, which is not read" in fault


def test_cases_of_character_offsets(capsys):
    status, (fault,), _ = checked(CASES / "character-offsets" / "train.jsonl", capsys)
    assert status == 2 and "as characters it is 'Rome': offsets count words, write [3, 4]" in fault


def test_cases_of_a_relation_between_sentences(capsys):
    status, (fault,), _ = checked(CASES / "cross-sentence-relation" / "train.json", capsys)
    assert status == 2 and "[8, 8] is an entity of the document's sentence 1; relations between sentences" in fault


def test_cases_of_no_relation(capsys):
    path = CASES / "no-relation-type" / "train.jsonl"
    status, faults, said = checked(path, capsys)
    assert (status, faults) == (0, []) and "NA, None, Other, no_relation: do these relation types stand for" in said
    status, faults, said = checked(path, capsys, "--no-relation", "NA", "None", "Other", "no_relation")
    assert (status, faults) == (0, []) and "do these" not in said and "| **all** | 0 |" in said


def test_cases_of_several_types_in_one_place(capsys):
    status, faults, said = checked(CASES / "one-type-a-pair" / "train.jsonl", capsys)
    assert (status, faults) == (0, [])
    assert "| spans of several entity types | 1 |" in said and "| pairs of several relation types | 1 |" in said
    assert (
        "miss the others: dygie, dygiepp, plmarker, pure, sciie, span_aste, spe, sptree, table_sequence, unire" in said
    )


@pytest.mark.parametrize("errors", [(), ("--errors",)])
def test_cases_of_other_forms_to_score(errors, capsys):
    path = str(CASES / "score-other-forms" / "gold.json")
    assert main(["score", "--gold", path, "--predictions", path, *errors, "--symmetric"]) == 0
    assert json.loads(capsys.readouterr().out)
