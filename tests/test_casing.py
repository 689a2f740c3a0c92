"""What a folder makes transformers load is what is declared of the encoder, or it is refused or told."""

import ast
import json
import logging
import re
import shutil
import string
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AlbertForPreTraining, AutoConfig, AutoModel, BertForPreTraining, T5Config
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

from sinet.contract import Sentence
from sinet.encoders.encoder import max_pieces
from sinet.encoders.fetch import fetch_encoder
from sinet.encoders.located import locate_encoder
from sinet.encoders.pretrained import load_encoder, rebuild_encoder, save_encoder
from sinet.errors import UserError
from sinet.grid.config import checked, load_config, read_config
from sinet.provenance import ROOT
from sinet.train.trainer import train_run
from tests.conftest import CORPUS, LABELS, encoder_spec, spec, tiny_run

SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
SPECIAL = {
    "bert": {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"},
    "albert": {"pad": "<pad>", "unk": "<unk>", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"},
    "roberta": {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"},
    "mpnet": {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "[UNK]", "mask": "<mask>"},
}
KINDS = tuple(SPECIAL)
LETTERS = string.ascii_lowercase + "é"
ROWS = 500


def pieces_of(kind: str, cased: bool) -> list[str]:
    """A vocabulary with the special tokens first, `the` and, when it is cased, `The` and capital letters."""
    letters = LETTERS + (string.ascii_uppercase if cased else "")
    words = ["the", "The"] if cased else ["the"]
    special = list(SPECIAL[kind].values())
    if kind == "roberta":
        return [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), "th", *(["Th"] if cased else []), *words]
    if kind == "albert":
        return [*special, "\u2581", *("\u2581" + word for word in words), *letters]
    others = ["[PAD]", "[CLS]", "[unused0]"] if kind == "mpnet" else ["[unused0]"]  # MPNet's holds BERT's, capitals too
    return [*special, *others, *words, *letters, *("##" + letter for letter in letters)]


def merges_of(cased: bool) -> list[tuple[str, str]]:
    return [("t", "h"), ("th", "e"), *([("T", "h"), ("Th", "e")] if cased else [])]


def tokenizer_file(kind: str, pieces: list[str], cased: bool, lowercase: bool) -> Tokenizer:
    """The tokenizer as its `tokenizer.json` has it."""
    numbers, unknown = {piece: i for i, piece in enumerate(pieces)}, SPECIAL[kind]["unk"]
    if kind == "albert":
        scored = [(piece, -1.0 if len(piece) > 1 else -9.0) for piece in pieces]
        file = Tokenizer(models.Unigram(scored, unk_id=1))
        parts = [normalizers.NFKD(), normalizers.StripAccents()] + [normalizers.Lowercase()] * lowercase
        file.normalizer = normalizers.Sequence(parts)
        file.pre_tokenizer, file.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    elif kind == "roberta":
        file = Tokenizer(models.BPE(numbers, merges_of(cased)))
        file.normalizer = normalizers.Lowercase() if lowercase else None
        file.pre_tokenizer, file.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    else:
        file = Tokenizer(models.WordPiece(numbers, unk_token=unknown))
        file.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
        file.pre_tokenizer, file.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    return file


class Folder:
    """Writes a tiny encoder `NAME` into a mirror: a vocabulary, cased or not, and what its files say of casing.

    `says`: do_lower_case in tokenizer_config.json, None for no such file. `file`: whether a tokenizer.json lower-cases,
    None for the vocabulary's own files. `settings`: what tokenizer_config.json says besides.
    """

    def __init__(self, mirror: Path) -> None:
        self.mirror = mirror

    def make(self, kind: str, cased: bool, says: bool | None = None, file: bool | None = None, **settings) -> Path:
        folder = self.mirror / "encoders" / "small"
        folder.mkdir(parents=True)
        pieces = pieces_of(kind, cased)
        torch.manual_seed(0)
        shifted = {"pad_token_id": 1} if kind in ("roberta", "mpnet") else {"pad_token_id": 0}
        config = AutoConfig.for_model(
            kind, **SIZES, vocab_size=ROWS, max_position_embeddings=40, embedding_size=4, **shifted
        )
        AutoModel.from_config(config).save_pretrained(folder)
        if kind == "albert" and file is None:
            file = not cased  # its other form, spiece.model, needs a package that is not installed
        if kind == "roberta":
            (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
            merges = "".join(f"{a} {b}\n" for a, b in merges_of(cased))
            (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}")
        elif kind != "albert":
            (folder / "vocab.txt").write_text("\n".join(pieces), encoding="utf-8")
        if file is not None:
            tokenizer_file(kind, pieces, cased, file).save(str(folder / "tokenizer.json"))
        if says is not None or settings:
            said = settings | ({} if says is None else {"do_lower_case": says})
            (folder / "tokenizer_config.json").write_text(json.dumps(said))
        return folder

    def load(self, cased: bool):
        declared = encoder_spec({"name": "small", "hub": "nobody/small", "revision": "0" * 40, "cased": cased})
        return load_encoder(declared, locate_encoder(declared, [str(self.mirror)]))

    def refusal(self, cased: bool) -> str:
        with pytest.raises(UserError) as refused:
            self.load(cased)
        message = str(refused.value)
        assert "\n" not in message and "encoder 'small'" in message and str(self.mirror) in message, message
        return message


@pytest.fixture
def small(tmp_path):
    return Folder(tmp_path)


def as_declared(encoder, cased: bool) -> None:
    lower, capital, accent = encoder.word_pieces(["the", "The", "thé"])
    unknown = encoder.tokenizer.unk_token_id
    assert unknown not in (*lower, *capital) and (lower == capital) == (not cased), (lower, capital)
    if type(encoder.tokenizer).__name__ in ("BertTokenizer", "MPNetTokenizer"):
        assert (lower == accent) == (not cased), "accents go where capitals go, as in BERT"


FORMS = [(kind, cased) for kind in KINDS for cased in (True, False) if (kind, cased) != ("roberta", False)]


@pytest.mark.parametrize("with_file", [False, True], ids=["own-files", "tokenizer.json"])
@pytest.mark.parametrize("with_config", [False, True], ids=["silent", "tokenizer_config.json"])
@pytest.mark.parametrize(("kind", "cased"), FORMS)
def test_the_declared_casing_is_what_is_loaded_saved_and_read_back(
    kind, cased, with_config, with_file, small, tmp_path
):
    small.make(kind, cased, not cased if with_config else None, not cased if with_file else None)
    encoder = small.load(cased)
    as_declared(encoder, cased)
    config = json.loads(json.dumps(save_encoder(encoder, tmp_path / "saved")))
    again = rebuild_encoder(config, tmp_path / "saved")
    words = ["the", "The", "THE", "thé", "É", "Othello"]
    assert again.word_pieces(words) == encoder.word_pieces(words), "a finished run needs no declaration"
    as_declared(again, cased)


@pytest.mark.parametrize("with_file", [False, True], ids=["own-files", "tokenizer.json"])
@pytest.mark.parametrize("with_config", [False, True], ids=["silent", "tokenizer_config.json"])
@pytest.mark.parametrize(("kind", "cased"), FORMS)
def test_a_wrong_declaration_is_refused(kind, cased, with_config, with_file, small):
    small.make(kind, cased, not cased if with_config else None, not cased if with_file else None)
    told = (
        r"holds capital letters \('\w+'\); declare cased: true" if cased else "no capital letter; declare cased: false"
    )
    assert re.search(told, small.refusal(not cased))


@pytest.mark.parametrize("cased", [True, False])
@pytest.mark.parametrize("kind", ["bert", "albert", "mpnet"])
def test_a_setting_against_the_declaration_is_refused(kind, cased, small):
    small.make(kind, cased, says=cased)
    told = small.refusal(cased)
    does = "lower-cases" if cased else "does not lower-case"
    assert f"small/tokenizer_config.json: the tokenizer {does}, but cased: {str(cased).lower()} is declared" in told


@pytest.mark.parametrize("says", [None, True])
@pytest.mark.parametrize(("kind", "cased"), FORMS)
def test_a_tokenizer_json_against_the_declaration_is_refused(kind, cased, says, small):
    small.make(kind, cased, says=says and not cased, file=cased)
    does = "lower-cases" if cased else "does not lower-case"
    assert f"small/tokenizer.json: the tokenizer {does}, but cased: " in small.refusal(cased)


def test_byte_level_pieces_of_single_bytes_are_no_capitals(small):
    folder = small.make("roberta", False, file=True)
    # RoBERTa's own class never lower-cases, whatever tokenizer.json says
    assert "the tokenizer does not lower-case, but cased: false is declared" in small.refusal(False)
    assert "no capital letter; declare cased: false" in small.refusal(True)
    special = {f"{role}_token": token for role, token in SPECIAL["roberta"].items()}
    own = special | {"tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(own))
    as_declared(small.load(False), False)


def test_casing_is_declared_or_asked_for(small):
    small.make("bert", True)
    with pytest.raises(UserError, match="key 'cased' is missing"):
        encoder_spec({"name": "small", "hub": "nobody/small", "revision": "0" * 40})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"minilm": {"cased": "no"}}, r"encoders.minilm.cased: 'no' is text, should be true or false"),
        ({"more": {"title": "M", "package": "p", "folder": "f"}}, r"encoders.more: key 'cased' is missing"),
        ({"more": {"title": "M", "hub": "a/b", "revision": "main"}}, r"encoders.more: key 'cased' is missing"),
        ({"scibert-sizes": {"cased": True}}, r"encoders.scibert-sizes: needs one of"),
    ],
)
def test_a_configuration_declares_it_of_encoders_with_weights(change, told):
    config = load_config()
    for name, keys in change.items():
        config["encoders"][name] = config["encoders"].get(name, {}) | keys
    with pytest.raises(UserError, match=told):
        checked(config)


