"""A training that is killed again and again, at random points, ends with the same bits."""

import json
import multiprocessing
import random
import time

import pytest

from sinet.model.sinet import System
from sinet.provenance import file_sha256
from tests.conftest import spec, tiny_run

KILLS = 24


def train(run: dict, data: str, out: str, state: str, mirror: str) -> None:
    """A training that saves after every step, so that many a kill falls into a save."""
    from pathlib import Path

    from sinet.train import steps as training
    from sinet.train import trainer as train

    training.SAVE_SECONDS = 0.0
    train.train_run(spec(run), Path(data), Path(out), Path(state), [mirror])


@pytest.fixture
def arguments(tiny_mirror, prepared, tmp_path):
    run = tiny_run(dict(System.test_settings), 1, epochs=20, batch_size=2, weight_decay=0.01, selection="dev_rel_plus")
    return lambda name: (
        run,
        str(prepared),
        str(tmp_path / name),
        str(tmp_path / f"state-{name}"),
        tiny_mirror,
    )


def test_killed_at_random_points_the_run_ends_with_the_same_bits(arguments, tmp_path):
    # a server that has imported everything starts each training in a moment; forked from a process without threads
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sinet.train.trainer", "sinet.model.sinet", "transformers", "tests.conftest"])

    def start(name: str) -> multiprocessing.Process:
        process = context.Process(target=train, args=arguments(name))
        process.start()
        return process

    def steps_saved() -> tuple[int, int]:
        """Epochs and steps of the newest state of the killed run."""
        found = sorted((tmp_path / "state-killed").glob("*/state-*.pt"))
        return tuple(int(part) for part in found[-1].stem.split("-")[1:]) if found else (0, 0)

    whole = start("whole")
    whole.join()
    assert whole.exitcode == 0

    # Killed after so many new saves, not after so many seconds: a slow or busy machine gets as many kills. The moment
    # after the last of them is random, so that kills fall between saves and into them.
    generator, kills, saved, into_saves = random.Random(0), 0, set(), 0
    while kills < KILLS:
        process, seen = start("killed"), {steps_saved()}
        new_saves, moment = generator.randint(1, 4), generator.uniform(0.0, 0.02)
        while process.is_alive() and len(seen) < new_saves:
            seen.add(steps_saved())
            time.sleep(0.001)
        time.sleep(moment)
        alive = process.is_alive()
        process.kill()
        process.join()
        if not alive:
            break
        kills += 1
        saved |= seen
        into_saves += any((tmp_path / "state-killed").glob("*/.*.part"))
    last = start("killed")
    last.join()
    assert last.exitcode == 0
    weights = [file_sha256(tmp_path / name / "model.safetensors") for name in ("whole", "killed")]
    assert weights[0] == weights[1]
    measured = [json.loads((tmp_path / name / "training.json").read_text()) for name in ("whole", "killed")]
    assert measured[0]["dev"] == measured[1]["dev"]
    print(f"{kills} kills, {into_saves} of them during a save, states seen: {len(saved)}")
    assert kills >= 20, f"only {kills} kills before the run had ended; it is too short for them"
    assert len(saved) > 10
