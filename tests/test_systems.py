"""What every system must do; systems are discovered, so a new one needs no test file."""

import json
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file

from baselines import plmarker, table_sequence, unire
from baselines._pfn_tables import TableFilling
from sinet import machine, systems
from sinet.contract import Batch, Extractor, Labels, Prediction, Sentence
from sinet.data.sentence import read_sentences
from sinet.efficiency import flops
from sinet.encoders.encoder import Encoder
from sinet.encoders.pretrained import rebuild_encoder, save_encoder
from sinet.evaluate.metrics import score
from sinet.infer.predict import predict
from sinet.model.settings import Interaction
from sinet.model.spans import gold_tensors
from sinet.model.weights import write_weights
from sinet.train.optimiser import parameter_groups
from sinet.train.steps import batch_parts, new_optimizer, train_step
from tests.conftest import ARCHITECTURES, CORPUS, LABELS, NO_PAIR_MASK, NO_POSITION_IDS, corpus_of, recipe_of, set_on

CPU = torch.device("cpu")
DEFAULTS = recipe_of()

FORMS = {
    "dygiepp with coreference": ("dygiepp", {"coreference_weight": 1.0}),
    "unire in a document": ("unire", {"window": 40}),
    "dygie with coreference": ("dygie", {"coreference_weight": 1.0, "gate": "paper", "relation_rounds": 1}),
    "sciie with coreference": ("sciie", {"coreference_weight": 1.0}),
    "mge": ("tcre", {"interaction": "mge"}),
    "pure with batched markers": ("pure", {"markers": "batched", "pairs_at_once": 3}),
}
"""Forms of a system that are models of their own: whose, and its settings."""


def load(name: str) -> type[Extractor]:
    """A system by its name, or one of the `FORMS`."""
    of, settings = FORMS.get(name, (name, {}))
    known = systems.load(of)
    return type("System", (known,), {"test_settings": known.test_settings | settings, "__module__": known.__module__})


@pytest.fixture(params=[*sorted(systems.sources()), *FORMS])
def system(request, monkeypatch) -> type[Extractor]:
    """Of two roles: on reviews, whose labels and corpus then stand for those of the others."""
    labels, corpus = corpus_of(FORMS.get(request.param, (request.param,))[0])
    monkeypatch.setitem(globals(), "LABELS", labels)
    monkeypatch.setitem(globals(), "CORPUS", corpus)
    return load(request.param)


def build(system: type[Extractor], encoder: Encoder, labels: Labels | None = None) -> Extractor:
    torch.manual_seed(1)
    return system(labels or LABELS, encoder, **system.test_settings)


def learn(model: Extractor, sentences: list[Sentence], steps: int) -> Extractor:
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.0)
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss(model.training_batch(sentences)).backward()
        for prefixes in model.settings.parts.values():
            torch.nn.utils.clip_grad_norm_([p for n, p in model.named_parameters() if n.startswith(prefixes)], 1.0)
        optimizer.step()
    return model


def test_every_tensor_of_a_batch_is_documented(system, tiny_encoder):
    """By the encoder's input, by the gold tensors, or by the methods of the system that add to them."""
    model, sentences = build(system, tiny_encoder), read_sentences(CORPUS)
    written = "".join(
        step.__doc__ or ""
        for name in ("collate", "training_batch", "training_items")
        for step in (getattr(kind, name) for kind in system.__mro__ if name in vars(kind))
    )
    described = gold_tensors.__doc__ + written
    known = tiny_encoder.collate(sentences[:2]).tensors().keys()
    for batch in (model.collate(sentences[:2]), model.training_batch(model.training_items(sentences)[:2])):
        assert [name for name in batch.tensors if name not in known and f"`{name}`" not in described] == []


def without_scores(sentence: Sentence) -> tuple:
    return (
        [(e.type, e.start, e.end) for e in sentence.entities],
        [(r.type, r.head, r.tail) for r in sentence.relations],
    )