def test_minilm_is_what_its_declaration_says_and_nothing_is_told(caplog):
    declared = read_config().encoder_spec("minilm")
    located = locate_encoder(declared)
    encoder = load_encoder(declared, located)
    as_declared(encoder, cased=False)
    assert not caplog.records
    with pytest.raises(UserError, match=r"encoder 'minilm': .* no capital letter; declare cased: false"):
        load_encoder(declared, locate_encoder(declared.model_copy(update={"cased": True})))


def test_an_architecture_takes_the_casing_of_its_tokenizer(small):
    small.make("bert", True)
    tokenizer = {"name": "small", "hub": "nobody/small", "revision": "0" * 40, "cased": True}
    sizes = SIZES | {"model_type": "bert", "vocab_size": ROWS}
    declared = encoder_spec({"name": "sizes", "architecture": sizes, "tokenizer": tokenizer})
    as_declared(load_encoder(declared, locate_encoder(declared, [str(small.mirror)])), True)
    declared = encoder_spec({"name": "sizes", "architecture": sizes, "tokenizer": tokenizer | {"cased": False}})
    with pytest.raises(UserError, match=r"encoder 'small': .* declare cased: true"):
        load_encoder(declared, locate_encoder(declared, [str(small.mirror)]))


def test_a_wrong_declaration_is_refused_before_training_starts(small, tmp_path):
    small.make("bert", True)
    declared = encoder_spec({"name": "small", "hub": "nobody/small", "revision": "0" * 40, "cased": False})
    with pytest.raises(UserError, match="declare cased: true"):
        fetch_encoder(declared, [str(small.mirror)], tmp_path / "small.json")
    assert not (tmp_path / "small.json").exists()


