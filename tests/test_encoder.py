"""Encoders of any architecture, from where they may come, and how words become pieces."""

import contextlib
import json
import shutil
import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel

from sinet.contract import Sentence
from sinet.data.sentence import read_sentences
from sinet.efficiency.flops import count_sentences, encoder_multiply_adds
from sinet.encoders import fast as packed_weights
from sinet.encoders.encoder import Window
from sinet.encoders.length import LengthCheck, positions
from sinet.encoders.located import changed_files, file_sums, locate_encoder
from sinet.encoders.pretrained import load_encoder
from sinet.errors import UserError
from sinet.grid.config import read_config
from sinet.model.sinet import System
from sinet.provenance import file_sha256
from sinet.train.steps import new_optimizer
from sinet.train.trainer import train_run
from tests.conftest import (
    ARCHITECTURES,
    CORPUS,
    LABELS,
    NO_PAIR_MASK,
    NO_POSITION_IDS,
    SMALL,
    encoder_spec,
    spec,
    tiny_config,
    tiny_run,
    tiny_tokenizer,
)

REVISION = "0" * 40
PACKED = ("bert", "albert", "mpnet")
"""One architecture of each form that is packed, and whose products are counted by a formula."""


def in_mirror(folder, mirror, name, **sums):
    target = mirror / "encoders" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder, target)
    return encoder_spec({"name": name, "hub": f"nobody/{name}", "revision": REVISION, "cased": False} | sums)


def test_an_encoder_in_a_mirror_is_found_by_its_name(encoder_folder, tmp_path):
    weights = file_sha256(encoder_folder("bert") / "model.safetensors")
    declared = in_mirror(encoder_folder("bert"), tmp_path, "tiny", sha256={"model.safetensors": weights})
    located = locate_encoder(declared, [str(tmp_path)])
    assert "mirror" in located.source and declared.sha256.items() < located.sha256.items()
    assert load_encoder(declared, located).hidden_size == SMALL["hidden_size"]


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_every_architecture_learns_reads_as_many_pieces_as_it_says_and_is_counted(kind, fresh_encoder):
    encoder = fresh_encoder(kind)
    assert encoder.max_pieces == (159 if kind in ("roberta", "xlm-roberta", "camembert") else 160)
    full = torch.full((1, encoder.max_pieces), 7)
    assert encoder.eval()(full, torch.ones_like(full)).isfinite().all()

    sentences = read_sentences(CORPUS)
    model = System(LABELS, encoder, **System.test_settings).train()
    before = {name: p.clone() for name, p in model.named_parameters()}
    optimizer = new_optimizer(model, spec(tiny_run({}, 0)).recipe)
    model.loss(model.training_batch(sentences)).backward()
    optimizer.clipped_step(1.0)
    same = [n for n, p in model.named_parameters() if p.grad is not None and p.grad.any() and torch.equal(p, before[n])]
    assert same == [], "whatever has a gradient learns"
    assert count_sentences(model.eval(), sentences[:2])["encoder"] > 0


def test_weights_stored_in_half_precision_are_read_in_float32(tmp_path):
    AutoModel.from_config(tiny_config("bert")).half().save_pretrained(tmp_path)
    tiny_tokenizer(tmp_path).save_pretrained(tmp_path)
    declared = encoder_spec({"name": "own", "path": str(tmp_path), "cased": False})
    assert {p.dtype for p in load_encoder(declared, locate_encoder(declared)).parameters()} == {torch.float32}


