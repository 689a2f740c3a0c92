"""Encoders of any architecture, from where they may come, and how words become pieces."""

import json
import shutil

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sinet.contract import Sentence
from sinet.data.sentence import read_sentences
from sinet.errors import UserError
from sinet.model import packed as packed_weights
from sinet.model.located import locate_encoder
from sinet.model.pretrained import load_encoder, rebuild_encoder, save_encoder
from sinet.model.sinet import System
from sinet.provenance import file_sha256
from sinet.run.flops import encoder_multiply_adds
from tests.conftest import CONFIGS, CORPUS, LABELS

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
    model = System(LABELS, encoder, **System.tiny)
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


@pytest.mark.parametrize("kind", CONFIGS)
def test_maps_alone_are_all_linear_maps(kind, encoder_folder, tmp_path):
    declared = in_mirror(encoder_folder(kind), tmp_path, f"tiny-{kind}")
    encoder = load_encoder(declared, locate_encoder(declared, [str(tmp_path)])).eval()
    mask = torch.tensor([[1] * 9 + [0] * 3, [1] * 12])
    with encoder.packed(torch.float32), FlopCounterMode(display=False) as counter:
        encoder.maps_alone(mask)()
    assert counter.get_total_flops() == 2 * encoder_multiply_adds(encoder.model.config, 21, attention=False)


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
