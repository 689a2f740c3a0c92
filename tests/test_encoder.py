"""Encoders of any architecture, from where they may come, and how words become pieces."""

import json
import shutil

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel

from sinet.contract import Sentence
from sinet.data.sentence import read_sentences
from sinet.errors import UserError
from sinet.model import packed as packed_weights
from sinet.model.located import changed_files, file_sums, locate_encoder
from sinet.model.pretrained import load_encoder, rebuild_encoder, save_encoder
from sinet.model.sinet import System
from sinet.provenance import file_sha256
from sinet.run.flops import count_sentences, encoder_multiply_adds
from sinet.run.train import train_run
from sinet.run.training import new_optimizer
from tests.conftest import CONFIGS, CORPUS, LABELS, SMALL, tiny_run, tiny_tokenizer

REVISION = "0" * 40


def in_mirror(folder, mirror, name):
    target = mirror / "encoders" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder, target)
    return {"name": name, "title": name, "hub": f"nobody/{name}", "revision": REVISION, "cased": False}


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_architecture_carries_sinet(kind, encoder_folder, tmp_path):
    declared = in_mirror(encoder_folder(kind), tmp_path, f"tiny-{kind}")
    declared["sha256"] = {
        "model.safetensors": file_sha256(tmp_path / "encoders" / f"tiny-{kind}" / "model.safetensors")
    }
    located = locate_encoder(declared, [str(tmp_path)])
    assert "mirror" in located.source and declared["sha256"].items() < located.sha256.items()
    encoder = load_encoder(declared, located)
    sentences = read_sentences(CORPUS)
    model = System(LABELS, encoder, **System.test_settings)
    loss = model.loss(model.training_batch(sentences))
    loss.backward()
    assert torch.isfinite(loss) and all(p.grad is not None for p in model.project_entities.parameters())

    folder = tmp_path / "saved"
    again = rebuild_encoder(json.loads(json.dumps(save_encoder(encoder, folder))), folder)
    again.load_state_dict(encoder.state_dict())
    batch = encoder.collate(sentences)
    assert torch.equal(batch.input_ids, again.collate(sentences).input_ids)
    with torch.no_grad():
        ours, theirs = (e.eval()(batch.input_ids, batch.attention_mask) for e in (encoder, again))
    assert torch.equal(ours, theirs)


