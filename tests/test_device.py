"""What only a GPU shows: every system on a device that is not the CPU, a pretended one (`tests.pretend_device`) and,
where there is one, a GPU (`-m gpu`); and batches prepared ahead for it."""

import copy
import functools
import random
import sys
import threading

import pytest
import torch

from sinet import machine, systems
from sinet.contract import Extractor
from sinet.data.sentence import read_sentences
from sinet.efficiency import bench, timing
from sinet.efficiency.exactness import exactness
from sinet.errors import Interrupted
from sinet.infer.predict import predict, predict_file
from sinet.model import sinet as model_of_sinet
from sinet.model import spans
from sinet.model.prefetch import AHEAD, prefetched
from sinet.provenance import file_sha256
from sinet.train import steps as training
from sinet.train import trainer as train
from sinet.train.checkpoints import StateFolder
from tests.conftest import CORPUS, LABELS, corpus_of, spec, tiny_run
from tests.pretend_device import PretendTensor, pretend_device
from tests.test_systems import FORMS, build, learn, load, without_scores

pytestmark = pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")
CPU = torch.device("cpu")
SENTENCES = read_sentences(CORPUS)


@pytest.fixture
def pretended():
    with pretend_device() as device:
        yield device


GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]


@pytest.fixture(params=["pretended", pytest.param("cuda", marks=GPU)])
def device(request, monkeypatch):
    """The one that runs are trained on, too."""
    found = request.getfixturevalue("pretended") if request.param == "pretended" else torch.device("cuda")
    monkeypatch.setattr(machine, "available_device", lambda: found)
    return found


@pytest.fixture(params=sorted(systems.sources()))
def name(request) -> str:
    return request.param