def test_says_whom_it_follows_and_how_it_is_small(system):
    assert len(system.citation) > 20 and any(c.isdigit() for c in system.citation)
    assert system.test_settings.keys() <= system.Settings.model_fields.keys()


def test_learns_ten_sentences_and_survives_a_reload(system, tiny_encoder, tmp_path):
    sentences = read_sentences(CORPUS)
    model = learn(build(system, tiny_encoder), sentences, 250)
    found = predict(model, sentences, CPU, "float32")
    figures = score(sentences, found, LABELS)["symmetric"]
    assert figures["ent"]["f1"] > 95 and figures["rel_plus"]["f1"] > 95, figures

    write_weights(tmp_path / "m.safetensors", model)
    torch.manual_seed(5)
    again = system(LABELS, tiny_encoder, **system.test_settings)
    again.load_state_dict(load_file(tmp_path / "m.safetensors"))
    assert predict(again, sentences, CPU, "float32") == found

    for size in (1, 3, 7):
        other = predict(model, sentences, CPU, "float32", batch_size=size)
        assert list(map(without_scores, other)) == list(map(without_scores, found))
    half = score(sentences, predict(model, sentences, CPU, "bfloat16"), LABELS)["symmetric"]
    assert half["ent"]["f1"] > 90


def test_says_what_gets_one_type_alone(system, tiny_encoder):
    """With every figure above its threshold, a place has several types wherever a system can give it several. No type
    is symmetric: of those the two directions of a pair are one."""
    model = build(system, tiny_encoder, replace(LABELS, symmetric=frozenset()))
    if system.Settings.two_roles:  # with small weights there may be no span of one of them
        for name, parameter in model.named_parameters():
            if not name.startswith("encoder."):
                torch.nn.init.normal_(parameter, std=0.2)
    set_on(model, threshold=0.0)
    found = predict(model, read_sentences(CORPUS)[:3], CPU, "float32")
    spans = [(n, e.start, e.end) for n, s in enumerate(found) for e in s.entities]
    pairs = [
        (n, *((e.start, e.end) for e in (s.entities[r.head], s.entities[r.tail])))
        for n, s in enumerate(found)
        for r in s.relations
    ]
    several = {what for what, places in (("span", spans), ("pair", pairs)) if len(set(places)) < len(places)}
    assert several == {"span", "pair"} - set(system.Settings.one_type)


def test_entities_alone_may_be_annotated(system, tiny_encoder):
    labels, sentences = Labels(LABELS.entity_types, ()), read_sentences(CORPUS)
    sentences = [sentence.with_labels(sentence.entities, ()) for sentence in sentences]
    model = learn(build(system, tiny_encoder, labels), sentences, 80)
    assert model.loss(model.training_batch(sentences)).isfinite()
    found = predict(model, sentences, CPU, "float32")
    assert any(s.entities for s in found) and not any(s.relations for s in found)


def test_survives_odd_sentences(system, tiny_encoder):
    odd = [
        Sentence("one", ("Translation",)),
        Sentence("long", ("neural", "parsers") * 60),
        Sentence("none", ("Nothing", "is", "known", ".")),
        Sentence("many pieces", ("neural", "abcdefghijklmnopqrst", "parsers")),
    ]
    model = build(system, tiny_encoder)
    model.loss(model.training_batch(odd)).backward()
    model.loss(model.training_batch(odd[:1])).backward()
    found = predict(model, odd, CPU, "float32")
    for sentence in (*found, *predict(model, odd, CPU, "float32", batch_size=1)):
        for entity in sentence.entities:
            assert 0 <= entity.start < entity.end <= len(sentence.tokens)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_runs_on_every_architecture(kind, system, fresh_encoder, tmp_path):
    """Learns, predicts of each sentence the same alone and beside longer ones, and is read back from a run's files."""
    sentences = read_sentences(CORPUS)[:4]
    levitates = issubclass(system, plmarker.System) or system.test_settings.get("markers") == "batched"
    if levitates and kind in NO_PAIR_MASK | NO_POSITION_IDS:
        with pytest.raises(ValueError, match=f"{kind} .*; take an encoder such as BERT"):
            build(system, fresh_encoder(kind))
        return
    # two steps: where the last layer begins at zero (UniRE) the first reaches nothing below it
    model = learn(build(system, fresh_encoder(kind)), sentences, 2)
    gradients = [p.grad for name, p in model.named_parameters() if name.startswith(model.encoders)]
    assert any(g is not None and g.isfinite().all() and g.any() for g in gradients) == model.settings.trains_encoder
    set_on(model, threshold=0.5)  # SpERT's and SINET's own would leave nothing of random weights
    found = predict(model, sentences, CPU, "float32")
    for together, sentence in zip(found, sentences, strict=True):
        (alone,) = predict(model, [sentence], CPU, "float32")
        assert without_scores(alone) == without_scores(together)
        for one, other in zip(alone.entities + alone.relations, together.entities + together.relations, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-5)
    config = json.loads(json.dumps(save_encoder(model.encoder, tmp_path)))
    again = system(LABELS, rebuild_encoder(config, tmp_path), **system.test_settings)
    again.load_state_dict(model.state_dict())
    again.settings = model.settings
    assert predict(again, sentences, CPU, "float32") == found