# -- weights -------------------------------------------------------------------------------------------------------


def change_weights(folder: Path, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_missing_weights_are_refused(small):
    def lose(weights):
        for name in [name for name in weights if name.startswith("encoder.layer.0.output")]:
            del weights[name]

    change_weights(small.make("bert", True), lose)
    missing = "4 weights of 21 are missing, the first is encoder.layer.0.output.LayerNorm.bias; take all"
    assert missing in small.refusal(True)


def test_weights_of_another_size_are_refused(small):
    name = "embeddings.position_embeddings.weight"
    change_weights(small.make("bert", True), lambda weights: weights.update({name: torch.zeros(20, 8)}))
    assert f"1 weights are of another size than config.json says, the first is {name}" in small.refusal(True)


def configured(**change):
    """A change of config.json."""

    def edit(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))

    return edit


def weighted(change):
    """A change of model.safetensors."""
    return lambda folder: change_weights(folder, change)


def written(name: str, content: bytes):
    return lambda folder: (folder / name).write_bytes(content)


def cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def wrapped(weights: dict) -> None:
    """As a wrapper saves them."""
    for name in list(weights):
        weights[f"module.{name}"] = weights.pop(name)


def pickled(content: object):
    def edit(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        if isinstance(content, bytes):
            (folder / "pytorch_model.bin").write_bytes(content)
        else:
            torch.save(content, folder / "pytorch_model.bin")

    return edit


class Code:
    def __reduce__(self):
        return (pytest.fail, ("this would have run",))


WORDS = "embeddings.word_embeddings.weight"
BROKEN = {
    "names of a wrapper": (
        weighted(wrapped),
        r"21 weights of 21 are missing \(the file has module.embeddings\S*\), the first is embeddings.LayerNorm.bias",
    ),
    "fewer rows": (
        configured(vocab_size=120),
        rf"1 weights .* is {WORDS} \(\(500, 8\), should be \(120, 8\)\)",
    ),
    "more layers": (configured(num_hidden_layers=2), "16 weights of 37 are missing"),
    "no layers": (configured(num_hidden_layers=0), "the state of its first piece does not depend on those behind it"),
    "negative layers": (configured(num_hidden_layers=-1), "the state of its first piece does not depend"),
    "negative heads": (configured(num_attention_heads=-2), "no encoder can be made of its files "),
    "no rows": (configured(vocab_size=-1), "no encoder can be made of its files "),
    "layers without end": (
        configured(num_hidden_layers=10**9),
        "layers is 1000000000 in the configuration; at most 1,",
    ),
    "labels without end": (
        configured(num_labels=10**8),
        "num_labels is 100000000 in the configuration; at most 1,000,",
    ),
    "gigabytes": (configured(hidden_size=10**6), "its configuration has .* weights, of which at most 10,000,000 can"),
    "rows without end": (configured(vocab_size=10**10), "its configuration has 80,0.* weights, of which at most 10,0"),
    "deep": (written("config.json", b"[" * 100_000), "config.json: broken JSON .nested too deeply"),
    "deep tokenizer": (
        written("tokenizer.json", b'{"a":' * 100_000),
        "no encoder can be made of its files .*recursion",
    ),
    "long number": (
        written("config.json", b'{"a": ' + b"9" * 5000 + b"}"),
        "config.json: broken JSON .a number of thou",
    ),
    "odd heads": (configured(num_attention_heads=3), "6 weights are of another size than config.json says"),
    "text for a size": (configured(hidden_size="8"), "no encoder can be made of its files .*hidden_size"),
    "a list": (written("config.json", b"[]"), "config.json: no mapping of settings"),
    "an activation of no kind": (configured(hidden_act="odd"), "no encoder can be made of its files .*odd"),
    "decoder": (configured(is_decoder=True), "bert is a decoder"),
    "another decoder": (configured(model_type="gpt2"), "gpt2 is a decoder"),
    "encoder-decoder": (lambda folder: T5Config().save_pretrained(folder), "t5 is a decoder"),
    "no model of text": (configured(model_type="vit"), "vit is a decoder, or no model of text"),
    "of no kind": (configured(model_type="odd"), "no encoder can be made of its files .*odd"),
    "cut short": (cut_short, "no encoder can be made of .*incomplete"),
    "no safetensors": (written("model.safetensors", b"abc"), "no encoder can be made of .*header"),
    "no checkpoint": (pickled(b"abc"), "no encoder can be made of its files "),
    "a list of tensors": (pickled([torch.zeros(1)]), "no encoder can be made of its files "),
    "code": (pickled({WORDS: Code()}), "the weights are a pickle of other things too; save them as safetensors"),
    "no numbers": (
        weighted(lambda w: w.update({WORDS: w[WORDS] / 0})),
        rf"1 weights are no finite .* is {WORDS}",
    ),
    "no tokenizer": (lambda folder: (folder / "vocab.txt").unlink(), "its tokenizer has no vocabulary; put its"),
    "no text": (written("vocab.txt", b"[PAD]\n\xff"), "no encoder can be made of its files .*UTF-8"),
    "settings that are none": (written("tokenizer_config.json", b"null"), "tokenizer_config.json: no mapping"),
    "text for a truth": (
        written("tokenizer_config.json", b'{"do_lower_case": "false"}'),
        "do_lower_case is 'false'",
    ),
    "text for a number": (
        written("tokenizer_config.json", b'{"model_max_length": "9"}'),
        "model_max_length is '9'",
    ),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_or_foreign_folder_is_refused_in_one_line(broken, small, tmp_path):
    edit, told = BROKEN[broken]
    edit(small.make("bert", True))
    declared = encoder_spec({"name": "small", "hub": "nobody/small", "revision": "0" * 40, "cased": True})
    with pytest.raises(UserError, match=f"small.*{told}") as refused:
        fetch_encoder(declared, [str(small.mirror)], tmp_path / "small.json")
    assert "\n" not in str(refused.value) and not (tmp_path / "small.json").exists()


@pytest.mark.parametrize(
    "index",
    [[], {"a": 5}, {"a": ["model-1.safetensors"]}, {"a": "../model.safetensors"}, {"a": "x" * 300}, {"a": "a\nb"}],
    ids=str,
)
def test_an_index_of_shards_of_another_form_is_refused(index, small):
    folder = small.make("bert", True)
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    with pytest.raises(UserError, match=r"index.json: weight_map should be a mapping of weights to files beside it$"):
        small.load(True)


def test_what_becomes_unknown_is_told_and_not_trained_on(small, tmp_path, caplog):
    """Of text in Latin letters an encoder whose vocabulary has none reads nothing."""
    folder = small.make("bert", False)
    pieces = (folder / "vocab.txt").read_text().split("\n")
    greek = [p if p.startswith("[") else f"{chr(945 + n % 17)}{chr(945 + n // 17)}" for n, p in enumerate(pieces)]
    (folder / "vocab.txt").write_text("\n".join(greek))
    declared = encoder_spec({"name": "small", "hub": "nobody/small", "revision": "0" * 40, "cased": False})
    fetch_encoder(declared, [str(small.mirror)], tmp_path / "small.json")
    (record,) = caplog.records
    assert record.getMessage() == "encoder 'small': most letters from a to z are [UNK]; text in them cannot be read"
    encoder = small.load(False)
    assert encoder.unknown_share(["the", "\u03b1\u03b1x", greek[-1]]) == pytest.approx(2 / 3)
    shutil.copy(CORPUS, tmp_path / "train.jsonl")
    shutil.copy(CORPUS, tmp_path / "dev.jsonl")
    (tmp_path / "labels.json").write_text(json.dumps(LABELS.to_json()))
    run = tiny_run({}, 0) | {"encoder": declared}
    with pytest.raises(UserError, match=r"'small': \d+% of the words of ten are \[UNK\] to its tokenizer"):
        train_run(spec(run), tmp_path, tmp_path / "out", tmp_path / "state", [str(small.mirror)])


def test_more_layers_in_the_file_are_refused(small):
    deeper = {f"encoder.layer.1.{part}": torch.zeros(8) for part in ("output.LayerNorm.bias", "output.dense.bias")}
    change_weights(small.make("bert", True), lambda weights: weights.update(deeper))
    assert "2 weights are of more layers than config.json says, the first is encoder.layer.1" in small.refusal(True)


def test_weights_that_are_not_read_are_told(small, caplog):
    change_weights(small.make("bert", True), lambda weights: weights.update({"adapter.weight": torch.zeros(2)}))
    small.load(True)
    (told,) = caplog.messages
    assert told.endswith("small: 1 weights that its architecture does not have: adapter.weight")


@pytest.mark.parametrize("kind", KINDS)
def test_a_pooler_and_heads_of_pretraining_are_left_out_in_silence(kind, small, caplog):
    folder = small.make(kind, True)
    config = AutoConfig.from_pretrained(folder)
    heads = {"bert": BertForPreTraining, "albert": AlbertForPreTraining}
    heads.get(kind, MODEL_FOR_MASKED_LM_MAPPING[type(config)])(config).save_pretrained(folder)
    small.load(True)
    assert not caplog.records


@pytest.mark.parametrize("kind", KINDS)
def test_a_pooler_is_at_hand_where_the_files_have_one_and_no_part_of_the_model(kind, small):
    folder = small.make(kind, True)
    stored = load_file(folder / "model.safetensors")
    drawn = torch.get_rng_state()
    encoder = small.load(True)
    ours = [name for name in stored if name.startswith("pooler.")]
    assert (encoder.pooler is not None) == bool(ours) and not any("pooler" in n for n, _ in encoder.named_parameters())
    for tensor in encoder.pooler or ():
        assert any(torch.equal(tensor, stored[name]) for name in ours)
    change_weights(folder, lambda weights: [weights.pop(name) for name in ours])
    assert small.load(True).pooler is None
    assert torch.equal(drawn, torch.get_rng_state()), "what is not there is not drawn at another's expense"


@pytest.mark.parametrize("cased", [True, False])
def test_a_configuration_without_model_type_is_berts(cased, small):
    folder = small.make("bert", cased)
    older_than_model_type(folder)
    encoder = small.load(cased)
    as_declared(encoder, cased)
    assert type(encoder.model).__name__ == "BertModel"


def test_one_without_model_type_that_is_not_berts_is_refused(small):
    older_than_model_type(small.make("albert", False))
    assert "its vocabulary has no pad_token ([PAD])" in small.refusal(False)


def older_than_model_type(folder: Path) -> None:
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({k: v for k, v in said.items() if k != "model_type"}))


# -- what the tokenizer and the model say of each other ------------------------------------------------------------


@pytest.mark.parametrize("form", ["own-files", "tokenizer.json", "PreTrainedTokenizerFast"])
def test_bytes_are_cut_as_those_of_a_word(form, small, tmp_path):
    """RoBERTa's tokenizer as published: a word at a text's beginning is cut as part of another."""
    special = {f"{role}_token": token for role, token in SPECIAL["roberta"].items()} | {"tokenizer_class": form}
    more = special if form == "PreTrainedTokenizerFast" else {}
    small.make("roberta", True, file=None if form == "own-files" else False, **more)
    encoder = small.load(True)
    config = json.loads(json.dumps(save_encoder(encoder, tmp_path / "saved")))
    for one in (encoder, rebuild_encoder(config, tmp_path / "saved")):
        pieces = one.tokenizer.convert_ids_to_tokens(one.word_pieces(["the"])[0])
        assert "".join(pieces) == "\u0120the", pieces


def test_files_of_two_releases_are_refused(small):
    folder = small.make("bert", True, says=False)
    pieces = pieces_of("bert", True)
    tokenizer_file("bert", pieces[:6] + pieces[:5:-1], True, False).save(str(folder / "tokenizer.json"))
    assert re.search(r"small/vocab.txt: piece '\S+' is number \d+, by the tokenizer's other files", small.refusal(True))


def test_settings_of_two_releases_are_refused(small):
    small.make("bert", True, says=False, file=False, strip_accents=True)
    assert "tokenizer.json and tokenizer_config.json treat accents differently" in small.refusal(True)


def test_a_special_token_beyond_the_vocabulary_is_refused(small):
    folder = small.make("bert", True)
    vocabulary = (folder / "vocab.txt").read_text(encoding="utf-8")
    (folder / "vocab.txt").write_text(vocabulary.replace("[CLS]\n", ""), encoding="utf-8")
    assert "its vocabulary has no cls_token ([CLS]); the encoder needs one" in small.refusal(True)


def test_the_beginning_and_end_of_a_text_stand_for_cls_and_sep(small, tmp_path):
    """As in EuroBERT's files, which name no other tokens."""
    special = {f"{role}_token": token for role, token in SPECIAL["bert"].items()}
    special |= {"bos_token": special.pop("cls_token"), "eos_token": special.pop("sep_token")}
    small.make("bert", True, file=False, tokenizer_class="PreTrainedTokenizerFast", **special)
    encoder = small.load(True)
    config = json.loads(json.dumps(save_encoder(encoder, tmp_path / "saved")))
    for one in (encoder, rebuild_encoder(config, tmp_path / "saved")):
        ids = one.collate([Sentence("a", ("the",))]).input_ids[0]
        assert one.tokenizer.convert_ids_to_tokens(ids) == ["[CLS]", "the", "[SEP]"]


@pytest.mark.parametrize("kind", ["fnet", "convbert", "yoso"])
def test_an_architecture_that_mixes_padding_in_is_refused(kind, small):
    special = {f"{role}_token": token for role, token in SPECIAL["bert"].items()}
    folder = small.make("bert", True, file=False, tokenizer_class="PreTrainedTokenizerFast", **special)
    sizes = SIZES | {"vocab_size": ROWS, "max_position_embeddings": 40, "embedding_size": 8, "pad_token_id": 0}
    AutoModel.from_config(AutoConfig.for_model(kind, **sizes)).save_pretrained(folder)
    refusal = small.refusal(True)
    assert "small: its states depend on the padding behind a sentence; take an encoder such as BERT" in refusal


def test_a_tokenizer_without_a_special_token_is_refused(small):
    special = {f"{role}_token": token for role, token in SPECIAL["bert"].items() if role != "sep"}
    small.make("bert", True, file=False, tokenizer_class="PreTrainedTokenizerFast", **special)
    assert "its vocabulary has no sep_token (None)" in small.refusal(True)


def test_pieces_without_a_row_are_refused(small):
    folder = small.make("bert", True)
    more = "".join(f"\nword{i}" for i in range(ROWS))
    with (folder / "vocab.txt").open("a", encoding="utf-8") as vocabulary:
        vocabulary.write(more)
    assert f"pieces, the embedding {ROWS} rows (vocab_size)" in small.refusal(True)


@pytest.mark.parametrize(("kind", "most"), [("bert", 40), ("mpnet", 38)])
def test_a_limit_below_the_positions_is_told(kind, most, small, caplog):
    small.make(kind, True, model_max_length=most - 1)
    assert max_pieces(small.load(True).model) == most
    assert caplog.messages[0].endswith(
        f"model_max_length is {most - 1}; {most} word pieces are read, as many as it has positions"
    )
    caplog.clear()
    said = small.mirror / "encoders" / "small" / "tokenizer_config.json"
    said.write_text(json.dumps({"model_max_length": most}))
    small.load(True)
    assert not caplog.messages


def test_another_padding_is_told(small, caplog):
    folder = small.make("bert", True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": 3}))
    small.load(True)
    (told,) = caplog.records
    assert told.levelno == logging.WARNING and "pad_token_id is 3 in the configuration, 0 in" in told.getMessage()


# -- nobody's code -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("kind", ["bert", "unheard-of"])
def test_code_of_a_folder_is_refused_and_never_asked_about(name, kind, small, monkeypatch, tmp_path):
    def asked(*_: object) -> str:
        raise AssertionError("asked whether to run code")

    monkeypatch.setattr("builtins.input", asked)
    folder = small.make("bert", True, says=False)
    code = {"AutoConfig": "code.C", "AutoModel": "code.M", "AutoTokenizer": ["code.T", None]}
    said = json.loads((folder / name).read_text()) | {"auto_map": code}
    (folder / name).write_text(json.dumps(said | ({"model_type": kind} if name == "config.json" else {})))
    declared = encoder_spec({"name": "small", "hub": "nobody/small", "revision": "0" * 40, "cased": True})
    with pytest.raises(UserError, match=rf"^\S*{name}: auto_map names code to run, which is never done.*it$"):
        load_encoder(declared, locate_encoder(declared, [str(small.mirror)]))


def test_a_run_with_code_in_its_configuration_is_rebuilt_without_it(small, tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked whether to run code"))
    small.make("bert", True)
    config = save_encoder(small.load(True), tmp_path / "saved") | {"auto_map": {"AutoModel": "code.M"}}
    assert rebuild_encoder(config, tmp_path / "saved").hidden_size == 8


LOADERS = {"from_pretrained", "from_config", "pipeline", "SentenceTransformer", "snapshot_download"}
LOADING = {"sinet/encoders/located.py": 1, "sinet/encoders/pretrained.py": 5}
"""How often a source calls one; a hub's client in the first runs nothing."""


def loader_calls(path: Path) -> list[ast.Call]:
    """Calls in a file that read or build what transformers or a hub has."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    return [c for c in calls if (getattr(c.func, "attr", None) or getattr(c.func, "id", None)) in LOADERS]


def test_one_module_calls_the_loaders_and_never_runs_code():
    sources = [path for folder in ("sinet", "baselines", "workflow") for path in (ROOT / folder).rglob("*.py")]
    calling = {path.relative_to(ROOT).as_posix(): calls for path in sources if (calls := loader_calls(path))}
    assert {name: len(calls) for name, calls in calling.items()} == LOADING
    for call in calling["sinet/encoders/pretrained.py"]:
        given = {k.arg: k.value for k in call.keywords}.get("trust_remote_code")
        assert isinstance(given, ast.Constant) and given.value is False, f"line {call.lineno}"
