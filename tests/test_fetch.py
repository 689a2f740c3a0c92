"""Encoders of a hub are fetched once; then no network is needed."""

import json
import shutil

import pytest

from sinet.encoders.fetch import fetch_encoder
from sinet.encoders.located import COMMIT as COMMIT_FILE
from sinet.encoders.located import changed_files, locate_encoder
from sinet.encoders.pretrained import load_encoder
from sinet.errors import UserError
from tests.conftest import encoder_spec

COMMIT = "c0ffee" + "0" * 34


@pytest.fixture
def hub(encoder_folder, tmp_path, monkeypatch):
    """A hub's client that knows one encoder, and how often it was asked; the working folder is a checkout's."""
    snapshot = tmp_path / "cache" / "snapshots" / COMMIT
    shutil.copytree(encoder_folder("bert"), snapshot)
    asked = []

    def snapshot_download(repository: str, revision: str, **_: object) -> str:
        asked.append((repository, revision))
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    return asked


def test_what_was_fetched_is_found_without_the_hub_and_says_which_commit_it_is(hub, tmp_path):
    declared = encoder_spec({"name": "small", "hub": "somebody/small", "revision": "main", "cased": False})
    fetch_encoder(declared, [], tmp_path / "small.json")
    fetched = json.loads((tmp_path / "small.json").read_text())
    assert (fetched["source"], fetched["revision"]) == ("hub somebody/small", COMMIT)
    assert hub == [("somebody/small", "main")]

    shutil.rmtree(tmp_path / "cache")
    located = locate_encoder(declared)
    assert hub == [("somebody/small", "main")], "not asked again"
    assert located.record() == {k: v for k, v in fetched.items() if k != "encoder"}
    assert load_encoder(declared, located).piece_counts([]) == []
    fetch_encoder(declared, [], tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == fetched


def test_another_declared_revision_is_fetched_anew(hub, tmp_path):
    declared = encoder_spec({"name": "small", "hub": "somebody/small", "revision": "main", "cased": False})
    fetch_encoder(declared, [], tmp_path / "small.json")
    fetch_encoder(declared.model_copy(update={"revision": COMMIT}), [], tmp_path / "small.json")
    assert hub == [("somebody/small", "main"), ("somebody/small", COMMIT)]
    kept = json.loads((tmp_path / "data/mirror/encoders/small" / COMMIT_FILE).read_text())
    assert kept.pop("sha256").keys() >= {"config.json", "model.safetensors", "vocab.txt"}
    assert kept == {"hub": "somebody/small", "revision": COMMIT, "commit": COMMIT}


@pytest.mark.parametrize(
    "change, told",
    [
        ({"commit": "abc"}, "commit is 'abc', not what was written there; fetch again"),
        ({"commit": 10**30}, "commit is 1000000000000000000000000000000, not what"),
        ({"revision": ["main"]}, r"revision is \['main'\], not what"),
        ({"sha256": ["x"]}, r"sha256 is \['x'\], not what"),
        ({"sha256": {"config.json": "abc"}}, "sha256 is {'config.json': 'abc'}, not what"),
        ({"hub": None}, "hub is None, not what"),
    ],
    ids=str,
)
def test_a_note_of_a_fetch_that_is_not_of_its_form_is_refused(change, told, hub, tmp_path):
    declared = encoder_spec({"name": "small", "hub": "somebody/small", "revision": "main", "cased": False})
    fetch_encoder(declared, [], tmp_path / "small.json")
    note = tmp_path / "data/mirror/encoders/small" / COMMIT_FILE
    whole = json.loads(note.read_text())
    note.write_text(json.dumps(whole | change))
    with pytest.raises(UserError, match=rf"^\S*{COMMIT_FILE}: {told}"):
        locate_encoder(declared)
    assert changed_files(declared) == {}, "said by the step that reads it"
    note.write_text("[" * 100_000)
    with pytest.raises(UserError, match=rf"^\S*{COMMIT_FILE}: broken JSON .nested too deeply"):
        locate_encoder(declared)


def test_offline_and_never_fetched_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    declared = encoder_spec({"name": "small", "hub": "somebody/small", "revision": COMMIT, "cased": False})
    with pytest.raises(UserError, match=r"not in a mirror .* Go online once, or put its files into data/mirror"):
        fetch_encoder(declared, [], tmp_path / "small.json")
    assert not (tmp_path / "small.json").exists()