def test_a_tensor_that_a_batch_does_not_have_is_named(tiny_encoder):
    with pytest.raises(KeyError, match="this batch has no tensor 'spans'; it has input_ids, attention_mask"):
        Batch([], tiny_encoder.collate(read_sentences(CORPUS)).tensors())["spans"]


def test_gold_that_does_not_fit_the_encoder_is_left_out(system, tiny_encoder):
    tiny_encoder.max_pieces = 6
    model = build(system, tiny_encoder)
    sentences = read_sentences(CORPUS)
    assert tiny_encoder.truncated_words(sentences) > 0
    model.loss(model.training_batch(sentences)).backward()
    for sentence in predict(model, sentences, CPU, "float32"):
        assert all(entity.end <= 4 for entity in sentence.entities)


def test_a_word_longer_than_the_encoder_is_read_as_far_as_it_goes(system, tiny_encoder):
    tiny_encoder.max_pieces = 6
    model = build(system, tiny_encoder)
    (known, *_), word = read_sentences(CORPUS), "abcdefghijklmnopqrst"
    alone = Sentence("giant", (word, "parsers"))
    room = 3 if tiny_encoder.window.leading else 4
    assert len(tiny_encoder.word_pieces([word])[0]) == room and tiny_encoder.truncated_words([alone]) == 1
    assert model.collate([alone])["lengths"].tolist() == [1]
    model.loss(model.training_batch([alone])).backward()
    for sentences in ([alone], [known, alone]):
        found = predict(model, sentences, CPU, "float32")[-1]
        assert {e.end for e in found.entities} <= {1}


def test_no_decay_on_biases_and_norms(system, tiny_encoder):
    model = build(system, tiny_encoder)
    names = {id(p): name for name, p in model.named_parameters()}

    def decayed(**recipe: object) -> list[str]:
        groups = parameter_groups(model, recipe_of(weight_decay=0.1, **recipe))
        return [names[id(p)] for g in groups if g["weight_decay"] for p in g["params"]]

    assert decayed() and not [n for n in decayed() if n.endswith("bias") or "norm" in n.lower()]
    assert set(decayed(undecayed=[])) == {n for n, p in model.named_parameters() if p.requires_grad}
    by_name = {n for n, p in model.named_parameters() if p.requires_grad and "bias" not in n and "LayerNorm" not in n}
    assert set(decayed(undecayed=["bias", "LayerNorm"])) == by_name
    assert not [n for n in decayed(encoder_weight_decay=0.0) if n.startswith(model.encoders)]


