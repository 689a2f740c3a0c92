"""Weights under the released names and back; names, shapes and figures are those of the authors' released code."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file

from sinet import systems
from sinet.cli import main
from sinet.contract import Labels
from sinet.data.sentence import read_sentences
from sinet.encoders.encoder import Encoder
from sinet.encoders.pretrained import save_encoder
from sinet.files import write_sealed
from sinet.infer import released
from sinet.infer.finished import run_sums
from sinet.infer.predict import load_run, predict
from sinet.infer.released import RELEASED
from sinet.model.weights import write_weights
from tests.conftest import CORPUS, LABELS, tiny_tokenizer
from tests.reference import Reference, numbered_labels, stored_encoder
from tests.test_reference import assert_released_figures

CPU = torch.device("cpu")
POSITIONS = "bert.embeddings.position_ids"


def write_run(folder, system, model, settings, labels=LABELS):
    """A finished run's folder, as `sinet.train.trainer` leaves it."""
    (folder / "tokenizer").mkdir(parents=True)
    config = save_encoder(model.encoder, folder / "tokenizer")
    write_weights(folder / "model.safetensors", model)
    made = {"system": system, "settings": settings, "labels": labels.to_json(), "files": run_sums(folder)}
    write_sealed(
        folder / "model.json", made | {"encoder_config": config, "precision": "float32", "files": run_sums(folder)}
    )
    return folder


@pytest.fixture
def run(tiny_encoder, tmp_path):
    """Writes a run of a system with random weights, no two of them alike."""

    def make(system, name="run", labels=LABELS, seed=1, **settings):
        torch.manual_seed(seed)
        settings = dict(systems.load(system).test_settings) | settings
        model = systems.load(system)(labels, Encoder(tiny_encoder.model, tiny_encoder.tokenizer), **settings)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        if system == "pure":
            model.relation_model.classify.bias.data[0] = -5.0  # so that there are relations to compare
        return write_run(tmp_path / name, system, model, settings, labels)

    return make


def export(run, out):
    return main(["export", "--run", str(run), "--out", str(out)])


def imported(source, like, out):
    return main(["import", "--released", str(source), "--like", str(like), "--out", str(out)])


def states(system, folder):
    """The exported state dicts by the folder they lie in."""
    models = RELEASED[system].models.items()
    return {p: torch.load(folder / p / file, weights_only=True) for p, (file, _) in models}


@pytest.mark.parametrize("system", RELEASED)
def test_weights_come_back_as_they_left(system, run, tmp_path):
    trained, there, back = run(system), tmp_path / "there", tmp_path / "back"
    assert export(trained, there) == 0
    # another order of the types, other weights: both come from the released files
    told = system in ("sinet", "spert")  # which types are symmetric; the other two have nothing of that kind
    labels = Labels(LABELS.entity_types[::-1], LABELS.relation_types[::-1], frozenset() if told else LABELS.symmetric)
    assert imported(there, run(system, "like", labels, seed=2), back) == 0
    ours, again = load_file(trained / "model.safetensors"), load_file(back / "model.safetensors")
    assert ours.keys() == again.keys()
    assert all(torch.equal(ours[name], again[name]) for name in ours)
    made = json.loads((back / "model.json").read_text())
    assert made["released"]["sha256"]
    assert made["labels"] == LABELS.to_json()

    sentences = read_sentences(CORPUS)
    found, same = (predict(load_run(folder, CPU)[0], sentences, CPU, "float32") for folder in (trained, back))
    assert found == same
    assert any(s.entities for s in found) and any(s.relations for s in found)
    lines = []
    for folder in (trained, back):
        lines.append(tmp_path / f"{folder.name}.jsonl")
        assert main(["predict", "--run", str(folder), "--input", str(CORPUS), "--out", str(lines[-1])]) == 0
    assert lines[0].read_bytes() == lines[1].read_bytes()