HERE, INDEX = torch.ones(3), torch.tensor([0, 2])
REFUSED = {
    "two addends": lambda there: there + HERE,
    "a scalar there beside a tensor here": lambda there: HERE + there.sum(),
    "in place": lambda there: there.add_(HERE),
    "into a sum here": lambda there: torch.zeros(()).add_(there.sum()),
    "joined": lambda there: torch.cat([there, HERE]),
    "scalars stacked": lambda there: torch.stack([there.sum(), torch.tensor(1.0)]),
    "a product": lambda there: there @ HERE,
    "selected by an index here": lambda there: there.index_select(0, INDEX),
    "an embedding of pieces here": lambda there: torch.nn.functional.embedding(INDEX, there.unsqueeze(1)),
    "a tensor here by an index there": lambda there: HERE[there.long()],
    "figures here put there": lambda there: there.__setitem__(INDEX, HERE[:2]),
    "a number line made here": lambda there: torch.arange(3) < there,
    "a mask made here": lambda there: there.masked_fill(torch.ones(3, dtype=torch.bool), 0.0),
    "NumPy": lambda there: there.numpy(),
}
ACCEPTED = {
    "a scalar here": (lambda there: there + torch.tensor(1.0), [2.0, 2.0, 2.0]),
    "an index here": (lambda there: there[INDEX], [1.0, 1.0]),
    "a list of places": (lambda there: there[[0, 2]], [1.0, 1.0]),
    "a mask here": (lambda there: there[torch.tensor([True, False, False])], [1.0]),
    "copied": (lambda there: torch.zeros(3).copy_(there) + HERE, [2.0, 2.0, 2.0]),
    "made there": (lambda there: there + torch.arange(3, device=there.device), [1.0, 2.0, 3.0]),
    "constants there": (lambda there: there + torch.tensor([1, 2, 3], device=there.device), [2.0, 3.0, 4.0]),
    "made like it": (lambda there: there + there.new_tensor([1, 2, 3]) + torch.zeros_like(there), [2.0, 3.0, 4.0]),
    "to NumPy by way of the CPU": (lambda there: there.cpu().numpy(), [1.0, 1.0, 1.0]),
    "changed through a view": (lambda there: (there[1:].fill_(torch.tensor(5.0)), there)[1], [1.0, 5.0, 5.0]),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_mixes_devices_is_refused(what, device):
    with pytest.raises((RuntimeError, TypeError), match=r"same device|one device|numpy|cuda|cpu"):
        REFUSED[what](torch.ones(3, device=device))


@pytest.mark.parametrize("what", ACCEPTED)
def test_what_torch_allows_is_done(what, device):
    operation, expected = ACCEPTED[what]
    assert operation(torch.ones(3, device=device)).tolist() == expected


def test_the_pretended_device_draws_numbers_of_its_own(pretended):
    before = torch.get_rng_state()
    drawn = torch.nn.functional.dropout(torch.ones(100, device=pretended))
    assert isinstance(drawn, PretendTensor) and 0 < int((drawn == 0).sum()) < 100
    assert torch.equal(torch.get_rng_state(), before)
    torch.nn.functional.dropout(torch.ones(100))
    assert not torch.equal(torch.get_rng_state(), before)


@pytest.fixture(params=[*sorted(systems.sources()), *FORMS])
def learned(request, tiny_encoder, monkeypatch) -> Extractor:
    """A system that finds something, without dropout, in `SENTENCES`."""
    labels, corpus = corpus_of(FORMS.get(request.param, (request.param,))[0])
    monkeypatch.setitem(globals(), "SENTENCES", read_sentences(corpus))
    model = learn(build(load(request.param), tiny_encoder, labels), SENTENCES, 60)
    for module in model.modules():
        if hasattr(module, "dropconnect"):
            module.dropconnect = 0.0
    return model


def test_a_system_computes_there_what_the_cpu_does(learned, device):
    here, there = learned, copy.deepcopy(learned).to(device)
    for stage in (None, *(here.settings.parts if len(here.settings.parts) > 1 else ())):
        here.stage = there.stage = stage
        batch = here.training_batch(here.training_items(SENTENCES))
        there.load_state_dict(here.state_dict())  # what is counted in training items, too
        terms, found = here.losses(batch), there.losses(batch.to(device))
        for key, term in terms.items():
            torch.testing.assert_close(found[key].detach().cpu(), term.detach(), atol=1e-5, rtol=1e-4)
        for model, losses in ((here, terms), (there, found)):
            model.zero_grad()
            sum(losses.values()).backward()
        for (weight, p), q in zip(here.named_parameters(), there.parameters(), strict=True):
            if p.grad is not None:
                scale = max(1.0, float(p.grad.abs().max()))
                torch.testing.assert_close(q.grad.cpu(), p.grad, atol=1e-4 * scale, rtol=1e-4, msg=weight)
    here.stage = there.stage = None
    expected, found = predict(here, SENTENCES, CPU, "float32"), predict(there, SENTENCES, device, "float32")
    assert [without_scores(s) for s in found] == [without_scores(s) for s in expected]
    assert any(s.relations for s in found)
    for key, attention in here.attention(SENTENCES[0]).items():
        torch.testing.assert_close(there.attention(SENTENCES[0])[key].cpu(), attention, atol=1e-4, rtol=0)


def test_a_killed_training_goes_on_there_to_the_same_bits(
    name, device, tiny_mirror, prepared_for, tmp_path, monkeypatch
):
    """Batches prepared ahead or not, negatives drawn and dropout: killed in the middle of an epoch or not at all."""
    recipe = {"epochs": 1, "batch_size": 4, "micro_batch_size": 3, "weight_decay": 0.01, "selection": "last"}
    run = tiny_run(dict(systems.load(name).test_settings), 1, **recipe) | {"system": name, "model": name}
    start = functools.partial(train.train_run, spec(run), prepared_for(name))
    with monkeypatch.context() as patched:
        patched.setattr(training, "prefetched", lambda prepare, items, device: prefetched(prepare, items, CPU))
        start(tmp_path / "whole", tmp_path / "whole-state", [tiny_mirror])

    def save_and_die(self: StateFolder, *state: object, save=StateFolder.save) -> None:
        save(self, *state)
        raise Interrupted

    with monkeypatch.context() as patched:
        patched.setattr(training, "SAVE_SECONDS", 0.0)
        patched.setattr(StateFolder, "save", save_and_die)
        for _ in range(2):
            with pytest.raises(Interrupted):
                start(tmp_path / "killed", tmp_path / "state", [tiny_mirror])
    steps = []
    with monkeypatch.context() as patched:
        patched.setattr(training, "train_step", lambda *a, step=training.train_step: steps.append(1) or step(*a))
        start(tmp_path / "killed", tmp_path / "state", [tiny_mirror])
    assert len(steps) == 1, "of three"
    weights = [file_sha256(tmp_path / out / "model.safetensors") for out in ("whole", "killed")]
    assert weights[0] == weights[1] or (name, device.type) == ("pfn", "cuda")  # whose cumulative sum is not
    predict_file(tmp_path / "killed", CORPUS, tmp_path / "found.jsonl")
    assert len(read_sentences(tmp_path / "found.jsonl")) == len(SENTENCES)


def test_what_bench_measures_is_measured_there(device, tiny_encoder, tiny_mirror, monkeypatch):
    monkeypatch.setattr(bench, "TRAINING_REPEATS", 1)
    monkeypatch.setattr(timing, "PEAK_SIZES", (8,))
    model = learn(build(model_of_sinet.System, tiny_encoder), SENTENCES, 20).to(device)
    timed = timing.time_precision({"sinet": model}, SENTENCES[:3], device, "float32", seconds=0.0, limits=True)
    assert timed["sinet"]["best"]["encoder"]["sentences_per_s"] > 0
    exact = exactness(model, SENTENCES[:3], LABELS, device, ["float32"])
    assert exact["float32_same"] and 0 < exact["float32_states"] < 1e-4
    run = tiny_run(dict(model_of_sinet.System.test_settings), 1)
    read = torch.tensor([5, 6])
    assert bench.training_speed(spec(run), LABELS, SENTENCES, read, [tiny_mirror], device, 4)["sentences_per_s"] > 0


PLANTED = {
    "span_grid": lambda room, width: torch.arange(width) < room.unsqueeze(1),  # without device=
    "build_predictions": lambda labels, batch, entities, *rest: entities.numpy(),
}


@pytest.mark.parametrize("place", PLANTED)
def test_a_planted_mistake_that_a_cpu_does_not_show_is_found(place, device, tiny_encoder, monkeypatch):
    model = build(model_of_sinet.System, tiny_encoder).eval()
    batch = model.collate(SENTENCES)
    monkeypatch.setattr(spans, place, PLANTED[place])
    with torch.no_grad():
        model.decode(batch)
        with pytest.raises((RuntimeError, TypeError), match=r"one device|same device|numpy"):
            model.to(device).decode(batch.to(device))


# -- batches prepared ahead ------------------------------------------------------------------------------------


def drawing(item: int) -> list[float]:
    """In the place of batches: a number that torch's generator draws."""
    if item == 7:
        raise ValueError("the seventh cannot be collated")
    return [float(torch.rand(()))]


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]