def test_parts_trained_apart_share_no_gradient(system, tiny_encoder):
    """What one part of a system learns does not depend on how large the gradient of another is."""
    model = build(system, tiny_encoder)
    model.loss(model.training_batch(read_sentences(CORPUS)))
    groups = parameter_groups(model, DEFAULTS)
    assert {g["part"] for g in groups} == set(range(len(model.settings.parts)))
    if len(model.settings.parts) == 1:
        return
    for number, stage in enumerate(model.settings.parts):
        model.zero_grad()
        model.stage = stage
        items = model.training_items(read_sentences(CORPUS))
        terms = model.losses(model.training_batch(items))
        assert list(terms) == [stage]
        terms[stage].backward()
        reached = {g["part"] for g in groups for p in g["params"] if p.grad is not None and p.grad.any()}
        assert reached == {number}
        assert {g["part"] for g in parameter_groups(model, DEFAULTS)} == {number}


@pytest.mark.parametrize("mask_padding", [True, False])
def test_micro_batches_have_the_gradient_of_the_whole_batch(mask_padding, system, tiny_encoder):
    """Sizes that leave a rest, parts without a pair, parts of other lengths: the step is that of the whole."""
    sentences = [*read_sentences(CORPUS), Sentence("alone", ("Translation",)), Sentence("long", ("neural",) * 20)]
    settings = {"negative_spans": 10**6, "negative_pairs": 10**6, "negative_ratio": 10**6, "negative_questions": 10**6}
    known = system.Settings.model_fields
    settings = system.test_settings | {key: value for key, value in settings.items() if key in known}
    torch.manual_seed(1)
    model = in_training(system(LABELS, tiny_encoder, **settings))
    if "mask_padding" in known:
        set_on(model, mask_padding=mask_padding)
    elif not mask_padding:
        return  # it never computes with padding
    for stage in [None, *(model.settings.parts if len(model.settings.parts) > 1 else ())]:
        model.stage = stage
        items = model.training_items(sentences)

        def gradients(size: int | None, items: Sequence = items) -> tuple[dict, dict[str, torch.Tensor]]:
            recipe = recipe_of(micro_batch_size=size, clip=None)
            optimizer = new_optimizer(model, recipe)
            optimizer.step = lambda: None  # the weights stay
            rates = SimpleNamespace(step=lambda: None)
            parts = batch_parts(model, items, recipe)
            terms = train_step(model, parts, optimizer, rates, recipe, CPU, "float32")
            return terms, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

        terms, whole = gradients(None)
        scale = max(float(g.abs().max()) for g in whole.values())
        for size in (1, 5):
            cut_terms, cut = gradients(size)
            assert set(cut) == set(whole)
            for name, term in terms.items():
                assert float(cut_terms[name]) == pytest.approx(float(term), rel=1e-5)
            for name, gradient in whole.items():
                torch.testing.assert_close(cut[name], gradient, atol=1e-5 * max(1.0, scale), rtol=0, msg=name)


def test_gold_labels_are_not_seen_when_predicting(system, tiny_encoder):
    model = build(system, tiny_encoder)
    seen: list[Batch] = []
    collate = model.collate
    model.collate = lambda sentences: seen.append(sentences) or collate(sentences)
    predict(model, [replace(s, coreference=((0, 1, 0),)) for s in read_sentences(CORPUS)], CPU, "float32")
    assert seen and all(not (s.entities or s.relations or s.coreference) for batch in seen for s in batch)


def test_trains_in_half_precision(system, tiny_encoder):
    model = build(system, tiny_encoder)
    with machine.autocast(CPU, "bfloat16"):
        loss = model.loss(model.training_batch(read_sentences(CORPUS)))
    loss.backward()
    trained = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    assert all(g is None or torch.isfinite(g).all() for g in trained.values())
    without = [n for n, g in trained.items() if g is None]
    assert not without, f"the loss does not reach {without}"


def test_every_product_is_counted(system, tiny_encoder):
    """`count_batch` raises for an operator without a count, and where torch counts other products than fvcore."""
    model = build(system, tiny_encoder).eval().requires_grad_(False)
    rare = [Sentence("pieces", ("Nasal", "parsers")), Sentence("many pieces", ("neural", "abcdefghijklmnopqrst"))]
    flops.count_batch(model, model.collate(rare[:1]))
    flops.count_batch(model, model.collate(rare))
    # one word of many pieces among many of one: their maxima are read from a table
    flops.count_batch(model, model.collate([Sentence("table", ("parsers",) * 40 + rare[1].tokens)]))
    counted = flops.count_batch(model, model.collate(read_sentences(CORPUS)[:2]))
    assert sum(counted["encoder"].values()) > 0 and sum(counted["heads"].values()) > 0