@pytest.mark.parametrize("system", RELEASED)
def test_exported_names_and_shapes_are_the_released_ones(system, tmp_path):
    """A model of the reference's sizes, its state dict against the stored one."""
    for place, (_, names) in RELEASED[system].models.items():
        # the figures of PFN's prediction hold no encoder, those of its training step do
        reference = Reference(f"{system}_{place or 'training'}.npz" if place or system == "pfn" else f"{system}.npz")
        config, stored = reference.config, reference.weights()
        if system == "pfn":
            settings = {"hidden_size": config["hidden_size"]}
            labels = numbered_labels(config["entity_types"] + 1, config["relation_types"])
        elif system == "pure":
            types = config["labels"]
            labels = numbered_labels(7, len(types) - 1) if place == "relation" else numbered_labels(len(types), 7)
            keys = {"head_hidden_size": "hidden_size", "width_embedding_size": "width_size"}
            keys |= {"max_span_width": "max_span_width"}
            settings = {ours: config[theirs] for theirs, ours in keys.items() if theirs in config}
        else:
            labels = numbered_labels(config["entity_types_with_none"], config["relation_types"])
            settings = {"width_size": config["width_embedding_size"]}
        model = systems.load(system)(labels, stored_encoder(config), **settings)
        ours = released.released(model.state_dict(), names) | released._unread(model, system)
        shapes = {name: tuple(value.shape) for name, value in ours.items()}
        assert (POSITIONS in shapes) == (system == "pfn")
        shapes.pop(POSITIONS, None)  # transformers 4.9.1, which PFN asks for, has it; the version of the reference not
        assert shapes == {name: tuple(value.shape) for name, value in stored.items()}


def test_released_weights_give_the_released_figures(tmp_path):
    """The reference's weights, written as the authors would, through `import` into our system."""
    for system in ("sinet", "spert"):
        reference = Reference(f"{system}.npz")
        config, stored = reference.config, reference.weights()
        labels = numbered_labels(config["entity_types_with_none"], config["relation_types"])
        settings = {"width_size": config["width_embedding_size"], "max_span_width": config["max_span_width"]}
        settings |= {"heads": config["attention_heads"]} if system == "sinet" else {}
        encoder = stored_encoder(config)
        like = systems.load(system)(labels, Encoder(encoder.model, tiny_tokenizer(tmp_path)), **settings)
        run = write_run(tmp_path / f"{system}-like", system, like, settings, labels)
        (tmp_path / system).mkdir()
        torch.save(stored, tmp_path / system / "pytorch_model.bin")
        assert imported(tmp_path / system / "pytorch_model.bin", run, tmp_path / f"{system}-run") == 0
        model, _ = load_run(tmp_path / f"{system}-run", CPU)
        model.encoder.tokenizer = encoder.tokenizer  # the stored sentences are word pieces already
        assert_released_figures(model, reference)


@pytest.mark.parametrize("system", RELEASED)
def test_writes_what_the_authors_code_loads(system, run, tmp_path):
    trained, out = run(system), tmp_path / "out"
    assert export(trained, out) == 0
    model, _ = load_run(trained, CPU)
    for place, state in states(system, out).items():
        assert not state["bert.pooler.dense.weight"].any()
        config = json.loads((out / place / "config.json").read_text())
        assert config["vocab_size"] == len(state["bert.embeddings.word_embeddings.weight"])
        assert config["model_type"] == "bert"
        assert json.loads((out / place / "tokenizer_config.json").read_text()) == {"do_lower_case": True}
        pieces = (out / place / "vocab.txt").read_text().splitlines()
        assert all(pieces[number] == piece for piece, number in model.encoder.tokenizer.get_vocab().items())
        assert len(pieces) == len(set(pieces))
    text = (out / "README.md").read_text()
    assert RELEASED[system].repository in text and "as zeros" in text
    if system in ("sinet", "spert"):
        assert config[f"{system}_version"] == "1.1"
        types = json.loads((out / "types.json").read_text())
        assert list(types["entities"]) == list(LABELS.entity_types)
        assert {t for t, how in types["relations"].items() if how["symmetric"]} == LABELS.symmetric
        assert "max_span_size = 4" in text and "size_embedding = 8" in text and "lowercase = true" in text
        assert ("eval_batch_size = 1" in text) == ("head = 2" in text) == (system == "sinet")
    elif system == "pfn":
        assert json.loads((out / "rel2idx.json").read_text()) == {t: i for i, t in enumerate(LABELS.relation_types)}
        assert states(system, out)[""][POSITIONS].tolist() == [list(range(512))]
    else:
        special = json.loads((out / "relation" / "special_tokens.json").read_text())
        assert len(special) == 4 * len(LABELS.entity_types) == len(set(special.values()))
        kind = LABELS.entity_types.index("Task")
        assert pieces.index(special["OBJ_START=Task"]) == model.markers[kind, 1, 0]
        assert pieces.index(special["SUBJ_END=Task"]) == model.markers[kind, 0, 1]
        assert "head_hidden_dim" in text and "--max_seq_length 128" in text


