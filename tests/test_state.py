"""The state folder and results where the disk is full or cannot be written, and after a process that was killed."""

import os
import subprocess

import pytest
import torch

from sinet.errors import Diverged, UserError
from sinet.files import read_sealed, write_atomically, write_json
from sinet.model.sinet import System
from sinet.model.weights import write_weights
from sinet.provenance import file_sha256
from sinet.train import trainer as train
from sinet.train.checkpoints import StateFolder
from tests.conftest import spec, tiny_run

LARGE = torch.zeros(4 << 20)
"""16 MiB: more than the file system of `small` has room for."""


@pytest.fixture
def small(tmp_path):
    """A folder on a file system of its own, of 4 MiB; yields how to change how it is mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_gives_one_line_and_leaves_the_last_state_whole(small):
    state = StateFolder(small)
    state.save(1, 0, {"epoch": 1})
    with pytest.raises(UserError, match=r"state-0002-0000000.pt cannot be written: no space left .* make room"):
        state.save(2, 0, {"epoch": 2, "weights": LARGE})
    assert state.load()["epoch"] == 1
    assert [p.name for p in small.iterdir()] == ["state-0001-0000000.pt"], "no half-written file takes up the room"


def test_weights_and_records_on_a_full_disk_too(small):
    model = torch.nn.Linear(1024, 4096)
    (small / "model.safetensors").write_bytes(b"the last good one")
    with pytest.raises(UserError, match=r"model.safetensors cannot be written: no space left"):
        write_weights(small / "model.safetensors", model)
    with pytest.raises(UserError, match=r"record.json cannot be written: No space left on device"):
        write_json(small / "record.json", {"text": "x" * (8 << 20)})
    assert [p.read_bytes() for p in small.iterdir()] == [b"the last good one"]


def test_a_folder_that_cannot_be_written_gives_one_line(small):
    StateFolder(small).save(1, 0, {"epoch": 1})
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    with pytest.raises(UserError, match=r"Read-only file system .* make .* the folder writable"):
        StateFolder(small).save(2, 0, {"epoch": 2})
    assert StateFolder(small).load()["epoch"] == 1


def test_another_fault_while_writing_is_no_full_disk(tmp_path):
    def write(partial) -> None:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        write_atomically(tmp_path / "file", write)


def test_what_a_killed_process_was_writing_is_removed(tmp_path):
    state = StateFolder(tmp_path)
    for name in (f".state-0002-0000000.pt.{os.getpid()}.part", ".best.safetensors.1.part"):
        (tmp_path / name).write_bytes(b"half")
    with state.locked():
        assert [p.name for p in tmp_path.iterdir()] == ["lock"]


def test_a_full_disk_ends_a_training_that_then_goes_on_to_the_same_weights(tiny_mirror, prepared, small, tmp_path):
    run = tiny_run(dict(System.test_settings), 1, epochs=3, batch_size=4, weight_decay=0.01, selection="last")
    train.train_run(spec(run), prepared, tmp_path / "whole", tmp_path / "state", [tiny_mirror])
    (small / "filler").write_bytes(b"x" * (int(3.2 * 2**20)))  # room for the first saves of half a megabyte, no more
    with pytest.raises(UserError, match=r"cannot be written: no space left"):
        train.train_run(spec(run), prepared, tmp_path / "out", small, [tiny_mirror])
    assert len(list(small.glob("*/state-*"))) >= 1
    (small / "filler").unlink()
    train.train_run(spec(run), prepared, tmp_path / "out", small, [tiny_mirror])
    assert len({file_sha256(tmp_path / name / "model.safetensors") for name in ("whole", "out")}) == 1


def test_others_may_read_weights_as_they_may_any_file(tmp_path):
    write_weights(tmp_path / "model.safetensors", torch.nn.Linear(2, 2))
    write_json(tmp_path / "model.json", {})
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_a_training_that_diverges_leaves_word_of_it_and_nothing_else(prepared, tiny_mirror, tmp_path):
    rates = {"encoder_lr": 1e30, "head_lr": 1e30, "warmup": 0.0, "batch_size": 4}
    run = spec(tiny_run(dict(System.test_settings), 1, epochs=3, weight_decay=0.0, selection="last", **rates))
    with pytest.raises(Diverged, match=r"epoch \d+, step \d+ .* it diverged; lower encoder_lr or head_lr .* no state"):
        train.train_run(run, prepared, tmp_path / "new" / "out", tmp_path / "state", [tiny_mirror])
    (left,) = (tmp_path / "new" / "out").iterdir()
    told = read_sealed(left)
    assert left.name == "diverged.json" and told["run"] == run.model_dump()
    assert told["precision"] == "float32" and told["device_name"] and "dev" not in told