def test_the_released_form_gives_the_same_scores_by_more_products_if_it_differs(system, tiny_encoder):
    sentences = read_sentences(CORPUS)
    model = learn(build(system, tiny_encoder), sentences, 120).eval()
    counted = flops.count_forms(model, lambda: flops.count_sentences(model, sentences[:2], given=True))
    more = counted["released"]["heads"] - counted["ours"]["heads"]
    assert more > 0 if system.released_form else more == 0
    assert counted["released"]["encoder"] == counted["ours"]["encoder"]
    batch = model.collate([s.without_labels() for s in sentences])
    with torch.no_grad():
        ours = model.decode(batch)
        with flops.as_released(model):
            released = model.decode(batch)
        assert model.decode(batch) == ours, "and nothing is left behind"
    assert any(p.relations for p in ours) and [*map(without_scores, ours)] == [*map(without_scores, released)]
    for one, other in zip(ours, released, strict=True):
        scores = ([found.score for found in p.entities + p.relations] for p in (one, other))
        assert next(scores) == pytest.approx(next(scores), abs=1e-5)


def test_packed_inference_predicts_what_the_modules_predict(system, tiny_encoder):
    sentences = read_sentences(CORPUS)
    model = learn(build(system, tiny_encoder), sentences, 120).eval()
    with torch.no_grad():
        plain = [model.decode(model.collate([s.without_labels()]))[0] for s in sentences]
    packed = predict(model, sentences, CPU, "float32")
    assert any(p.entities for p in plain)
    for one, other in zip(plain, packed, strict=True):
        assert without_scores(one) == without_scores(other)
        for a, b in zip(one.entities + one.relations, other.entities + other.relations, strict=True):
            assert a.score == pytest.approx(b.score, abs=1e-4)
    with torch.no_grad():
        again = [model.decode(model.collate([s.without_labels()]))[0] for s in sentences]
    assert [without_scores(p) for p in again] == [without_scores(p) for p in plain], "packing leaves nothing behind"


def in_training(model: Extractor) -> Extractor:
    """In training mode, and without chance."""
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropconnect"):
            module.dropconnect = 0.0
    set_on(model, gold_decay=1e12)  # SPTree's sampling: gold labels alone are read
    return model


SCORED = [pytest.param("sinet", {"interaction": i}, id=i) for i in get_args(Interaction)]
# other scores than of one class, or means over cells: below, in test_questions.py, and in test_baselines.py
MEANS = ("table_sequence", "unire", "plmarker", "multi_turn_qa", "sptree", "span_aste")
SCORED += [pytest.param(*form, id=name) for name, form in FORMS.items() if form[0] not in MEANS]
SCORED += [pytest.param(n, {}, id=n) for n in sorted(systems.sources()) if n not in ("sinet", *MEANS)]