def refused(capsys, code, *words):
    assert code == 2
    message = capsys.readouterr().err.strip()
    assert "\n" not in message and all(word in message for word in words), message


def test_export_refuses_what_the_released_code_has_not(run, tmp_path, capsys):
    out = tmp_path / "out"
    refused(capsys, export(tmp_path / "nowhere", out), "no such folder")
    refused(capsys, export(run("table_sequence", "other"), out), "table_sequence", "sinet, spert, pfn, pure")
    refused(capsys, export(run("sinet", "ablated", interaction="tap"), out), "interaction is 'tap'")
    trained = run("spert")
    made = json.loads((trained / "model.json").read_text())
    made["encoder_config"]["model_type"] = "albert"
    write_sealed(trained / "model.json", made)
    refused(capsys, export(trained, out), "'albert'", "'bert'")
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("kept")
    refused(capsys, export(run("sinet", "whole"), out), "not empty")
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def changed(folder, change):
    """A folder with one state dict, changed."""
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    change(state)
    (folder.parent / "changed").mkdir(exist_ok=True)
    torch.save(state, folder.parent / "changed" / "pytorch_model.bin")
    return folder.parent / "changed"


def test_import_refuses_what_does_not_fit(run, tmp_path, capsys):
    trained, there, out = run("sinet"), tmp_path / "there", tmp_path / "out"
    assert export(trained, there) == 0
    refused(capsys, imported(tmp_path / "nowhere", trained, out), "no such file")
    refused(capsys, imported(there, run("spert", "spert"), out), "unexpected, first cross_attention", "pytorch_model")
    refused(capsys, imported(trained, trained, out), "model.safetensors", "missing, first bert.embeddings")
    refused(capsys, imported(there, run("pfn", "pfn"), out), "no pfn.pt")

    def lacking(state):
        del state["linear_s.weight"], state["linear_r.weight"]

    refused(capsys, imported(changed(there, lacking), trained, out), "2 tensors missing, first linear_r.weight")

    def wider(state):
        state["size_embeddings.weight"] = torch.zeros(100, 9)

    refused(
        capsys,
        imported(changed(there, wider), trained, out),
        "1 tensor of another shape, first size_embeddings.weight ((100, 9), should be (100, 8))",
    )
    (there / "vocab.txt").write_text((there / "vocab.txt").read_text().replace("neural", "plural"))
    refused(capsys, imported(there, trained, out), "'plural'", "'neural'")
    (there / "vocab.txt").unlink()
    (there / "types.json").write_text('{"entities": {}, "relations": {"a": {}}}')
    refused(capsys, imported(there, trained, out), "types.json", "types as the authors")
    (there / "types.json").unlink()
    refused(capsys, imported(there, trained, trained), "not empty")
    assert not out.exists()


class Code:
    def __reduce__(self):
        return (print, ("this would have run",))


