"""Training, its state, prediction, counting and the clock."""

import copy
import csv
import functools
import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError

from sinet import machine, provenance, systems
from sinet.contract import Batch, Extractor, Prediction, Sentence
from sinet.data.sentence import read_sentences, write_sentences
from sinet.efficiency import flops, timing
from sinet.encoders.encoder import Encoder
from sinet.errors import Interrupted, UserError
from sinet.evaluate.metrics import score
from sinet.evaluate.record import between_gold, evaluate
from sinet.files import SEAL, read_sealed
from sinet.grid.config import load_config
from sinet.infer.predict import load_run, predict_file
from sinet.model import batches
from sinet.model.sinet import System
from sinet.provenance import file_sha256
from sinet.schema import Record
from sinet.train import checkpoints as state
from sinet.train import steps as training
from sinet.train import trainer as train
from tests.conftest import CORPUS, LABELS, SMALL, encoder_spec, recipe_of, spec, tiny_run

CPU = torch.device("cpu")
RECIPE = load_config()["recipe_defaults"] | {
    "name": "tiny",
    "stages": {},
    "epochs": 3,
    "batch_size": 4,
    "encoder_lr": 3e-3,
    "head_lr": 3e-3,
    "weight_decay": 0.01,
    "warmup": 0.1,
    "clip": 1.0,
    "selection": "dev_rel_plus",
    "precision": "float32",
}


@pytest.fixture
def run(encoder_folder, tmp_path, monkeypatch):
    """A run on the hand-made corpus with a tiny encoder from a mirror."""
    folder = encoder_folder("bert")
    (tmp_path / "encoders").mkdir()
    (tmp_path / "encoders" / "tiny").symlink_to(folder)
    monkeypatch.setenv("SINET_MIRRORS", str(tmp_path))
    return tiny_run(dict(System.test_settings), 3, **RECIPE)


def weights(folder) -> str:
    return file_sha256(folder / "model.safetensors")


def test_same_seed_same_bits_and_another_seed_others(run, prepared, tmp_path):
    for name in ("a", "b"):
        train.train_run(spec(run), prepared, tmp_path / name, tmp_path / f"state-{name}")
        predict_file(tmp_path / name, prepared / "test.jsonl", tmp_path / name / "predictions.jsonl")
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert (tmp_path / "a" / "predictions.jsonl").read_bytes() == (tmp_path / "b" / "predictions.jsonl").read_bytes()
    train.train_run(spec(run | {"seed": 4}), prepared, tmp_path / "c", tmp_path / "state-c")
    assert weights(tmp_path / "c") != weights(tmp_path / "a")