@pytest.mark.parametrize("given", [False, True], ids=["predicted", "given"])
@pytest.mark.parametrize("name, settings", SCORED)
def test_every_decoded_score_is_one_that_is_trained_on(name, settings, given, tiny_encoder, monkeypatch):
    """What is decoded of some sentences is made their gold: the probabilities that the loss then raises are the scores
    of all that was decoded."""
    labels, corpus = corpus_of(name)
    sentences, system = read_sentences(corpus)[: None if given else 4], systems.load(name)
    torch.manual_seed(1)
    model = in_training(system(replace(labels, symmetric=frozenset()), tiny_encoder, **system.test_settings | settings))
    set_on(model, threshold=0.0)  # of those that have one: every relation is decoded
    torch.manual_seed(6)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if not parameter_name.startswith("encoder."):
                parameter.normal_(std=0.2)
    batch = model.collate(sentences)
    batch.gold_entities = given
    with torch.no_grad():
        decoded = model.eval().decode(batch)

    gold, scores = [], []
    for sentence, found in zip(sentences, decoded, strict=True):
        of_starts = issubclass(system, TableFilling)  # what a relation is scored of
        ends = [e.start if of_starts else (e.start, e.end) for e in found.entities]
        relations = {(ends[r.head], ends[r.tail], r.type): r for r in found.relations}.values()
        scores += [item.score for item in (*found.entities, *relations)]
        gold.append(sentence.with_labels(found.entities, tuple(relations)))
    relations = sum(len(s.relations) for s in gold)
    assert relations > 3 and len(scores) - relations > 9 and len({round(score, 4) for score in scores}) > 9

    raised: list[float] = []

    def cross_entropy(logits: torch.Tensor, target: torch.Tensor, **options: object) -> torch.Tensor:
        if target is not batch.tensors.get("tags"):  # of words, by which SPE finds spans; no score is theirs
            raised.extend(logits.softmax(-1).gather(1, target.unsqueeze(1)).squeeze(1)[target > 0].tolist())
        return logits.sum()

    def binary_cross_entropy(logits: torch.Tensor, target: torch.Tensor, **options: object) -> torch.Tensor:
        raised.extend(logits.sigmoid()[target == 1].tolist())
        return logits.sum()

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", cross_entropy)
    monkeypatch.setattr(torch.nn.functional, "binary_cross_entropy_with_logits", binary_cross_entropy)
    batch = model.training_batch(gold)
    batch.gold_entities = given
    model.train().losses(batch)
    assert sorted(raised) == pytest.approx(sorted(scores), abs=1e-5)


def test_table_sequence_decodes_the_probabilities_that_it_is_trained_on(tiny_encoder, monkeypatch):
    """An entity has that of its B tag, a relation the mean over the cells of its rectangle and of the mirror image."""
    sentences, trained = read_sentences(CORPUS), []
    model = build(table_sequence.System, tiny_encoder, replace(LABELS, symmetric=frozenset()))
    learn(model, sentences, 60).eval()
    found = model.decode(model.collate(sentences))
    monkeypatch.setattr(table_sequence, "tag_losses", lambda *scores: trained.extend(scores[:2]) or {})
    model.train().losses(model.training_batch(sentences))
    words, cells = (scores.detach().softmax(-1) for scores in trained)
    for b, prediction in enumerate(found):
        for e in prediction.entities:
            assert e.score == pytest.approx(
                words[b, e.start, 2 * LABELS.entity_types.index(e.type) + 1].item(), abs=1e-5
            )
        for r in prediction.relations:
            head, tail = (slice(e.start, e.end) for e in (prediction.entities[i] for i in (r.head, r.tail)))
            kind = 2 * LABELS.relation_types.index(r.type)
            both = cells[b, head, tail, kind + 1].mean() + cells[b, tail, head, kind + 2].mean()
            assert r.score == pytest.approx(both.item() / 2, abs=1e-5)
    relations = [r.score for p in found for r in p.relations]
    assert (
        len(relations) > 5 and min(relations) < 0.99 and {e.end - e.start for p in found for e in p.entities} >= {1, 2}
    )