# -- masks, position ids, context ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(ARCHITECTURES.keys() - NO_PAIR_MASK - NO_POSITION_IDS))
def test_halves_that_do_not_see_each_other_read_as_they_do_alone(kind, fresh_encoder):
    encoder = fresh_encoder(kind).eval()
    halves = [encoder.collate([sentence]).input_ids for sentence in read_sentences(CORPUS)[:2]]
    ids = torch.cat([torch.cat(halves, dim=1), torch.cat(halves[::-1], dim=1)])
    sizes = [half.shape[1] for half in halves]
    apart = torch.stack([torch.block_diag(*(torch.ones(n, n) for n in order)) for order in (sizes, sizes[::-1])]).long()
    places = torch.stack([torch.cat([torch.arange(n) for n in order]) for order in (sizes, sizes[::-1])])
    with torch.no_grad():
        alone = [encoder(half, torch.ones_like(half))[0] for half in halves]
        for context in (contextlib.nullcontext(), encoder.packed(torch.float32)):
            with context:
                together = encoder(ids, apart, places)
            assert torch.allclose(together[0], torch.cat(alone), atol=1e-5)
            assert torch.allclose(together[1], torch.cat(alone[::-1]), atol=1e-5)
        assert not torch.allclose(encoder(ids, torch.ones_like(ids))[0], torch.cat(alone), atol=1e-3)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_mask_or_position_ids_that_an_architecture_would_misread_are_refused(kind, fresh_encoder):
    encoder = fresh_encoder(kind).eval()
    ids = encoder.collate(read_sentences(CORPUS)[:1]).input_ids
    ones = torch.ones_like(ids)
    for refuses, what, given in (
        (NO_PAIR_MASK, "takes no attention mask of", (ids, ones[:, None] * ones[:, :, None])),
        (NO_POSITION_IDS, "cannot place pieces by position_ids alone", (ids, ones, torch.arange(len(ids[0]))[None])),
    ):
        if kind in refuses:
            with pytest.raises(ValueError, match=f"^{kind} {what}.*; take an encoder such as BERT$"):
                encoder(*given)
        else:
            encoder.eval()
            assert torch.allclose(encoder(*given), encoder(ids, ones), atol=1e-6), (
                "what is said is what holds by default"
            )
            encoder.train()


@pytest.fixture
def document(tmp_path):
    """Four sentences of a document between others."""
    texts = (("other", "Nasal"), ("d", "neural parsers"), ("d", "abc parsers , neural"), ("d", "parsers"), (None, "x"))
    lines = [{"tokens": text.split()} | ({"document": name} if name else {}) for name, text in texts]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return read_sentences(tmp_path / "d.jsonl")


def test_context_is_of_the_same_document_half_on_either_side(document):
    middle = document[2].without_labels()
    assert middle.context(6) == (("parsers",), ("parsers",))
    assert middle.context(7) == (("parsers",), ("parsers",)), "the end of a document gives nothing to the other side"
    assert middle.context(9) == (("neural", "parsers"), ("parsers",))
    assert middle.context(5) == ((), ("parsers",)) and middle.context(4) == middle.context(0) == ((), ())
    assert document[0].context(9) == document[4].context(9) == ((), ())


def test_words_of_the_sentence_alone_are_read_out_of_its_context(document, tiny_encoder):
    plain, tiny_encoder.window = tiny_encoder.collate(document), Window(words=9)
    batch = tiny_encoder.collate(document)
    assert batch.lengths == plain.lengths == [len(s.tokens) for s in document]

    def read(inputs):
        bounds = zip(inputs.word_start.tolist(), inputs.word_end.tolist(), strict=True)
        return [inputs.input_ids.flatten()[start:end].tolist() for start, end in bounds]

    assert read(batch) == read(plain)
    cut = tiny_encoder.word_pieces
    words = [p for word in cut(["neural", "parsers", *document[2].tokens, "parsers"]) for p in word]
    assert batch.input_ids[2].tolist() == [2, *words, 3] + [0] * (batch.input_ids.shape[1] - len(words) - 2)
    assert tiny_encoder.piece_counts(document)[2] == len(words) == int(batch.attention_mask[2].sum()) - 2

    own, near = [p for word in cut(document[2].tokens) for p in word], cut(["parsers"])[0]
    tiny_encoder.max_pieces = 2 + len(own) + 3  # of the context there is room for three pieces
    assert tiny_encoder.collate(document).input_ids[2].tolist() == [2, *near, *own, *near, 3]
    tiny_encoder.max_pieces = 2 + len(own) + 1
    assert tiny_encoder.collate(document).input_ids[2].tolist() == [2, *own, *near, 3]
    assert tiny_encoder.truncated_words(document) == 0