@pytest.mark.parametrize("system", sorted(systems.sources()))
def test_a_killed_run_ends_as_if_it_had_not_been_killed(system, run, prepared_for, tmp_path, monkeypatch):
    prepared = prepared_for(system)
    run |= {"model": system, "system": system, "settings": dict(systems.load(system).test_settings)}
    train.train_run(spec(run), prepared, tmp_path / "whole", tmp_path / "state-whole")

    save = state.StateFolder.save

    def save_and_die(self, stage, step, saved):
        save(self, stage, step, saved)
        if (stage, step) == (0, 5):
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(state.StateFolder, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        train.train_run(spec(run), prepared, tmp_path / "resumed", tmp_path / "state")
    monkeypatch.setattr(state.StateFolder, "save", save)
    steps = []
    monkeypatch.setattr(
        training, "train_step", lambda *a, original=training.train_step: steps.append(1) or original(*a)
    )
    train.train_run(spec(run), prepared, tmp_path / "resumed", tmp_path / "state")
    assert len(steps) == 1 + 3, "the step that was missing of the second epoch, and the third"
    assert weights(tmp_path / "resumed") == weights(tmp_path / "whole")
    logs = [(tmp_path / name / "log.csv").read_text().splitlines() for name in ("whole", "resumed")]
    assert [row.split(",")[:2] for row in logs[0]] == [row.split(",")[:2] for row in logs[1]], "the same losses"


def test_what_is_weighed_by_earlier_epochs_goes_on_after_a_kill(run, prepared, tmp_path, monkeypatch):
    """TCRE's losses by their means over the batches of whole epochs, three steps each, at rates that fall meanwhile."""
    settings = systems.load("tcre").test_settings | {"dynamic_weights": True}
    falling = {"epochs": 5, "schedule": "exponential", "decay_rate": 0.5, "decay_steps": 2}
    run |= {"model": "tcre", "system": "tcre", "settings": settings, "recipe": run["recipe"] | falling}
    steps = []

    def step(model, parts, optimizer, *rest, original=training.train_step):
        known, weighed = copy.deepcopy(model.epoch_losses), model.term_weights()
        rates = [group["lr"] for group in optimizer.param_groups]
        terms = original(model, parts, optimizer, *rest)
        steps.append((known, weighed, rates, {task: float(term) for task, term in terms.items()}))
        return terms

    monkeypatch.setattr(training, "train_step", step)
    train.train_run(spec(run), prepared, tmp_path / "whole", tmp_path / "state-whole")
    whole, means = steps.copy(), []
    for number, (known, weighed, rates, _) in enumerate(whole):
        assert rates == [3e-3 * 0.5 ** (number // 2)] * len(rates)
        if number and number % 3 == 0:
            epoch = [terms for *_, terms in whole[number - 3 : number]]
            means.append({task: sum(terms[task] for terms in epoch) / 3 for task in ("entity", "relation")})
        assert known == [pytest.approx(mean, rel=1e-9) for mean in means]
        if len(means) < 3:
            assert weighed == {}
        else:
            fell = {task: means[-2][task] / means[-3][task] for task in means[-1]}
            both = sum(math.exp(t) for t in fell.values())
            assert weighed == pytest.approx({task: 2 * math.exp(t) / both for task, t in fell.items()}, rel=1e-9)
            assert abs(weighed["entity"] - 1) > 1e-3
    assert len(whole) == 15 and len(means) == 4

    save = state.StateFolder.save
    for last in (9, 10, 14):  # at the end of an epoch, and within

        def save_and_die(self, stage, step, saved, last=last):
            save(self, stage, step, saved)
            if step == last:
                raise KeyboardInterrupt

        steps.clear()
        with monkeypatch.context() as patched:
            patched.setattr(training, "SAVE_SECONDS", 0.0)
            patched.setattr(state.StateFolder, "save", save_and_die)
            with pytest.raises(KeyboardInterrupt):
                train.train_run(spec(run), prepared, tmp_path / "resumed", tmp_path / f"state-{last}")
        train.train_run(spec(run), prepared, tmp_path / "resumed", tmp_path / f"state-{last}")
        assert steps == whole
        assert weights(tmp_path / "resumed") == weights(tmp_path / "whole")


def test_a_system_of_two_roles_refuses_other_data_before_it_trains(run, prepared, tmp_path):
    run |= {"model": "scinet", "system": "scinet", "settings": {}}
    with pytest.raises(UserError, match=r"scinet cannot read ten: .* here are the entity types Method, Task, Material"):
        train.train_run(spec(run), prepared, tmp_path / "out", tmp_path / "state")


STAGES = {
    "entity": {"epochs": 3, "evaluate_every": 1, "order": "data", "selection": "dev_ent"},
    "relation": {"steps": 7, "evaluate_every": 3, "order": "sorted", "batch_size": 5, "selection": "dev_rel"},
}


def staged(run: dict) -> dict:
    """PURE, its two models one after another, by steps and by epochs."""
    recipe = RECIPE | {"epochs": None, "steps": None}
    of_part = {key: value for key, value in recipe.items() if key not in ("name", "stages")}
    recipe |= {"stages": {name: of_part | stage for name, stage in STAGES.items()}}
    return run | {
        "model": "pure",
        "system": "pure",
        "settings": dict(systems.load("pure").test_settings),
        "recipe": recipe,
    }


def test_parts_are_trained_one_after_another_and_resumed_in_either(run, prepared, tmp_path, monkeypatch):
    run = staged(run)
    train.train_run(spec(run), prepared, tmp_path / "whole", tmp_path / "state-whole")
    rows = list(csv.DictReader((tmp_path / "whole" / "log.csv").read_text().splitlines()))
    assert [row["stage"] for row in rows] == ["entity"] * 3 + ["relation"] * 3
    entity, relation = rows[:3], rows[3:]
    assert all(float(row["dev_rel"]) == 0 for row in entity), "while entities are learned no relation is predicted"
    # looked at after steps 3 and 6; after the last, 7, for the log alone
    assert len(relation) == 3 and all(row["dev_rel"] for row in relation)
    measured = json.loads((tmp_path / "whole" / "training.json").read_text())
    best = max(relation[:2], key=lambda row: (float(row["dev_rel"]), float(row["dev_ent"])))
    assert measured["selected_epoch"] == pytest.approx(float(best["epoch"]), rel=1e-4)
    # the relation model is trained upon the selected entity model, which it leaves alone
    assert {row["dev_ent"] for row in relation} == {max((row["dev_ent"] for row in entity), key=float)}

    save = state.StateFolder.save
    # the last dies at the relation model's first look at dev, its best weights written and no state of it saved
    for place, seconds in (((0, 4), 0.0), ((1, 2), 0.0), ((1, 3), 300.0)):

        def save_and_die(self, stage, step, saved, place=place, seconds=seconds):
            if (stage, step) == place and seconds:
                raise KeyboardInterrupt
            save(self, stage, step, saved)
            if (stage, step) == place:
                raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(training, "SAVE_SECONDS", seconds)
            patched.setattr(state.StateFolder, "save", save_and_die)
            with pytest.raises(KeyboardInterrupt):
                train.train_run(spec(run), prepared, tmp_path / "resumed", tmp_path / f"state-{place}")
        train.train_run(spec(run), prepared, tmp_path / "resumed", tmp_path / f"state-{place}")
        assert weights(tmp_path / "resumed") == weights(tmp_path / "whole")


def test_a_training_without_items_or_batches_is_refused(run, prepared, tmp_path):
    recipe = RECIPE | {"drop_last": True, "order": "shuffled", "batch_size": 100}
    with pytest.raises(UserError, match="batch_size: 100 is more than the 10 items, and drop_last is on"):
        train.train_run(spec(run | {"recipe": recipe}), prepared, tmp_path / "out", tmp_path / "state")
    bare = shutil.copytree(prepared, tmp_path / "bare")
    write_sentences(bare / "train.jsonl", [Sentence("a", ("parsers",))])
    with pytest.raises(UserError, match="the training split holds no item for the relation model"):
        train.train_run(spec(staged(run)), bare, tmp_path / "out", tmp_path / "state")


def test_a_rate_of_no_parameter_is_refused(run, prepared, tmp_path):
    recipe = RECIPE | {"lr_of": {"entity_clasifier.": 1e-3}}
    with pytest.raises(UserError, match=r"lr_of: no parameter begins with 'entity_clasifier\.'; they begin"):
        train.train_run(spec(run | {"recipe": recipe}), prepared, tmp_path / "out", tmp_path / "state")


def test_dev_can_be_trained_on_and_then_selects_nothing(run, prepared, tmp_path):
    recipe = RECIPE | {
        "train_on": "train+dev",
        "selection": "last",
        "epochs": 1,
        "drop_last": True,
        "order": "shuffled",
    }
    train.train_run(spec(run | {"recipe": recipe}), prepared, tmp_path / "out", tmp_path / "state")
    measured = json.loads((tmp_path / "out" / "training.json").read_text())
    assert (measured["trained_on"], measured["train_sentences"], measured["dev_sentences"]) == ("train+dev", 20, 0)
    assert measured["dev"] == {}


def test_documents_are_refused_where_there_are_none(run, prepared, tmp_path):
    rest = r".*\), and ten does not say which sentences are of one; change that to a number of .*, or a window of 0"
    window = {"system": "plmarker", "settings": {"relation_window": 128}}
    for asked, what in (
        ({"recipe": RECIPE | {"batch_size": "document"}}, "batch_size: do"),
        (window, "relation_window: 1"),
    ):
        with pytest.raises(UserError, match=rf"needs documents \({what}{rest}"):
            train.train_run(spec(run | asked), prepared, tmp_path / "out", tmp_path / "state")


@pytest.mark.parametrize("every, looks", [(0.1, [10, 20, 30]), (1, [105, 210]), (2, [210, 420]), (0.5, [52, 104, 157])])
def test_dev_is_looked_at_as_often_as_the_recipe_says(every, looks):
    """A share of an epoch is counted in whole steps within each epoch, as PURE does."""
    self = SimpleNamespace(recipe=recipe_of(evaluate_every=every), steps_per_epoch=105)
    found = [step for step in range(1, 421) if training.Training.ends_round(self, step)]
    assert found[: len(looks)] == looks
    if every == 0.1:
        assert found[9:12] == [100, 115, 125]


@pytest.mark.parametrize(
    "length", [{"epochs": 8, "select_after": 2, "patience": 2}, {"steps": 24, "evaluate_every": 3}]
)
def test_selection_begins_late_and_training_ends_where_nothing_better_comes(
    length, run, prepared, tmp_path, monkeypatch
):
    """Dev F1 is given here; epochs have three steps."""
    length = {"epochs": None, "select_after": 6, "patience": 6} | length if "steps" in length else length
    run |= {"recipe": RECIPE | {"selection": "dev_ent"} | length}
    f1 = iter((10.0, 20.0, 15.0, 15.0, 99.0, 99.0))
    original = train.score

    def scored(*arguments):
        figures = original(*arguments)
        figures["symmetric"]["ent"]["f1"] = next(f1)
        return figures

    monkeypatch.setattr(train, "score", scored)
    train.train_run(spec(run), prepared, tmp_path / "whole", tmp_path / "state-whole")
    rows = list(csv.DictReader((tmp_path / "whole" / "log.csv").read_text().splitlines()))
    assert [row["dev_ent"] for row in rows] == ["", "", "10", "20", "15", "15"], "the first 2 epochs, the last 2"
    measured = json.loads((tmp_path / "whole" / "training.json").read_text())
    assert measured["selected_epoch"] == 4 and measured["dev"]["ent"] == 20

    f1 = iter((10.0, 20.0, 15.0, 15.0, 99.0, 99.0))
    save = state.StateFolder.save

    def save_and_die(self, stage, step, saved):
        save(self, stage, step, saved)
        if step in (6, 18):
            raise KeyboardInterrupt

    monkeypatch.setattr(state.StateFolder, "save", save_and_die)
    for _ in range(2):  # before dev is evaluated, and at the end, which a later process sees for itself
        with pytest.raises(KeyboardInterrupt):
            train.train_run(spec(run), prepared, tmp_path / "resumed", tmp_path / "state")
    train.train_run(spec(run), prepared, tmp_path / "resumed", tmp_path / "state")
    assert weights(tmp_path / "resumed") == weights(tmp_path / "whole")
    assert next(f1) == 99.0


def test_running_out_of_memory_names_the_micro_batch(run, prepared, tmp_path, monkeypatch):
    def step(*arguments):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(training, "train_step", step)
    with pytest.raises(UserError, match=r"out of GPU memory at 4 of a batch of 4 .* lower micro_batch_size"):
        train.train_run(spec(run), prepared, tmp_path / "out", tmp_path / "state")


def test_a_request_to_end_saves_at_once_and_says_so(run, prepared, tmp_path, monkeypatch):
    train.train_run(spec(run), prepared, tmp_path / "whole", tmp_path / "state-whole")
    counted = []

    def step(*arguments, original=training.train_step):
        counted.append(1)
        if len(counted) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments)

    monkeypatch.setattr(training, "train_step", step)
    with pytest.raises(Interrupted, match="stopped by SIGTERM; the state is saved"):
        train.train_run(spec(run), prepared, tmp_path / "resumed", tmp_path / "state")
    assert len(counted) == 2 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    train.train_run(spec(run), prepared, tmp_path / "resumed", tmp_path / "state")
    assert len(counted) == 3 * 3 and weights(tmp_path / "resumed") == weights(tmp_path / "whole")


def test_a_second_process_on_one_run_waits_for_the_first(tmp_path, caplog):
    order, second = [], state.StateFolder(tmp_path)

    def wait() -> None:
        with second.locked():
            order.append("second")

    with state.StateFolder(tmp_path).locked():
        thread = threading.Thread(target=wait)
        thread.start()
        while "another process trains this very run; waiting" not in caplog.text:
            time.sleep(0.01)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_its_state(run, prepared, tmp_path, monkeypatch):
    counted = []

    def step(*arguments, original=training.train_step):
        counted.append(1)
        factor = float("nan") if len(counted) == 5 else 1
        return {name: factor * term for name, term in original(*arguments).items()}

    monkeypatch.setattr(training, "train_step", step)
    message = r"epoch 2, step 5 of 9: the loss is nan \(entity nan, relation nan\).*state-0000-0000003.pt"
    with pytest.raises(UserError, match=message):
        train.train_run(spec(run), prepared, tmp_path / "out", tmp_path / "state")
    monkeypatch.undo()
    (folder,) = (tmp_path / "state").iterdir()
    assert [p.name for p in folder.glob("state-*")] == ["state-0000-0000003.pt"]


def test_a_finished_run_is_not_trained_again_but_an_edited_one_is(run, prepared, tmp_path, monkeypatch):
    train.train_run(spec(run), prepared, tmp_path / "out", tmp_path / "state")
    first = weights(tmp_path / "out")
    for name in train.OUTPUTS:
        (tmp_path / "out" / name).unlink()  # as Snakemake does before a job
    monkeypatch.setattr(train, "_train", lambda *a: pytest.fail("trained again"))
    train.train_run(spec(run), prepared, tmp_path / "out", tmp_path / "state")
    assert weights(tmp_path / "out") == first
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        train.train_run(spec(run | {"recipe": RECIPE | {"epochs": 4}}), prepared, tmp_path / "out", tmp_path / "state")


def test_a_state_is_of_its_settings_code_and_data(run, prepared, tmp_path, monkeypatch):
    """What is edited makes another state; nothing is trained here."""
    monkeypatch.setattr(
        train, "_train", lambda *arguments: (_ for _ in ()).throw(Interrupted(arguments[-1].folder.name))
    )
    code = provenance._code
    monkeypatch.setattr(provenance, "digest", provenance.digest.__wrapped__)  # not what was remembered of the sources

    def folder(data=prepared, module: str | None = None, **changes: object) -> str:
        with monkeypatch.context() as patched, pytest.raises(Interrupted) as stopped:
            patched.setattr(provenance, "_code", lambda of, name: code(of, name) + "edited" * (of == module))
            train.train_run(spec(run | changes), data, tmp_path / "out", tmp_path / "state")
        return str(stopped.value)

    first = folder()
    assert folder() == folder(module="baselines.pfn") == folder(model="another name") == first
    others = [folder(module=module) for module in ("sinet.train.trainer", "sinet.model.sinet", "sinet.model.spans")]
    for name in ("train.jsonl", "dev.jsonl", "labels.json"):
        data = shutil.copytree(prepared, tmp_path / name)
        if name == "labels.json":
            (data / name).write_text(json.dumps(LABELS.to_json() | {"symmetric": []}))
        else:
            write_sentences(data / name, read_sentences(data / name)[1:])
        others.append(folder(data))
    others += [
        folder(seed=4),
        folder(settings=run["settings"] | {"width_size": 9}),
        folder(recipe=RECIPE | {"epochs": 4}),
    ]
    assert len({first, *others}) == 1 + len(others)
    test = shutil.copytree(prepared, tmp_path / "test")
    (test / "test.jsonl").unlink()
    assert folder(test) == first, "a training never sees it"


@pytest.mark.parametrize("name", ["model.safetensors", "log.csv", "tokenizer/tokenizer.json"])
def test_a_finished_run_whose_files_were_changed_is_trained_anew(name, run, prepared, tmp_path, caplog, monkeypatch):
    """Results are links to what the state holds: who spoils one spoils the other."""
    train.train_run(spec(run), prepared, tmp_path / "out", tmp_path / "state")
    first, log_csv = weights(tmp_path / "out"), (tmp_path / "out" / "log.csv").read_text()
    with open(tmp_path / "out" / name, "ab") as file:
        file.write(b"9,0,0,99.9\n")
    train.train_run(spec(run), prepared, tmp_path / "again", tmp_path / "state")
    assert f"{name} was changed after the training; ignored" in caplog.text
    assert weights(tmp_path / "again") == first and "9,0,0,99.9" not in (tmp_path / "again" / "log.csv").read_text()
    assert [line.split(",")[0] for line in log_csv.splitlines()] == [
        line.split(",")[0] for line in (tmp_path / "again" / "log.csv").read_text().splitlines()
    ]
    monkeypatch.setattr(train, "_train", lambda *a: pytest.fail("trained again"))
    train.train_run(spec(run), prepared, tmp_path / "third", tmp_path / "state")
    assert weights(tmp_path / "third") == first


def test_damaged_state_is_reported_and_the_one_before_used(tmp_path, caplog):
    folder = state.StateFolder(tmp_path)
    for epoch in (1, 2, 3):
        folder.save(epoch, 7, {"epoch": epoch, "weights": torch.ones(9)})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state-0002-0000007.pt", "state-0003-0000007.pt"]
    newest = tmp_path / "state-0003-0000007.pt"
    newest.write_bytes(newest.read_bytes()[:100])
    assert folder.load()["epoch"] == 2
    assert "state-0003-0000007.pt is damaged" in caplog.text
    torch.save([1], newest)
    assert folder.load()["epoch"] == 2 and "is no training state" in caplog.text
    other = state.StateFolder(tmp_path / "other")
    other.save(3, 7, {"epoch": 3})
    (tmp_path / "other" / newest.name).rename(newest)
    assert folder.load()["epoch"] == 2 and "is of another run" in caplog.text
    folder.save(4, 7, {"epoch": 4})
    whole = sorted(p.name for p in tmp_path.glob("state-*"))
    assert whole == ["state-0002-0000007.pt", "state-0004-0000007.pt"], "what is set aside does not count among the two"


def interrupted(*arguments, original=train.predict):
    """Predicts, and is asked meanwhile to end."""
    os.kill(os.getpid(), signal.SIGTERM)
    return original(*arguments)


def test_a_run_is_continued_on_its_kind_of_machine_and_taken_from_any(run, prepared, tmp_path, monkeypatch, caplog):
    with monkeypatch.context() as patched:
        patched.setattr(train, "predict", interrupted)
        with pytest.raises(Interrupted):
            train.train_run(spec(run), prepared, tmp_path / "here", tmp_path / "state")
    with monkeypatch.context() as patched:
        patched.setattr(train.machine, "device_name", lambda device: "another CPU")
        train.train_run(spec(run), prepared, tmp_path / "there", tmp_path / "state")
    first, second = (tmp_path / "state").iterdir()
    assert first.name.split("-")[0] == second.name.split("-")[0]
    assert "begun on another kind of machine" in caplog.text and "site.yaml: constraint" in caplog.text
    with caplog.at_level("INFO"):
        train.train_run(spec(run), prepared, tmp_path / "here", tmp_path / "state")
    assert "trained before with the same settings, code and data" in caplog.text
    assert json.loads((tmp_path / "here" / "training.json").read_text())["device_name"] == "another CPU"


def test_a_signal_during_evaluation_ends_the_run_with_its_epoch_saved(run, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "predict", interrupted)
    with pytest.raises(Interrupted, match="stopped by SIGTERM; the state is saved"):
        train.train_run(spec(run), prepared, tmp_path / "out", tmp_path / "state")
    assert [p.name for p in (tmp_path / "state").glob("*/state-*")] == ["state-0000-0000003.pt"]


def test_record_holds_what_its_schema_says(run, prepared, tmp_path):
    out = tmp_path / "out"
    train.train_run(spec(run), prepared, out, tmp_path / "state")
    predict_file(out, prepared / "test.jsonl", out / "predictions.jsonl")
    gold, predicted = prepared / "test.jsonl", out / "predictions.jsonl"
    evaluate(out, prepared)
    record, analysis = (json.loads((out / name).read_text()) for name in ("record.json", "analysis.json"))
    assert record["scores"] == score(read_sentences(gold), read_sentences(predicted), LABELS)
    assert analysis["errors"] and analysis["slices"] and analysis["without_seen"]["seen"] == 10
    assert record["split"] == "test" and record["test_sentences"] == 10 and record["seed"] == 3
    assert record["precision"] == "float32" and record["threads"] >= 1
    rows = list(csv.DictReader((out / "log.csv").read_text().splitlines()))
    assert [r["epoch"] for r in rows] == ["1", "2", "3"] and all(float(r["loss"]) > 0 for r in rows)
    best = max(rows, key=lambda r: (float(r["dev_rel_plus"]), float(r["dev_ent"])))
    assert record["dev"]["rel_plus"] == pytest.approx(float(best["dev_rel_plus"]), rel=1e-4)
    said = {key: value for key, value in record.items() if key != SEAL}
    Record.model_validate(said)

    ten = read_sentences(gold)
    predict_file(out, gold, predicted, also_gold_entities=True)
    assert [s.entities for s in between_gold(ten, predicted)] == [s.entities for s in ten]
    evaluate(out, prepared)
    again = Record.model_validate(read_sealed(out / "record.json"))
    decided = score(ten, between_gold(ten, predicted), LABELS)
    for matching in ("symmetric", "directed"):
        assert getattr(again.scores, matching).rel_gold_entities.model_dump() == decided[matching]["rel_plus"]
    first, *others = predicted.read_text().splitlines()
    wrong = json.loads(first) | {"gold_entity_relations": [{"type": "Used-for", "head": 0, "tail": 99}]}
    predicted.write_text("\n".join([json.dumps(wrong), *others]))
    with pytest.raises(UserError, match=r"predictions.jsonl:1: relations\[0\].tail: 99 is not a position"):
        between_gold(ten, predicted)
    with pytest.raises(ValidationError, match="typo"):
        Record.model_validate(said | {"typo": 1})


def test_a_training_that_was_begun_goes_on_in_its_precision(run, prepared, tmp_path, monkeypatch, caplog):
    recipe = RECIPE | {"epochs": 1, "precision": "auto"}
    for number, faster in enumerate((False, True)):
        monkeypatch.setattr(machine, "faster_in_bfloat16", lambda device, faster=faster: faster)
        train.train_run(spec(run | {"recipe": recipe}), prepared, tmp_path / str(number), tmp_path / "state")
    one, other = (json.loads((tmp_path / n / "training.json").read_text())["precision"] for n in "01")
    assert one == other == "float32" and len(list((tmp_path / "state").iterdir())) == 1


@pytest.mark.parametrize(
    ("selection", "looks", "selected"),
    [
        # Ent, Rel, Rel+ on dev after each epoch
        ("dev_rel_plus", [(90, 50, 20), (50, 50, 30), (50, 60, 30)], 2),
        ("dev_rel_plus", [(50, 50, 30), (60, 50, 30), (60, 60, 30)], 2),
        ("dev_rel_plus", [(60, 50, 30), (50, 50, 30), (90, 60, 29)], 1),
        ("dev_rel", [(50, 40, 30), (90, 40, 50), (95, 39, 90)], 1),
        ("dev_ent", [(50, 90, 90), (60, 50, 30), (60, 90, 90)], 2),
        ("dev_ent_rel", [(50, 60, 0), (70, 40, 99), (60, 49, 99)], 1),
        ("dev_ent_rel_plus", [(50, 99, 60), (71, 0, 40), (71, 99, 40)], 2),
        ("last", [(90, 90, 90), (80, 80, 80), (50, 50, 50)], 3),
    ],
)
def test_weights_are_selected_by_the_figures_that_the_recipe_names(
    selection, looks, selected, run, prepared, tmp_path, monkeypatch
):
    """The first of the best; of equal Rel+ the better entities."""
    left = iter(looks[-1:] if selection == "last" else looks)

    def figures(*arguments) -> dict:
        return {"symmetric": {m: {"f1": float(f)} for m, f in zip(train.METRICS, next(left), strict=True)}}

    monkeypatch.setattr(train, "predict", lambda *arguments: [])
    monkeypatch.setattr(train, "score", figures)
    recipe = RECIPE | {"selection": selection, "batch_size": 10}
    train.train_run(spec(run | {"recipe": recipe}), prepared, tmp_path / "out", tmp_path / "state")
    measured = json.loads((tmp_path / "out" / "training.json").read_text())
    assert measured["selected_epoch"] == selected
    assert tuple(measured["dev"].values()) == looks[selected - 1]


def test_last_selection_keeps_the_last_epoch(run, prepared, tmp_path):
    recipe = RECIPE | {"selection": "last", "epochs": 2}
    train.train_run(spec(run | {"recipe": recipe}), prepared, tmp_path / "out", tmp_path / "state")
    rows = list(csv.DictReader((tmp_path / "out" / "log.csv").read_text().splitlines()))
    assert rows[0]["dev_ent"] == "" and rows[1]["dev_ent"] != ""
    assert json.loads((tmp_path / "out" / "training.json").read_text())["selected_epoch"] == 2


@pytest.mark.parametrize(
    "native, share, expected", [(True, 0.5, "bfloat16"), (True, 2, "float32"), (False, 0.5, "float32")]
)
def test_auto_precision_is_bfloat16_where_the_hardware_gains_by_it(native, share, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native})
    monkeypatch.setattr(torch, "mm", lambda a, b: time.sleep(0.004 * (share if a.dtype == torch.bfloat16 else 1)))
    assert machine.resolve_precision("auto", CPU) == expected
    assert machine.resolve_precision("float32", CPU) == "float32"


def test_batches_hold_every_sentence_once_and_little_padding():
    lengths = torch.randint(3, 60, (500,), generator=torch.Generator().manual_seed(0)).tolist()
    recipe = recipe_of(batch_size=8)
    one, same, other = (batches.training_batches(lengths, recipe, seed=1, epoch=e) for e in (1, 1, 2))
    assert sorted(i for b in one for i in b) == list(range(500)) and one == same and one != other
    padded = sum(len(b) * max(lengths[i] for i in b) for b in one)
    assert padded < 1.1 * sum(lengths)


def test_the_order_of_batches_is_the_recipe_s():
    lengths = torch.randint(3, 60, (53,), generator=torch.Generator().manual_seed(0)).tolist()

    def made(order: str, epoch: int = 1, **recipe: object) -> list[list[int]]:
        documents = [str(i // 10) for i in range(53)]
        made_by = recipe_of(**{"batch_size": 8, "order": order} | recipe)
        return batches.training_batches(lengths, made_by, seed=1, epoch=epoch, documents=documents)

    for order in ("bucketed", "shuffled", "sorted", "data"):
        assert sorted(i for batch in made(order) for i in batch) == list(range(53))
        dropped = made(order, drop_last=True)
        assert [len(batch) for batch in dropped] == [8] * 6
        assert made(order) == made(order) and (made(order) == made(order, epoch=2)) == (order == "data")
    assert made("data")[0] == list(range(8))
    assert sorted(map(sorted, made("sorted"))) == sorted(map(sorted, made("sorted", epoch=2)))
    longest = [max(lengths[i] for i in batch) for batch in made("sorted")]
    shortest = [min(lengths[i] for i in batch) for batch in made("sorted")]
    ordered = sorted(zip(shortest, longest, strict=True))
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(ordered))
    whole = made("shuffled", batch_size="document")
    assert sorted(whole) == [list(range(i, min(i + 10, 53))) for i in range(0, 53, 10)] and whole != sorted(whole)
    assert made("data", batch_size="document") == sorted(whole)
    assert not made("shuffled", drop_last=True, batch_size=64), "which the trainer refuses"


# -- FLOPs -----------------------------------------------------------------------------------------------------------


def test_flops_of_the_encoder_follow_the_closed_formula(tiny_encoder):
    model = System(LABELS, tiny_encoder, **System.test_settings).eval().requires_grad_(False)
    batch = model.collate([s.without_labels() for s in read_sentences(CORPUS)[:1]])
    counted = flops.count_batch(model, batch)
    n, d, inner = batch["input_ids"].shape[1], SMALL["hidden_size"], SMALL["intermediate_size"]
    formula = SMALL["num_hidden_layers"] * (4 * n * d * d + 2 * n * d * inner + 2 * n * n * d)
    products = sum(v for k, v in counted["encoder"].items() if k not in flops.NORMALISATION)
    assert products == formula
    assert counted["heads"]["linear"] >= 2 * n * d * d, "at least the two projections"


def test_every_encoder_of_a_system_counts_as_encoder(tiny_encoder):
    """PURE reads a sentence once for its entities, and with four markers for each ordered pair of them."""
    pure, sentence = systems.load("pure"), read_sentences(CORPUS)[3]
    model = pure(LABELS, tiny_encoder, **pure.test_settings).eval().requires_grad_(False)
    batch = model.collate([sentence])
    batch.gold_entities = True
    counted = flops.count_batch(model, batch)
    d, inner = SMALL["hidden_size"], SMALL["intermediate_size"]
    per_layer = [n * (4 * d * d + 2 * d * inner) + 2 * n * n * d for n in (12, 16)]
    assert batch["input_ids"].shape == (1, 12) and len(sentence.entities) == 3
    products = sum(v for k, v in counted["encoder"].items() if k not in flops.NORMALISATION)
    assert products == SMALL["num_hidden_layers"] * (per_layer[0] + 3 * 2 * per_layer[1])


def test_word_pieces_of_a_count_are_those_that_the_encoder_reads(tiny_encoder):
    model = System(LABELS, tiny_encoder, **System.test_settings).eval()
    counted = flops.count_sentences(model, [Sentence("a", ("Translation", ".")), Sentence("b", ("qwx", "is"))])
    assert counted["word_pieces"] == (4 + 6) / 2, "q ##w ##x is, between [CLS] and [SEP]"


def test_flops_of_a_split_are_those_of_its_sentences_but_for_what_batches_share(tiny_encoder):
    model = System(LABELS, tiny_encoder, **System.test_settings).eval()
    sentences = read_sentences(CORPUS)
    together = flops.count_sentences(model, sentences)["total"] * len(sentences)
    alone = sum(flops.count_sentences(model, [s])["total"] for s in sentences)
    longest = {(n, len(s.tokens)) for n, s in zip(tiny_encoder.piece_counts(sentences), sentences, strict=True)}
    rows = sum(len(s.tokens) + 1 for s in sentences) - sum(words + 1 for _, words in longest)
    classes = len(LABELS.entity_types) + 1 + 2 * len(LABELS.relation_types)
    assert alone - together == rows * model.width.embedding_dim * classes


def test_sentences_of_a_length_are_real_text_with_its_gold():
    sentences = read_sentences(CORPUS)
    text = [word for s in sentences for word in s.tokens]
    made = flops.of_words(sentences, 12, 3)
    assert made and all(len(s.tokens) == 12 for s in made)
    assert list(made[0].tokens) == text[:12]
    gold = [" ".join(s.tokens[e.start : e.end]) for s in sentences[:2] for e in s.entities]
    assert [" ".join(made[0].tokens[e.start : e.end]) for e in made[0].entities] == gold[: len(made[0].entities)]
    assert flops.of_words(sentences, 10_000, 1) == []


def test_untrained_architectures_are_counted_like_the_encoder_itself(tiny_encoder, monkeypatch):
    """On shapes alone the encoder has the count that it has with weights; with gold entities so have the systems."""
    labels, sentences = LABELS, read_sentences(CORPUS)[:3]
    here = SimpleNamespace(name="tiny")
    monkeypatch.setattr(flops, "locate_encoder", lambda declared: here)
    monkeypatch.setattr(flops, "load_encoder", lambda declared, located: copy.deepcopy(tiny_encoder))
    made = {name: {"system": name, "settings": systems.load(name).test_settings} for name in systems.sources()}
    counted = flops.count_architecture(SimpleNamespace(name="tiny"), made, labels, sentences, None)
    assert counted["tokenizer"] == "tiny"
    for name, forms in counted["systems"].items():
        model = systems.load(name)(labels, copy.deepcopy(tiny_encoder), **systems.load(name).test_settings)
        whole = flops.count_forms(model, functools.partial(flops.count_sentences, model, sentences, given=True))
        for form in ("ours", "released"):
            assert forms[form]["sentences"] == 3 and forms[form]["word_pieces"] == whole[form]["word_pieces"]
            assert forms[form]["encoder"] == whole[form]["encoder"] > 0, name
            assert forms[form]["heads"] == whole[form]["heads"] > 0, name
        assert forms["released_form"] == whole["released_form"]


def test_an_operator_without_a_count_is_an_error(tiny_encoder):
    class Odd(System):
        def decode(self, batch: Batch):
            torch.linalg.inv(torch.eye(3) + self.encode(batch)["entity"].sum())
            return super().decode(batch)

    model = Odd(LABELS, tiny_encoder, **System.test_settings).eval()
    with pytest.raises(RuntimeError, match=r"without a count: .*aten::linalg_inv"):
        flops.count_batch(model, model.collate(read_sentences(CORPUS)[:1]))
    for kind, lost in ((Odd, True), (System, False)):
        model, sentences = kind(LABELS, tiny_encoder, **System.test_settings), read_sentences(CORPUS)[:1]
        counted = flops.count_or_reason("it", functools.partial(flops.count_sentences, model, sentences))
        assert ("aten::linalg_inv" in counted.get("not_counted", "")) == lost and ("total" in counted) != lost


def test_fused_attention_is_noticed(tiny_encoder):
    tiny_encoder.model.set_attn_implementation("sdpa")
    model = System(LABELS, tiny_encoder, **System.test_settings).eval()
    with pytest.raises(RuntimeError, match=r"without a count|fvcore counts"):
        flops.count_batch(model, model.collate(read_sentences(CORPUS)[:1]))


# -- the clock --------------------------------------------------------------------------------------------------------


def test_the_clock_measures_what_a_pass_takes():
    passes = {"slow": lambda: time.sleep(0.05), "fast": lambda: time.sleep(0.01)}
    times = timing.measure(timing.clocked(passes, CPU), repeats=4, seconds=0.1)
    assert len(times["slow"]) == 4, "0.2 s of them: no more repeats than asked for"
    assert 0.1 <= sum(times["fast"]) < 0.2, "short passes are repeated until they fill the time"
    assert all(0.05 <= t < 0.1 for t in sorted(times["slow"])[:3]) and all(t >= 0.01 for t in times["fast"])


class Sleeping(Extractor):
    """Takes 8 ms a batch and 4 ms a sentence, of which its encoder takes half."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(LABELS, encoder)
        encoder.forward = lambda input_ids, attention_mask: time.sleep(0.004 + 0.002 * len(input_ids))

    def collate(self, sentences):
        return Batch(sentences, self.encoder.collate(sentences).tensors())

    def loss(self, batch):
        raise NotImplementedError

    def decode(self, batch):
        self.encoder(batch["input_ids"], batch["attention_mask"])
        time.sleep(0.004 + 0.002 * len(batch))
        return [Prediction()] * len(batch)


def test_a_system_that_sleeps_is_timed_right(tiny_encoder):
    sentences = read_sentences(CORPUS)[:8]
    sleeping = {"sleeping": Sleeping(tiny_encoder)}
    timed = timing.time_precision(sleeping, sentences, CPU, "float32", seconds=0.1)["sleeping"]
    for kind, batch, took in (("batch_1", 1, 8 * 0.012), ("best", 8, 0.040)):
        assert timed[kind]["batch"] == batch
        assert took <= timed[kind]["median_s"] < 1.3 * took, "token ids to triples"
        assert took / 2 <= timed[kind]["encoder"]["median_s"] < 0.65 * took, "the bare encoder over the same batches"


def test_times_of_runs_say_what_they_were_measured_on(run, prepared, tmp_path):
    train.train_run(
        spec(copy.deepcopy(run) | {"recipe": RECIPE | {"epochs": 1}}), prepared, tmp_path / "out", tmp_path / "s"
    )
    runs = {"a": tmp_path / "out", "b": tmp_path / "out"}
    sizes = {"model_type": "bert", **SMALL, "vocab_size": 200}
    untrained = encoder_spec({"name": "sizes", "architecture": sizes, "tokenizer": run["encoder"]})
    timing.time_runs(runs, prepared / "test.jsonl", tmp_path / "t.json", 5, 0.1, [(untrained, 2)])
    timed = json.loads((tmp_path / "t.json").read_text())
    assert {"device_name", "threads", "versions", "libraries", "tokenising_s", "not_timed"} <= set(timed)
    assert timed["sentences"] == 5 and timed["of_sentences"] == 10
    for system in timed["systems"].values():
        assert list(system) == timed["precisions"]
        for figures in (kind for kinds in system.values() for kind in kinds.values()):
            low, high = figures["quartiles_s"]
            assert low <= figures["median_s"] <= high and figures["repeats"] >= 2
            assert figures["sentences_per_s"] == pytest.approx(5 / figures["median_s"])
            assert figures["encoder"]["repeats"] >= 2
        assert system["float32"]["batch_1"]["batch"] == 1
    sizes = timed["architectures"]["sizes"]
    assert sizes["sentences"] == 2 and set(sizes["systems"]) == {"a", "b"}
    for figures in sizes["systems"].values():
        assert figures["repeats"] >= timing.REPEATS and figures["encoder"]["repeats"] >= timing.REPEATS
        assert figures["sentences_per_s"] == pytest.approx(2 / figures["median_s"])
    assert sizes["systems"]["a"]["encoder"] == sizes["systems"]["b"]["encoder"], "one encoder, timed once for all"


def test_runs_with_different_encoders_share_no_limit(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(
        timing, "load_run", lambda folder, device: (None, {"encoder": folder, "encoder_config": folder})
    )
    with pytest.raises(UserError, match=r"different encoders cannot share a limit.*time them apart"):
        timing.time_runs({"a": "small", "b": "base"}, prepared / "test.jsonl", tmp_path / "t.json")


def test_a_sample_is_spread_over_the_lengths():
    sentences = read_sentences(CORPUS)
    lengths = [len(s.tokens) for s in sentences]
    chosen = batches.sample_by_length(sentences, lengths, 2)
    ranks = [sorted(lengths).index(len(s.tokens)) for s in chosen]
    assert len({s.id for s in chosen}) == 2 and ranks[0] < 5 <= ranks[1] + 1
    assert batches.sample_by_length(sentences, lengths, None) == batches.sample_by_length(sentences, lengths, 99)


def test_a_long_file_is_predicted_in_chunks_with_the_same_result(run, prepared, tmp_path):
    train.train_run(spec(run), prepared, tmp_path / "out", tmp_path / "state")
    source = prepared / "test.jsonl"
    predict_file(tmp_path / "out", source, tmp_path / "whole.jsonl")
    written = []
    predict_file(tmp_path / "out", source, tmp_path / "parts.jsonl", at=written.append, chunk=3)
    assert written == [3, 6, 9, 10]
    whole, parts = (read_sentences(tmp_path / name) for name in ("whole.jsonl", "parts.jsonl"))
    assert [(s.id, [(e.type, e.start, e.end) for e in s.entities]) for s in whole] == [
        (s.id, [(e.type, e.start, e.end) for e in s.entities]) for s in parts
    ]


def test_an_interrupted_prediction_goes_on_where_it_was(run, prepared, tmp_path):
    train.train_run(spec(run), prepared, tmp_path / "out", tmp_path / "state")
    source, written = prepared / "test.jsonl", []

    def stop(done):
        written.append(done)
        if written == [3, 6]:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match=r"6 lines are kept in .*parts.jsonl\.\w+\.partial"):
        predict_file(tmp_path / "out", source, tmp_path / "parts.jsonl", at=stop, chunk=3)
    predict_file(tmp_path / "out", source, tmp_path / "parts.jsonl", at=stop, chunk=3)
    assert written == [3, 6, 9, 10]
    predict_file(tmp_path / "out", source, tmp_path / "whole.jsonl", chunk=3)
    assert (tmp_path / "parts.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_run_folder_is_enough(run, prepared, tmp_path):
    train.train_run(spec(run), prepared, tmp_path / "out", tmp_path / "state")
    predict_file(tmp_path / "out", prepared / "test.jsonl", tmp_path / "here.jsonl")
    (tmp_path / "out").rename(tmp_path / "moved")
    (tmp_path / "encoders" / "tiny").unlink()
    model, made = load_run(tmp_path / "moved", CPU)
    assert made["system"] == "sinet" and not model.training
    predict_file(tmp_path / "moved", prepared / "test.jsonl", tmp_path / "there.jsonl")
    assert (tmp_path / "here.jsonl").read_bytes() == (tmp_path / "there.jsonl").read_bytes()


def test_attention_rows_are_distributions_over_the_words(tiny_encoder):
    model = System(LABELS, tiny_encoder, **System.test_settings).eval()
    sentence = read_sentences(CORPUS)[6]
    maps = model.attention(sentence)
    assert set(maps) == {"entity", "relation"}
    for weights_ in maps.values():
        assert weights_.shape == (System.test_settings["heads"], len(sentence.tokens) + 2)
        assert torch.allclose(weights_.sum(1), torch.ones(len(weights_)), atol=1e-5)
    base = System(LABELS, tiny_encoder, **System.test_settings, interaction="base").eval()
    assert base.attention(sentence) == {}


def test_the_peak_of_a_process_is_not_that_of_the_one_that_started_it():
    ballast = bytearray(os.urandom(1 << 20)) * 300  # MiB
    told = "from sinet import machine; import torch; print(machine.peak_memory_mib(torch.device('cpu'))['resident'])"
    child = float(subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True).stdout)
    assert 50 < child < machine.peak_memory_mib(CPU)["resident"] - 200 and len(ballast) == 300 << 20