def test_code_in_a_pickle_is_refused(run, tmp_path, capsys):
    trained, out = run("sinet"), tmp_path / "out"
    path = tmp_path / "pytorch_model.bin"
    for content in (Code(), {"linear_s.weight": Code()}):
        torch.save(content, path)
        refused(capsys, imported(path, trained, out), "plain tensors")
    path.write_bytes(pickle.dumps(Code()))
    refused(capsys, imported(path, trained, out), "plain tensors")
    path.write_bytes(b"")
    refused(capsys, imported(path, trained, out), "plain tensors")
    torch.save([torch.zeros(1)], path)
    refused(capsys, imported(path, trained, out), "tensors by name")
    assert not out.exists()


def numbers(change):
    """A change of one tensor of a state dict."""
    return lambda state: state.update({"linear_s.weight": change(state["linear_s.weight"])})


PLAIN = "plain tensors by name"
WEIGHTS = {
    "none": (
        numbers(lambda w: w / 0),
        "1 tensor that should be finite floating-point numbers, first linear_s.weight (float",
    ),
    "whole": (numbers(lambda w: w.long()), "finite floating-point numbers, first linear_s.weight (int64)"),
    "complex": (numbers(lambda w: w.to(torch.complex64)), "linear_s.weight (complex64)"),
    "sparse": (numbers(lambda w: w.to_sparse()), PLAIN),
    "quantised": (numbers(lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8)), PLAIN),
    "absent": (numbers(lambda w: w.to("meta")), PLAIN),
    "named by numbers": (lambda state: state.update({5: torch.zeros(1)}), PLAIN),
}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_are_no_plain_numbers_are_refused(kind, run, tmp_path, capsys):
    (change, told), trained, there = WEIGHTS[kind], run("sinet"), tmp_path / "there"
    assert export(trained, there) == 0
    refused(capsys, imported(changed(there, change), trained, tmp_path / "out"), told)
    assert not (tmp_path / "out").exists()


TYPES = "types as the authors"
FILES = [
    ("sinet", "tokenizer_config.json", b'{"do_lower_case": false}', "do_lower_case is false, the tokenizer of"),
    ("sinet", "tokenizer_config.json", b"[]", "a mapping"),
    ("sinet", "vocab.txt", b"[PAD]\n\xff", "is not UTF-8"),
    ("spert", "types.json", b'{"entities": {"A": {}}, "relations": {"r": {"symmetric": "false"}}}', TYPES),
    ("pfn", "ner2idx.json", b'{"a": true, "b": false, "c": 2}', TYPES),
    ("pfn", "ner2idx.json", b'{"a": 0.0, "b": 1.0, "c": 2.0}', TYPES),
    ("pure", "entity/label_list.json", b'["no entity", "Task", "Task", "Task"]', TYPES),
    ("pure", "relation/label_list.json", b"[0, 1, 2, 3, 4]", TYPES),
    ("pure", "entity/label_list.json", b'"abcd"', TYPES),
    ("pure", "relation/special_tokens.json", b"null", "a mapping"),
    ("pure", "relation/special_tokens.json", b'{"SUBJ_START=Method": ["x"]}', "is not a word piece"),
]


@pytest.mark.parametrize(("system", "name", "content", "told"), FILES)
def test_files_that_say_something_else_are_refused(system, name, content, told, run, tmp_path, capsys):
    trained, there = run(system), tmp_path / "there"
    assert export(trained, there) == 0
    (there / name).write_bytes(content)
    refused(capsys, imported(there, trained, tmp_path / "out"), name, told)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("system", ["sinet", "pfn"])
def test_the_difference_that_remains_is_the_runs_own(system, run, tmp_path):
    for masks in (True, False):
        assert export(run(system, f"run-{masks}", mask_padding=masks), tmp_path / str(masks)) == 0
        text = (tmp_path / str(masks) / "README.md").read_text()
        assert RELEASED[system].difference in text
        assert ("in training this run saw padding as there" in text) == (not masks)


def test_the_option_that_names_a_full_folder(run, tmp_path, capsys):
    refused(capsys, export(run("spert"), tmp_path), f"--out {tmp_path}: is there already")
