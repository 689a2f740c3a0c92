"""A training that is killed again and again, at random points, ends with the same bits."""

import json
import multiprocessing
import random
import time

import pytest

from sinet.model.sinet import System
from sinet.provenance import file_sha256

KILLS = 24


def train(run: dict, data: str, out: str, state: str, mirror: str) -> None:
    """A training that saves after every step, so that many a kill falls into a save."""
    from pathlib import Path

    from sinet.run import train as trainer

    trainer.SAVE_SECONDS = 0.0
    trainer.train_run(run, Path(data), Path(out), Path(state), [mirror])


@pytest.fixture
def arguments(encoder_folder, prepared, tmp_path):
    (tmp_path / "mirror" / "encoders").mkdir(parents=True)
    (tmp_path / "mirror" / "encoders" / "tiny").symlink_to(encoder_folder("bert"))
    recipe = {"name": "tiny", "epochs": 12, "batch_size": 2, "encoder_lr": 3e-3, "head_lr": 3e-3, "weight_decay": 0.01}
    recipe |= {"warmup": 0.1, "clip": 1.0, "selection": "best_dev", "precision": "float32"}
    run = {
        "dataset": "ten",
        "encoder": {"name": "tiny", "title": "tiny", "hub": "nobody/tiny", "revision": "0" * 40},
        "model": "sinet",
        "system": "sinet",
        "settings": dict(System.tiny),
        "recipe": recipe,
        "seed": 1,
    }
    return lambda name: (
        run,
        str(prepared),
        str(tmp_path / name),
        str(tmp_path / f"state-{name}"),
        str(tmp_path / "mirror"),
    )


def test_killed_at_random_points_the_run_ends_with_the_same_bits(arguments, tmp_path):
    # a server that has imported everything starts each training in a moment; forked from a process without threads
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sinet.run.train", "sinet.model.sinet", "transformers"])

    def start(name: str) -> multiprocessing.Process:
        process = context.Process(target=train, args=arguments(name))
        process.start()
        return process

    ready = context.Process(target=bool)  # the server imports everything once, before anything is timed
    ready.start()
    ready.join()
    began, first_save = time.monotonic(), None
    whole = start("whole")
    while whole.is_alive():
        if first_save is None and any((tmp_path / "state-whole").glob("*/state-*.pt")):
            first_save = time.monotonic() - began
        time.sleep(0.002)
    took = time.monotonic() - began
    assert whole.exitcode == 0 and first_save is not None

    generator, kills, saved = random.Random(0), 0, set()
    while kills < KILLS:
        process = start("killed")
        # from before the first save on, and so soon after it that the kills spread over the whole run
        time.sleep(generator.uniform(0.5 * first_save, first_save + 1.5 * (took - first_save) / KILLS))
        alive = process.is_alive()
        process.kill()
        process.join()
        kills += alive
        saved |= {path.name for path in (tmp_path / "state-killed").glob("*/state-*.pt")}
        if not alive:
            break
    last = start("killed")
    last.join()
    assert last.exitcode == 0
    weights = [file_sha256(tmp_path / name / "model.safetensors") for name in ("whole", "killed")]
    assert weights[0] == weights[1]
    measured = [json.loads((tmp_path / name / "training.json").read_text()) for name in ("whole", "killed")]
    assert measured[0]["dev"] == measured[1]["dev"]
    print(f"{kills} kills, states seen: {len(saved)}")
    assert kills >= 20, f"only {kills} kills before the run had ended; it is too short for them"