def test_unire_decodes_the_probabilities_that_it_is_trained_on(tiny_encoder, monkeypatch):
    """An entity has the mean over its square, a relation over its rectangle, averaged with the mirrored cells where the
    label is symmetric; spans fill a sentence without overlap."""
    sentences, trained = read_sentences(CORPUS), []
    model = learn(build(unire.System, tiny_encoder), sentences, 60).eval()
    found = model.decode(model.collate(sentences))
    monkeypatch.setattr(model, "scores", lambda *given: trained.append(type(model).scores(model, *given)) or trained[0])
    model.train().losses(model.training_batch(sentences))
    table = trained[0][0].detach().softmax(-1)
    for b, prediction in enumerate(found):
        words = [i for e in prediction.entities for i in range(e.start, e.end)]
        assert words == sorted(set(words))
        for e in prediction.entities:
            square = table[b, e.start : e.end, e.start : e.end, 1 + LABELS.entity_types.index(e.type)]
            assert e.score == pytest.approx(square.mean().item(), abs=1e-5)
        for r in prediction.relations:
            head, tail = (slice(e.start, e.end) for e in (prediction.entities[i] for i in (r.head, r.tail)))
            cells = table[b, ..., 1 + len(LABELS.entity_types) + LABELS.relation_types.index(r.type)]
            means = [cells[head, tail].mean().item(), cells[tail, head].mean().item()]
            expected = sum(means) / 2 if r.type in LABELS.symmetric else means[0]
            assert r.score == pytest.approx(expected, abs=1e-5)
    relations = [r for p in found for r in p.relations]
    assert len(relations) > 5 and min(r.score for r in relations) < 0.99
    assert {r.type for r in relations} & LABELS.symmetric and {e.end - e.start for p in found for e in p.entities} > {1}


def test_plmarker_decodes_the_probabilities_that_it_is_trained_on(tiny_encoder):
    """A relation has the geometric mean of those of both directions; one whose head stands behind its tail, that of the
    same type from the first to the second, as released."""
    sentences = read_sentences(CORPUS)
    model = learn(build(plmarker.System, tiny_encoder), sentences, 60).eval()
    found = [
        s.with_labels(p.entities, p.relations)
        for s, p in zip(sentences, predict(model, sentences, CPU, "float32"), strict=True)
    ]
    batch = model.training_batch(found)
    with torch.no_grad():
        spans = model.entity_scores(batch, batch["spans"], batch["span_pass"]).softmax(-1)
        related = (batch["gold_spans"], batch["gold_types"], batch["pairs"], batch["pair_pass"])
        pairs = model.relation_scores(batch, *related)[0].softmax(-1)
    labelled = batch["span_labels"].nonzero().squeeze(1)
    expected = spans[labelled, batch["span_labels"][labelled]].tolist()
    entities = [e for s in found for e in sorted(s.entities, key=lambda e: (e.start, e.end))]
    assert len(entities) > 9 and [e.score for e in entities] == pytest.approx(expected, abs=1e-5)
    place, begin, backward = {pair: i for i, pair in enumerate(map(tuple, batch["pairs"].tolist()))}, 0, 0
    for sentence in found:
        for r in sentence.relations:
            first, second = sorted((begin + r.head, begin + r.tail))
            backward += r.head > r.tail
            kind = model.class_of[LABELS.relation_types.index(r.type)]
            both = pairs[place[first, second], kind] * pairs[place[second, first], model.mirror_of[kind]]
            assert r.score == pytest.approx(both.sqrt().item(), abs=1e-5)
        begin += len(sentence.entities)
    assert backward > 2 and backward < sum(len(s.relations) for s in found)


def test_relations_can_be_decided_between_given_entities(system, tiny_encoder):
    """Only in systems that say so; the others predict as ever."""
    sentences = read_sentences(CORPUS)
    model = build(system, tiny_encoder).eval()
    batch = model.collate(sentences)
    batch.gold_entities = True
    with torch.no_grad():
        predictions = model.decode(batch)
    gold = [{(e.type, e.start, e.end) for e in s.entities if e.end - e.start <= 4} for s in sentences]
    found = [{(e.type, e.start, e.end) for e in p.entities} for p in predictions]
    takes_entities = {"sinet", "spert", "span_multihead", "pure", "plmarker", "dygiepp", "dygie", "sciie", "spe"}
    takes_entities |= {"multi_turn_qa", "scinet", "sptree"}
    assert system.Settings.takes_entities == (system.__module__.rsplit(".", 1)[1] in takes_entities)
    if system.Settings.takes_entities:
        assert found == gold
        batch = model.collate([s.without_labels() for s in sentences])
        batch.gold_entities = True
        decoded = [replace(p, coreference=()) for p in model.decode(batch)]
        assert decoded == [Prediction()] * len(sentences), "none is given"