def test_context_of_pieces_goes_to_the_shorter_side_first_and_may_cut_a_word(document, tiny_encoder):
    cut = tiny_encoder.word_pieces
    before, own, after = ([p for word in cut(s.tokens) for p in word] for s in document[1:4])
    assert (len(before), len(after)) == (2, 1) and len(cut(["abc"])[0]) == 3

    def read(room, sentence=2):
        """What is read of a sentence where there is room for so many pieces of context."""
        window = Window(pieces=2 + len(own if sentence == 2 else after) + room)
        (ids,) = tiny_encoder.collate([document[sentence].without_labels()], window=window).input_ids.tolist()
        return ids[1:-1]

    assert read(-3) == read(0) == own, "a sentence is never cut for a window"
    assert read(1) == [*before[1:], *own], "half of one piece, rounded down, is for the shorter side"
    assert read(2) == [*before[1:], *own, *after]
    assert read(3) == read(99) == [*before, *own, *after], "the longer side has what the shorter leaves"
    assert read(5, 3) == [*own[-5:], *after], "a word is cut"
    tiny_encoder.window = Window(pieces=2 + len(own) + 2)
    assert tiny_encoder.piece_counts(document) == [5, *[len(own) + 2] * 3, 1]
    batch = tiny_encoder.collate(document)
    assert batch.attention_mask.sum(1).tolist() == [count + 2 for count in tiny_encoder.piece_counts(document)]
    bounds = zip(batch.word_start.tolist(), batch.word_end.tolist(), strict=True)
    words = [batch.input_ids.flatten()[start:end].tolist() for start, end in bounds]
    assert words == [list(word) for sentence in document for word in cut(sentence.tokens)]
    tiny_encoder.max_pieces = 2 + len(own) + 1
    assert read(99) == [*before[1:], *own]


@pytest.mark.parametrize("kind", PACKED)
def test_maps_alone_are_all_linear_maps(kind, fresh_encoder):
    encoder = fresh_encoder(kind).eval()
    mask = torch.tensor([[1] * 9 + [0] * 3, [1] * 12])
    with encoder.packed(torch.float32), FlopCounterMode(display=False) as counter:
        encoder.maps_alone(mask)()
    assert counter.get_total_flops() == 2 * encoder_multiply_adds(encoder.model.config, 21, attention=False)


@pytest.mark.parametrize("kind", PACKED)
def test_the_closed_formula_is_what_torch_counts(kind, fresh_encoder):
    encoder = fresh_encoder(kind).eval()
    for pieces in (3, 40):
        ids = torch.full((1, pieces), 7)
        with FlopCounterMode(display=False) as counter:
            encoder(ids, torch.ones_like(ids))
        assert counter.get_total_flops() == 2 * encoder_multiply_adds(encoder.model.config, pieces)


@pytest.mark.parametrize("layout", [True, False])
@pytest.mark.parametrize("kind", PACKED)
def test_packed_states_and_attention_are_the_modules_own(kind, layout, fresh_encoder, monkeypatch):
    monkeypatch.setattr(packed_weights, "_has_fast_layout", lambda dtype: layout)  # whatever this CPU has
    encoder = fresh_encoder(kind).eval()
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
    declared = read_config().encoder_spec("minilm")
    located = locate_encoder(declared)
    assert load_encoder(declared, located).hidden_size == 384 and declared.sha256.items() < located.sha256.items()