@pytest.mark.parametrize("taken", [0, 1, 4, 6])
def test_what_was_prepared_ahead_and_not_taken_was_never_drawn(taken, pretended):
    after = {}
    for where in (CPU, pretended):
        torch.manual_seed(3)
        with prefetched(drawing, range(6), where) as prepared:
            found = [made for _, made in zip(range(taken), prepared, strict=False)]
            assert bool(threads()) == (where != CPU and taken > 0)
        assert not threads()
        after[where] = found, float(torch.rand(()))
    assert after[CPU] == after[pretended] and len(found) == taken


def test_no_more_is_prepared_than_said(pretended):
    asked = []
    with prefetched(lambda item: [asked.append(item)], range(100), pretended) as prepared:
        next(prepared)
    assert len(asked) <= 1 + AHEAD
    with prefetched(lambda item: [asked.append(item)], range(100), CPU) as prepared:
        del asked[:]
        next(prepared)
        assert asked == [0], "a CPU prepares nothing ahead"


def test_what_goes_wrong_in_the_thread_reaches_the_caller(pretended):
    with pytest.raises(ValueError, match="the seventh"), prefetched(drawing, range(9), pretended) as prepared:
        list(prepared)
    with pytest.raises(KeyError), prefetched(drawing, range(6), pretended):
        raise KeyError
    assert not threads()


def test_two_threads_may_cut_words(tiny_encoder, monkeypatch):
    """The frozen encoder of table-sequence is collated for while its batches are prepared."""
    monkeypatch.setattr("sinet.encoders.encoder.WORD_CACHE", 50)
    before, faults = sys.getswitchinterval(), []

    def cut(drawn: random.Random) -> None:
        try:
            for _ in range(1500):
                tiny_encoder.word_pieces([f"w{drawn.randrange(1000)}" for _ in range(30)])
        except Exception as error:
            faults.append(error)

    several = [threading.Thread(target=cut, args=(random.Random(seed),)) for seed in range(4)]
    sys.setswitchinterval(1e-5)
    try:
        for thread in several:
            thread.start()
        for thread in several:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not faults