DISTANCES = {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"], "share_att_key": True}
OTHERS = {
    "electra": {"embedding_size": 16},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    "deberta-v2": DISTANCES | {"position_biased_input": False, "type_vocab_size": 0},
    "modernbert": {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3},
    "roberta": {},
    "camembert": {},
    "roformer": {},
}
"""Architectures that are none of `CONFIGS`: what their configuration has of its own."""
POSITIONS = {"roberta": 39, "camembert": 39}  # of 40: one is the padding's, here the piece 0


@pytest.mark.parametrize("kind", OTHERS)
def test_an_architecture_that_nothing_here_names_trains_predicts_and_is_counted(kind, tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    torch.manual_seed(0)
    sizes = {k: v for k, v in SMALL.items() if kind != "distilbert"} | OTHERS[kind]
    config = AutoConfig.for_model(kind, **sizes, vocab_size=200, max_position_embeddings=40, pad_token_id=0)
    AutoModel.from_config(config).half().save_pretrained(folder)  # as stored by others: float32 is what is loaded
    tiny_tokenizer(folder).save_pretrained(folder)
    declared = {"name": "own", "path": str(folder), "cased": False}
    encoder = load_encoder(declared, locate_encoder(declared))
    assert encoder.max_pieces == POSITIONS.get(kind, 40) and {p.dtype for p in encoder.parameters()} == {torch.float32}
    full = torch.full((1, encoder.max_pieces), 7)
    assert encoder.eval()(full, torch.ones_like(full)).isfinite().all(), "so many pieces can be read"

    sentences = read_sentences(CORPUS)
    model = System(LABELS, encoder, **System.test_settings).train()
    before = {name: p.clone() for name, p in model.named_parameters()}
    optimizer = new_optimizer(model, tiny_run({}, 0)["recipe"])
    model.loss(model.training_batch(sentences)).backward()
    optimizer.clipped_step(1.0)
    optimizer.apply_pending_decay()
    same = [n for n, p in model.named_parameters() if p.grad is not None and p.grad.any() and torch.equal(p, before[n])]
    assert same == [], "whatever has a gradient learns"
    model.eval()
    assert len(model.decode(model.collate(sentences[:2]))) == 2
    assert count_sentences(model, sentences[:2])["encoder"] > 0
    config = json.loads(json.dumps(save_encoder(encoder, tmp_path / "saved")))
    again = rebuild_encoder(config, tmp_path / "saved")
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again.eval()(full, torch.ones_like(full)), encoder(full, torch.ones_like(full)))


@pytest.mark.parametrize("kind", CONFIGS)
def test_maps_alone_are_all_linear_maps(kind, encoder_folder, tmp_path):
    declared = in_mirror(encoder_folder(kind), tmp_path, f"tiny-{kind}")
    encoder = load_encoder(declared, locate_encoder(declared, [str(tmp_path)])).eval()
    mask = torch.tensor([[1] * 9 + [0] * 3, [1] * 12])
    with encoder.packed(torch.float32), FlopCounterMode(display=False) as counter:
        encoder.maps_alone(mask)()
    assert counter.get_total_flops() == 2 * encoder_multiply_adds(encoder.model.config, 21, attention=False)


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_closed_formula_is_what_torch_counts(kind, encoder_folder, tmp_path):
    declared = in_mirror(encoder_folder(kind), tmp_path, f"tiny-{kind}")
    encoder = load_encoder(declared, locate_encoder(declared, [str(tmp_path)])).eval()
    for pieces in (3, 40):
        ids = torch.full((1, pieces), 7)
        with FlopCounterMode(display=False) as counter:
            encoder(ids, torch.ones_like(ids))
        assert counter.get_total_flops() == 2 * encoder_multiply_adds(encoder.model.config, pieces)


@pytest.mark.parametrize("layout", [True, False])
@pytest.mark.parametrize("kind", CONFIGS)
def test_packed_states_and_attention_are_the_modules_own(kind, layout, encoder_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(packed_weights, "_has_fast_layout", lambda dtype: layout)  # whatever this CPU has
    declared = in_mirror(encoder_folder(kind), tmp_path, f"tiny-{kind}")
    encoder = load_encoder(declared, locate_encoder(declared, [str(tmp_path)])).eval()
    batch = encoder.collate(read_sentences(CORPUS))
    inputs = batch.input_ids, batch.attention_mask
    real = batch.attention_mask.bool()
    assert not real.all(), "padding is part of the test"
    with torch.no_grad():
        last, (states, attentions) = encoder(*inputs), encoder.all_layers(*inputs)
        with encoder.packed(torch.float32):
            packed, (packed_states, packed_attentions) = encoder(*inputs), encoder.all_layers(*inputs)
        with encoder.packed(torch.bfloat16):
            half = encoder(*inputs)
    assert packed is not last and torch.allclose(packed[real], last[real], atol=1e-5)
    assert len(packed_states) == len(states) and len(packed_attentions) == len(attentions)
    for ours, theirs in zip(packed_states, states, strict=True):
        assert torch.allclose(ours[real], theirs[real], atol=1e-5)
    for ours, theirs in zip(packed_attentions, attentions, strict=True):
        rows = real[:, None, :, None].expand_as(ours)
        assert torch.allclose(ours[rows], theirs[rows], atol=1e-5)
    assert half.dtype == torch.bfloat16 and torch.allclose(half[real].float(), last[real], atol=0.1)
    with torch.no_grad():
        assert torch.equal(encoder(*inputs), last), "packing leaves nothing behind"


def test_default_encoder_is_in_an_installed_package():
    from sinet.config import encoder_declaration, load_config

    declared = encoder_declaration(load_config(), "minilm")
    located = locate_encoder(declared)
    assert load_encoder(declared, located).hidden_size == 384 and declared["sha256"].items() < located.sha256.items()


def test_architecture_alone(monkeypatch):
    from sinet.config import encoder_declaration, load_config

    declared = encoder_declaration(load_config(), "scibert-sizes")
    declared["architecture"] |= {"num_hidden_layers": 1}
    located = locate_encoder(declared)
    assert load_encoder(declared, located).hidden_size == 768 and "random" in located.source


def test_wrong_weights_are_refused(encoder_folder, tmp_path):
    declared = in_mirror(encoder_folder("bert"), tmp_path, "tiny") | {"sha256": {"model.safetensors": "0" * 64}}
    with pytest.raises(UserError, match=r"model.safetensors: SHA-256 is .*'tiny' declares 000"):
        locate_encoder(declared, [str(tmp_path)])
    (tmp_path / "encoders" / "tiny" / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors is missing"):
        locate_encoder(declared, [str(tmp_path)])
    del declared["sha256"]
    with pytest.raises(UserError, match=r"holds none of model\.safetensors, .*pytorch_model"):
        locate_encoder(declared, [str(tmp_path)])


def test_offline_and_absent_is_one_clear_message(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    declared = {"name": "absent", "hub": "nobody/absent", "revision": REVISION, "cased": False}
    with pytest.raises(UserError, match=r"encoder 'absent': not in a mirror .*put its files into data/mirror/encoders"):
        locate_encoder(declared, [str(tmp_path)])
    with pytest.raises(UserError, match="the package no_such_package is not installed; run `make setup`"):
        locate_encoder({"name": "p", "package": "no_such_package", "folder": "m", "cased": True})


def test_words_are_cut_one_by_one(tiny_encoder):
    words = ("neural", "parsers", "Nasal", "🙂", "neural")
    batch = tiny_encoder.collate([Sentence("a", words), Sentence("b", ("parsers",))])
    ids = batch.input_ids.flatten()
    pieces = [ids[a:b].tolist() for a, b in zip(batch.word_start.tolist(), batch.word_end.tolist(), strict=True)]
    alone = [tiny_encoder.tokenizer(w, add_special_tokens=False)["input_ids"] for w in (*words, "parsers")]
    assert pieces == alone and len(pieces[2]) == 5
    assert batch.attention_mask.sum(1).tolist() == [2 + sum(map(len, alone[:5])), 3]


def test_what_does_not_fit_is_counted_not_lost_silently(tiny_encoder):
    tiny_encoder.max_pieces = 6
    sentences = [Sentence("a", ("neural", "parsers", "nasal", "parsers")), Sentence("b", ("parsers",) * 4)]
    batch = tiny_encoder.collate(sentences)
    assert batch.lengths == [2, 4] and batch.input_ids.shape == (2, 6)
    assert tiny_encoder.truncated_words(sentences) == 2


def test_shards_are_read_and_each_is_hashed(encoder_folder, tmp_path):
    whole = encoder_folder("bert")
    AutoModel.from_pretrained(whole).save_pretrained(tmp_path / "own", max_shard_size="20KB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(whole / name, tmp_path / "own")
    declared = {"name": "own", "path": str(tmp_path / "own"), "cased": False}
    encoder, (shard, *others) = (
        load_encoder(declared, locate_encoder(declared)),
        sorted((tmp_path / "own").glob("model-*")),
    )
    ours, theirs = encoder.model.state_dict(), AutoModel.from_pretrained(whole).state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert {shard.name, *(path.name for path in others)} < locate_encoder(declared).sha256.keys()
    shard.unlink()
    with pytest.raises(UserError, match=rf"index.json: 1 of its files are missing, the first is {shard.name}"):
        locate_encoder(declared)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_pointer_in_place_of_a_file_is_named(name, encoder_folder, tmp_path):
    folder = shutil.copytree(encoder_folder("bert"), tmp_path / "own")
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(UserError, match=rf"{name}: a pointer of Git LFS, not the file; run `git lfs pull`"):
        locate_encoder({"name": "own", "path": str(folder), "cased": False})


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"encoder 'own': path \S*nowhere is no folder"):
        locate_encoder({"name": "own", "path": str(tmp_path / "nowhere"), "cased": False})


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "tokenizer.json"])
def test_whatever_is_read_is_watched_and_trains_anew_when_it_changes(name, encoder_folder, prepared, tmp_path):
    folder = shutil.copytree(encoder_folder("bert"), tmp_path / "own")
    run = tiny_run(dict(System.test_settings), 0, steps=1)
    run["encoder"] = {"name": "own", "path": str(folder), "cased": False}
    seen = []
    for _ in range(2):
        train_run(run, prepared, tmp_path / "out", tmp_path / "state")
        record = json.loads((tmp_path / "out" / "training.json").read_text())["encoder_source"]
        assert record["sha256"] == file_sums(folder) == changed_files(run["encoder"])
        seen.append(len(list((tmp_path / "state").iterdir())))
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace("{", "{ ", 1))
    assert seen == [1, 2], "the second is another training"
