"""What a step made and somebody changed afterwards is refused wherever it is read, whatever the change."""

import json
import random

import pytest
import torch
from safetensors.torch import load_file, save_file

from baselines.spert import System
from sinet.cli import main
from sinet.data.sentence import Labels, read_sentences, write_sentences
from sinet.errors import UserError
from sinet.files import read_sealed, write_sealed, write_sum
from sinet.infer.finished import run_sums
from sinet.infer.predict import load_run
from tests.conftest import CORPUS, LABELS
from tests.test_released import write_run

CPU = torch.device("cpu")


@pytest.fixture
def run(tiny_encoder, tmp_path):
    """A finished run's folder: of SpERT, untrained."""
    torch.manual_seed(0)
    return write_run(tmp_path / "run", "spert", System(LABELS, tiny_encoder), {})


def zeroed(weights):
    return {name: torch.zeros_like(weight) for name, weight in weights.items()}


def broken(value):
    def change(weights):
        return weights | {"encoder.model.embeddings.word_embeddings.weight": torch.full((2, 2), value)}

    return change


@pytest.mark.parametrize("change", [zeroed, broken(torch.nan), broken(torch.inf)], ids=["zeroed", "nan", "infinite"])
def test_other_weights_are_refused(run, change):
    path = run / "model.safetensors"
    save_file(change(load_file(path)), path)
    with pytest.raises(UserError, match=r"model\.safetensors: not as it was trained"):
        load_run(run, CPU)


def test_weights_that_are_no_numbers_are_refused_whatever_their_checksum(run):
    path = run / "model.safetensors"
    weights = load_file(path)
    name = sorted(weights)[0]
    save_file(weights | {name: torch.full_like(weights[name], torch.nan)}, path)
    write_sealed(run / "model.json", read_sealed(run / "model.json") | {"files": run_sums(run)})
    with pytest.raises(UserError, match=f"{name} holds what is no finite number"):
        load_run(run, CPU)


def test_labels_in_another_order_or_under_other_names_are_refused(run):
    made = json.loads((run / "model.json").read_text())
    types = made["labels"]["entity_types"]
    for other in (types[::-1], [f"{name}s" for name in types]):
        (run / "model.json").write_text(json.dumps(made | {"labels": made["labels"] | {"entity_types": other}}))
        with pytest.raises(UserError, match=r"model\.json: changed since it was made"):
            load_run(run, CPU)


def test_another_tokenizer_is_refused(run):
    shown = sorted(path.name for path in (run / "tokenizer").iterdir())
    for name in [*shown, "added_tokens.json"]:  # one more is read as well
        path = run / "tokenizer" / name
        before = path.read_bytes() if path.exists() else None
        path.write_bytes((before or b"{}") + b"\n")
        with pytest.raises(UserError, match=f"tokenizer/{name}: not as it was trained"):
            load_run(run, CPU)
        path.unlink() if before is None else path.write_bytes(before)
    (run / "tokenizer" / ".hidden").touch()
    load_run(run, CPU)


def test_a_loop_of_links_in_place_of_a_file_of_a_run_is_refused(run, tmp_path, capsys):
    (tmp_path / "in.txt").write_text("Ann")
    for name in ("model.safetensors", "model.json"):
        (run / name).unlink()
        (run / name).symlink_to(name)
        call = ["predict", "--run", str(run), "--input", str(tmp_path / "in.txt"), "--out", str(tmp_path / "o")]
        assert main(call) == 2 and len(capsys.readouterr().err.splitlines()) == 1


def test_every_flipped_bit_of_a_run_is_noticed(run, capsys):
    """In a seeded sample of them, by `predict`: one line, exit status 2."""
    draw = random.Random(0)
    for path in (run / "model.json", run / "model.safetensors", *sorted((run / "tokenizer").iterdir())):
        whole = path.read_bytes()
        for _ in range(10):
            place = draw.randrange(len(whole))
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :])
            status = main(["predict", "--run", str(run), "--text", "Ann"])
            said = capsys.readouterr()
            blank = path.suffix == ".json" and not whole[place : place + 1].strip()  # may be blank still
            assert status == 2 or blank, (path.name, place, said.out)
            assert not said.err.count("Traceback")
        path.write_bytes(whole)


def test_a_record_says_what_it_was_given_or_is_refused(tmp_path):
    record = {"scores": {"ent": {"f1": 64.25}, 3: [1e-9, None, True]}, "title": "Ärger\u2028", "n": 10**20}
    path = tmp_path / "record.json"
    write_sealed(path, record)
    read = read_sealed(path)
    assert read == json.loads(json.dumps(record))
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            try:
                assert read_sealed(path) == read
            except UserError as error:
                assert "\n" not in str(error)
    for text in ("[]", '{"scores": {}}', "{}", "1"):
        path.write_text(text)
        with pytest.raises(UserError):
            read_sealed(path)


def test_sentences_that_were_changed_are_refused_where_they_have_a_checksum(tmp_path):
    path = tmp_path / "predictions.jsonl"
    sentences = read_sentences(CORPUS)
    write_sentences(path, sentences)
    write_sum(path)
    assert read_sentences(path) == sentences
    path.write_text(path.read_text().replace("0", "1", 1))
    with pytest.raises(UserError, match=r"predictions\.jsonl: changed since it was made"):
        read_sentences(path)
    path.with_name("predictions.jsonl.sha256").unlink()  # a user's file has none
    read_sentences(path)


def test_labels_that_were_changed_are_refused_where_they_have_a_checksum(tmp_path):
    path = tmp_path / "labels.json"
    path.write_text('{"entity_types": ["A", "B"], "relation_types": ["r"]}')
    write_sum(path)
    assert Labels.read(path).entity_types == ("A", "B")
    path.write_text('{"entity_types": ["B", "A"], "relation_types": ["r"]}')
    with pytest.raises(UserError, match=r"labels\.json: changed since it was made"):
        Labels.read(path)