def test_architecture_alone(monkeypatch):
    declared = read_config().encoder_spec("scibert-sizes")
    small = declared.architecture.model_copy(update={"num_hidden_layers": 1})
    declared = declared.model_copy(update={"architecture": small})
    located = locate_encoder(declared)
    assert load_encoder(declared, located).hidden_size == 768 and "random" in located.source


def test_wrong_weights_are_refused(encoder_folder, tmp_path):
    declared = in_mirror(encoder_folder("bert"), tmp_path, "tiny", sha256={"model.safetensors": "0" * 64})
    with pytest.raises(UserError, match=r"model.safetensors: SHA-256 is .*'tiny' declares 000"):
        locate_encoder(declared, [str(tmp_path)])
    (tmp_path / "encoders" / "tiny" / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors is missing"):
        locate_encoder(declared, [str(tmp_path)])
    declared = declared.model_copy(update={"sha256": None})
    with pytest.raises(UserError, match=r"holds none of model\.safetensors, .*pytorch_model"):
        locate_encoder(declared, [str(tmp_path)])


def test_offline_and_absent_is_one_clear_message(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    declared = encoder_spec({"name": "absent", "hub": "nobody/absent", "revision": REVISION, "cased": False})
    with pytest.raises(UserError, match=r"encoder 'absent': not in a mirror .*put its files into data/mirror/encoders"):
        locate_encoder(declared, [str(tmp_path)])
    with pytest.raises(UserError, match="the package no_such_package is not installed; run `make setup`"):
        locate_encoder(encoder_spec({"name": "p", "package": "no_such_package", "folder": "m", "cased": True}))


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
    declared = encoder_spec({"name": "own", "path": str(tmp_path / "own"), "cased": False})
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
        locate_encoder(encoder_spec({"name": "own", "path": str(folder), "cased": False}))


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"encoder 'own': path \S*nowhere is no folder"):
        locate_encoder(encoder_spec({"name": "own", "path": str(tmp_path / "nowhere"), "cased": False}))


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "tokenizer.json"])
def test_whatever_is_read_is_watched_and_trains_anew_when_it_changes(name, encoder_folder, prepared, tmp_path):
    folder = shutil.copytree(encoder_folder("bert"), tmp_path / "own")
    run = tiny_run(dict(System.test_settings), 0, steps=1)
    run["encoder"] = {"name": "own", "path": str(folder), "cased": False}
    seen = []
    for _ in range(2):
        train_run(spec(run), prepared, tmp_path / "out", tmp_path / "state")
        record = json.loads((tmp_path / "out" / "training.json").read_text())["encoder_source"]
        assert record["sha256"] == file_sums(folder) == changed_files(encoder_spec(run["encoder"]))
        seen.append(len(list((tmp_path / "state").iterdir())))
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace("{", "{ ", 1))
    assert seen == [1, 2], "the second is another training"


# -- length without the model ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_length_that_a_configuration_gives_is_the_encoders(kind, fresh_encoder):
    encoder = fresh_encoder(kind)
    assert positions(encoder.model.config.to_dict()) == encoder.max_pieces


def test_sentences_are_measured_without_torch_as_the_encoder_cuts_them():
    declared = read_config().encoder_spec("minilm")
    encoder, check = load_encoder(declared, locate_encoder(declared)), LengthCheck(declared, [])
    words = ["Neural", "parsers", "(", "naïve", "\u4e2d", "\ufffd", "x" * 300, "don't", "\u200b"]
    assert check(words) is None and check.words == len(words)
    pieces = encoder.tokenizer(words, add_special_tokens=False)["input_ids"]
    assert check.unknown == sum(not ids or encoder.tokenizer.unk_token_id in ids for ids in pieces) == 3
    room = encoder.max_pieces - 2
    assert check(["a"] * room) is None
    assert check(["a"] * (room + 1)) == f"{room + 3} word pieces, minilm takes {room + 2}; split the sentence"
    code = "import sys; from sinet.cli import main; main(['check', sys.argv[1]]); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(CORPUS)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
