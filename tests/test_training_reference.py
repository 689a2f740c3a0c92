"""Training of our systems against figures of their authors' released training code: candidates, losses, gradients,
and six steps of the released recipe, within the tolerances of the reference's README.

The recipe is the system's `own` of `config/recipes.yaml`, with the rates and lengths that the figures were made with.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines import dygiepp, pfn, pure, spert, table_sequence
from sinet.config import load_config
from sinet.contract import Batch, Extractor, Labels, Sentence
from sinet.data.sentence import Entity, Relation
from sinet.model import sinet
from sinet.recipes import spell_out, trainings
from sinet.run.optimiser import RowAdamW
from sinet.run.schedules import inverse_time, schedule
from sinet.run.training import new_optimizer
from tests.reference import Reference, bert_encoder, words_of
from tests.test_reference import (
    PFN_NAMES,
    PURE_ENTITY_NAMES,
    PURE_RELATION_NAMES,
    SINET_NAMES,
    SPERT_NAMES,
    renamed,
    table_sequence_weights,
)

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
KEY_BIAS = "attention.self.key.bias"


class Tolerances(NamedTuple):
    """Absolute, of the reference's README: losses, gradients, their norms, weights after the trajectory, key biases."""

    loss: float
    gradient: float
    norm: float
    weight: float
    key_bias: float


SPANS = Tolerances(1e-5, 2e-5, 1e-4, 5e-6, 2e-5)
ENTITY = Tolerances(2e-4, 5e-4, 1e-3, 5e-6, 5e-4)
RELATION = Tolerances(1e-5, 2e-5, 1e-4, 5e-6, 2e-5)


def annotated(reference: Reference, labels: Labels) -> list[Sentence]:
    """The stored sentences with their annotations."""
    found = []
    for name in reference.groups("sentence"):
        entities = tuple(Entity(labels.entity_types[t], a, e) for t, a, e in reference[f"{name}/entities"].tolist())
        relations = tuple(
            Relation(labels.relation_types[t], head, tail) for t, head, tail in reference[f"{name}/relations"].tolist()
        )
        words = words_of(reference[f"{name}/input_ids"], reference[f"{name}/word_offsets"])
        found.append(Sentence(name, words, entities, relations))
    return found


def training_labels(config: dict) -> Labels:
    """As many types as the file has, the symmetric ones by their numbers."""
    kinds = config.get("entity_type_names") or [f"E{i}" for i in range(config["entity_types"])]
    relations = tuple(f"R{i}" for i in range(config["relation_types"]))
    return Labels(tuple(kinds), relations, frozenset(relations[i] for i in config["symmetric_relation_types"]))


def encoder_of(config: dict):
    return bert_encoder(config["encoder"] | NO_DROPOUT, cls=config["cls_token_id"], sep=config["sep_token_id"])


def own_recipe(system: str, stage: str | None = None, **figures: object) -> dict:
    """The recipe `own`, with what the figures were made with in place of the released rates and lengths."""
    config = load_config()
    training, _ = spell_out(config["recipe_defaults"], config["recipes"]["own"], system, "")
    return dict(trainings(training))[stage] | figures


class Setup(NamedTuple):
    """A system with the stored weights, and what one of its stored figures is called here.

    `batches` makes the training items of a stored batch, `ours` the parameters of released names from stored arrays.
    """

    reference: Reference
    model: Extractor
    batches: list[Sequence]
    ours: Callable[[dict[str, Tensor]], dict[str, Tensor]]
    recipe: dict
    tolerances: Tolerances


def span_system(name: str) -> Setup:
    reference = Reference(f"{name}_training.npz")
    config, made = reference.config, reference.config["recipe"]
    system, names = {"sinet": (sinet.System, SINET_NAMES), "spert": (spert.System, SPERT_NAMES)}[name]
    sizes = {"max_span_width": config["max_span_width"], "width_size": config["width_embedding_size"], "dropout": 0.0}
    if name == "sinet":
        sizes |= {"heads": config["attention_heads"], "attention_dropout": 0.0, "mask_padding": False}
    labels = training_labels(config)
    model = system(labels, encoder_of(config), negative_spans=10**6, negative_pairs=10**6, **sizes)
    model.width = torch.nn.Embedding(config["width_table_rows"], config["width_embedding_size"])
    model.load_state_dict(renamed(reference.weights(), names), strict=True)
    sentences = annotated(reference, labels)
    batches = [[sentences[i] for i in reference[f"{b}/sentences"].tolist()] for b in reference.groups("batch")]
    recipe = own_recipe(
        name, **{"encoder_lr": made["lr"], "head_lr": made["lr"], "warmup": made["warmup_steps"] / made["total_steps"]}
    )
    # the recipe is the released one: what the file says of it is what ours says
    assert (recipe["clip"], recipe["weight_decay"], recipe["eps"]) == (
        made["max_grad_norm"],
        made["weight_decay"],
        made["eps"],
    )
    return Setup(reference, model.train(), batches, lambda stored: renamed(stored, names), recipe, SPANS)


def entity_system() -> Setup:
    reference = Reference("pure_entity_training.npz")
    config, made = reference.config, reference.config["recipe"]
    model = pure_parts(config, "entity", hidden_size=config["head_hidden_size"], width=config["width_embedding_size"])
    load_part(model, reference, PURE_ENTITY_NAMES)
    sentences = annotated(reference, model.labels)
    batches = [[sentences[i] for i in reference[f"{b}/sentences"].tolist()] for b in reference.groups("batch")]
    rates = {"encoder_lr": made["learning_rate"], "head_lr": made["task_learning_rate"]}
    recipe = own_recipe("pure", "entity", warmup=made["warmup_proportion"], **rates)
    assert (recipe["weight_decay"], recipe["eps"]) == (made["weight_decay"], made["eps"])
    return Setup(reference, model, batches, lambda stored: renamed(stored, PURE_ENTITY_NAMES), recipe, ENTITY)


def relation_system() -> Setup:
    reference = Reference("pure_relation_training.npz")
    config, made = reference.config, reference.config["recipe"]
    model = pure_parts(config, "relation", max_sequence_length=config["max_sequence_length"])
    load_part(model, reference, PURE_RELATION_NAMES)
    model.relation_model.norm.eps = config["layer_norm_eps"]
    ids = config["marker_token_ids"]
    names = [
        [[f"{role}_{end}={t}" for end in ("START", "END")] for role in ("SUBJ", "OBJ")]
        for t in model.labels.entity_types
    ]
    model.markers = torch.tensor([[[ids.get(n, -1) for n in role] for role in kind] for kind in names])
    sentences = annotated(reference, model.labels)
    batches = [
        model.training_items([sentences[i] for i in reference[f"{b}/sentences"].tolist()])
        for b in reference.groups("batch")
    ]
    rates = {"encoder_lr": made["learning_rate"], "head_lr": made["learning_rate"]}
    recipe = own_recipe("pure", "relation", warmup=made["warmup_proportion"], **rates)
    assert (recipe["weight_decay"], recipe["eps"]) == (made["weight_decay"], made["eps"])
    return Setup(reference, model, batches, lambda stored: renamed(stored, PURE_RELATION_NAMES), recipe, RELATION)


def pure_parts(config: dict, stage: str, width: int = 8, **settings: object) -> pure.System:
    labels, encoder = training_labels(config), encoder_of(config)
    # the stand-in for a tokenizer has no vocabulary to find markers in
    encoder.tokenizer.get_vocab = lambda: {f"[unused{n}]": 0 for n in range(1, 4 * len(labels.entity_types) + 1)}
    dropouts = {"dropout": 0.0, "hidden_dropout": 0.0, "relation_dropout": 0.0}
    sizes = {"max_span_width": config["max_span_width"], "width_size": width}
    model = pure.System(labels, encoder, **sizes, **dropouts, **settings).train()
    model.stage = stage
    return model


def load_part(model: pure.System, reference: Reference, names: dict[str, str]) -> None:
    missing, unexpected = model.load_state_dict(renamed(reference.weights(), names), strict=False)
    assert not unexpected and not {n for n in missing if n.startswith(tuple(names.values()))}


SETUPS = {
    "sinet": lambda: span_system("sinet"),
    "spert": lambda: span_system("spert"),
    "pure_entity": entity_system,
    "pure_relation": relation_system,
}


@pytest.fixture(params=SETUPS)
def setup(request) -> Setup:
    return SETUPS[request.param]()


def gradients(model: Extractor, items: Sequence) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Terms of the loss of a batch, and the gradient of every parameter that has one."""
    model.zero_grad()
    batch = model.training_batch(items)
    divisors = model.divisors([batch])
    terms = {name: term / divisors.get(name, 1) for name, term in model.losses(batch).items()}
    sum(terms.values()).backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return {name: float(term.detach()) for name, term in terms.items()}, found


def assert_close(ours: Tensor, theirs: Tensor, name: str, tolerance: float, key_bias: float) -> None:
    tolerance = key_bias if name.endswith(KEY_BIAS) else tolerance
    assert ours.shape == theirs.shape, name
    assert float((ours - theirs).abs().max()) <= tolerance, f"{name}: {float((ours - theirs).abs().max())}"


def test_losses_and_gradients_are_the_released_ones(setup):
    reference, tolerances = setup.reference, setup.tolerances
    parameters = reference.config["parameters"]
    compared = 0
    for name, items in zip(reference.groups("batch"), setup.batches, strict=True):
        if not len(items):
            continue
        terms, found = gradients(setup.model, items)
        for term, value in (*terms.items(), ("", sum(terms.values()))):
            stored = f"{name}/loss_{term}".removesuffix("_")
            if stored in reference.arrays.files:
                assert value == pytest.approx(float(reference[stored]), abs=tolerances.loss), stored
                compared += 1
        stored = setup.ours(reference.weights(f"{name}/gradient/"))
        assert set(stored) <= set(found)
        for parameter, theirs in stored.items():
            assert_close(found[parameter], theirs, parameter, tolerances.gradient, tolerances.key_bias)
        # the norm under the released name, for every parameter of every batch
        for released, norm in zip(parameters, reference[f"{name}/gradient_norm"].tolist(), strict=True):
            (ours,) = setup.ours({released: torch.zeros(1)}) or (None,)
            if ours is not None:
                value = float(found[ours].norm()) if ours in found else 0.0
                slack = tolerances.norm if not released.endswith(KEY_BIAS) else tolerances.key_bias * 10
                assert value == pytest.approx(norm, abs=slack), (name, released)
    assert compared


@pytest.mark.parametrize("name", ["sinet", "spert"])
def test_span_systems_draw_the_released_candidates(name):
    setup = span_system(name)
    reference, model = setup.reference, setup.model
    seen = set()
    for sentence in annotated(reference, model.labels):
        batch = model.training_batch([sentence])
        gold, spans = len(batch["gold_spans"]), batch["candidate_spans"].tolist()
        assert sorted(map(tuple, spans[gold:])) == sorted(
            map(tuple, reference[f"{sentence.id}/negative_spans"].tolist())
        )
        related = int(batch["candidate_relations"].any(1).sum())
        positive = dict(
            zip(
                map(tuple, batch["candidate_pairs"][:related].tolist()),
                map(tuple, batch["candidate_relations"][:related].tolist()),
                strict=True,
            )
        )
        theirs = zip(
            map(tuple, reference[f"{sentence.id}/positive_pairs"].tolist()),
            map(tuple, reference[f"{sentence.id}/positive_types"].float().tolist()),
            strict=True,
        )
        assert positive == dict(theirs)
        negative = sorted(map(tuple, batch["candidate_pairs"][related:].tolist()))
        assert negative == sorted(map(tuple, reference[f"{sentence.id}/negative_pairs"].tolist()))
        seen |= {"reverse" for head, tail in positive if (tail, head) in negative}
    assert "reverse" in seen, "no symmetric pair shows whether its reverse is a negative"


def test_reverses_of_symmetric_pairs_need_not_be_negatives():
    setup = span_system("spert")
    setup.model.negative_reverses = False
    symmetric = [setup.model.labels.relation_types.index(name) for name in setup.model.labels.symmetric]
    fewer = 0
    for sentence in annotated(setup.reference, setup.model.labels):
        batch = setup.model.training_batch([sentence])
        types = batch["candidate_relations"]
        folded = {tuple(p) for p in batch["candidate_pairs"][types[:, symmetric].any(1)].tolist()}
        negative = {tuple(p) for p in batch["candidate_pairs"][~types.any(1)].tolist()}
        assert not negative & {(tail, head) for head, tail in folded}
        fewer += len(setup.reference[f"{sentence.id}/negative_pairs"]) > len(negative)
    assert fewer


def test_pure_labels_every_span_and_pair_as_released():
    setup = entity_system()
    for sentence in annotated(setup.reference, setup.model.labels):
        batch = setup.model.training_batch([sentence])
        scores, fits = setup.model.entity_scores(batch)
        start, width = fits.nonzero(as_tuple=True)
        target = pure.S.gold_grid(fits, batch)[fits]
        ours = {
            (a, a + w + 1): kind for a, w, kind in zip(start.tolist(), width.tolist(), target.tolist(), strict=True)
        }
        spans = map(tuple, setup.reference[f"{sentence.id}/spans"].tolist())
        assert ours == dict(zip(spans, setup.reference[f"{sentence.id}/span_labels"].tolist(), strict=True))

    setup = relation_system()
    model, reference = setup.model, setup.reference
    for sentence in annotated(reference, model.labels):
        pairs = model.training_items([sentence])
        assert [[p.head, p.tail] for p in pairs] == reference[f"{sentence.id}/pairs"].tolist()
        if pairs:
            batch = model.training_batch(pairs)
            assert batch["pair_labels"].tolist() == reference[f"{sentence.id}/pair_labels"].tolist()
            gold = batch["gold_spans"], batch["gold_types"] - 1
            scores = model.relation_scores(batch, *gold, batch["pairs"])
            loss = torch.nn.functional.cross_entropy(scores, batch["pair_labels"], reduction="none")
            torch.testing.assert_close(loss, reference[f"{sentence.id}/pair_loss"], atol=RELATION.loss, rtol=0)


def trajectory_batches(setup: Setup, prefix: str) -> list[Sequence]:
    """The training items of each step of a stored trajectory."""
    reference = setup.reference
    chosen = reference[f"{prefix}/batches"].tolist()
    if f"{prefix}/examples0" not in reference.arrays.files:
        return [setup.batches[i] for i in chosen]
    # PURE's relation model: rows of all examples, each a sentence and the number of its pair
    sentences = annotated(reference, setup.model.labels)
    pairs = [setup.model.training_items([sentence]) for sentence in sentences]
    examples = list(zip(reference["examples/sentence"].tolist(), reference["examples/pair"].tolist(), strict=True))
    return [
        [pairs[s][p] for s, p in (examples[i] for i in reference[f"{prefix}/examples{k}"].tolist())] for k in chosen
    ]


def follow(
    optimizer: RowAdamW, recipe: dict, total: int, losses: Sequence[Callable[[], Tensor]]
) -> tuple[list[float], list[list[float]], list[float]]:
    """Losses, rates by group and gradient norms of steps of a recipe: the trainer's own optimiser and schedule."""
    rates = schedule(optimizer, recipe, total)
    lost, used, norms = [], [], []
    for compute in losses:
        optimizer.zero_grad(set_to_none=True)
        loss = compute()
        loss.backward()
        weights = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norms.append(float(optimizer.gradient_norm(weights)))
        used.append([group["lr"] for group in optimizer.param_groups])
        optimizer.clipped_step(recipe["clip"], recipe["clip_by_part"])
        rates.step()
        lost.append(float(loss.detach()))
    optimizer.settle()
    return lost, used, norms


def test_six_steps_of_the_own_recipe_are_the_released_ones(setup):
    reference, model, tolerances = setup.reference, setup.model, setup.tolerances
    batches = trajectory_batches(setup, "trajectory")
    total = reference.config["recipe"]["total_steps"]
    losses = [lambda items=items: model.loss(model.training_batch(items)) for items in batches]
    lost, used, norms = follow(new_optimizer(model, setup.recipe), setup.recipe, total, losses)
    np.testing.assert_allclose(lost, reference["trajectory/loss"], atol=tolerances.loss, rtol=0)
    np.testing.assert_allclose(norms, reference["trajectory/gradient_norm"], atol=tolerances.norm, rtol=0)
    stored = reference["trajectory/learning_rate"].double()
    for ours, theirs in zip(used, stored.view(len(used), -1).tolist(), strict=True):
        assert {round(rate, 13) for rate in ours} == {round(rate, 13) for rate in theirs}
    weights = dict(model.named_parameters())
    for name, theirs in setup.ours(reference.weights("trajectory/weight/")).items():
        assert_close(weights[name].detach(), theirs, name, tolerances.weight, tolerances.key_bias)


@pytest.mark.parametrize("name", ["sinet", "spert"])
def test_a_step_without_pairs_moves_the_relation_classifier_on(name):
    setup = span_system(name)
    reference, model = setup.reference, setup.model
    batches = trajectory_batches(setup, "trajectory_no_pairs")
    total = reference.config["recipe"]["total_steps"]
    losses = [lambda items=items: model.loss(model.training_batch(items)) for items in batches]
    lost, _, _ = follow(new_optimizer(model, setup.recipe), setup.recipe, total, losses)
    np.testing.assert_allclose(lost, reference["trajectory_no_pairs/loss"], atol=SPANS.loss, rtol=0)
    weights, compared = dict(model.named_parameters()), 0
    for parameter, theirs in setup.ours(reference.weights("trajectory_no_pairs/weight/")).items():
        assert_close(weights[parameter].detach(), theirs, parameter, SPANS.weight, SPANS.key_bias)
        compared += 1
    assert compared


# -- PFN and table-sequence encoders, whose losses are sums over tables ----------------------------------------------

PFN = Tolerances(5e-4, 5e-4, 1e-3, 2e-5, 5e-4)
TABLE = Tolerances(5e-4, 2e-4, 5e-4, 5e-6, 5e-6)


def pfn_system() -> Setup:
    reference = Reference("pfn_training.npz")
    config, made = reference.config, reference.config["recipe"]
    labels = training_labels(config)
    model = pfn.System(
        labels, encoder_of(config), hidden_size=config["hidden_size"], dropconnect=0.0, dropout=0.0, mask_padding=False
    )
    names = PFN_NAMES | {"bert": "encoder.model"}
    model.load_state_dict(renamed(reference.weights(), names), strict=True)
    sentences = annotated(reference, labels)
    batches = [[sentences[i] for i in reference[f"{b}/sentences"].tolist()] for b in reference.groups("batch")]
    recipe = own_recipe("pfn", encoder_lr=made["lr"], head_lr=made["lr"])
    assert (recipe["clip"], recipe["eps"], recipe["schedule"]) == (made["clip"], made["eps"], made["schedule"])
    return Setup(reference, model.train(), batches, lambda stored: renamed(stored, names), recipe, PFN)


class StoredTables(Extractor):
    """The table-sequence network over stored word inputs and attention maps; a sentence stands for its arrays."""

    def __init__(self, reference: Reference) -> None:
        config = reference.config
        types = tuple(tag[2:] for tag in config["ner_tags"] if tag.startswith("B-"))
        relations = tuple(tag.split(":")[2] for tag in config["re_tags"] if ":fw:" in tag)
        super().__init__(Labels(types, relations, frozenset()), torch.nn.Module())
        self.reference = reference
        sizes = (config["word_input_size"], config["hidden_size"], config["attention_heads"], config["layers"])
        tags = len(config["ner_tags"]), len(config["re_tags"])
        self.network = table_sequence.TableSequence(*sizes, config["lm_attention_size"], *tags, 0.0)
        self.network.load_state_dict(table_sequence_weights(reference.weights()), strict=True)

    def training_batch(self, items: Sequence[Sentence]) -> Batch:
        longest = max(len(s.tokens) for s in items)
        stored = {n: [self.reference[f"{s.id}/{n}"] for s in items] for n in ("word_inputs", "lm_attention")}
        tensors = {n: torch.zeros(len(items), *[longest] * (a[0].ndim - 1), a[0].shape[-1]) for n, a in stored.items()}
        tensors["mask"] = torch.zeros(len(items), longest, dtype=torch.bool)
        tensors["entity_tags"] = torch.zeros(len(items), longest, dtype=torch.long)
        tensors["relation_tags"] = torch.zeros(len(items), longest, longest, dtype=torch.long)
        for b, s in enumerate(items):
            n = len(s.tokens)
            tensors["word_inputs"][b, :n] = stored["word_inputs"][b]
            tensors["lm_attention"][b, :n, :n] = stored["lm_attention"][b]
            tensors["mask"][b, :n] = True
            table_sequence.write_tags(self.labels, s, n, tensors["entity_tags"][b], tensors["relation_tags"][b])
        return Batch(items, tensors)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        scores = self.network(batch["word_inputs"], batch["lm_attention"], batch["mask"])
        return table_sequence.tag_losses(*scores, batch["mask"], batch["entity_tags"], batch["relation_tags"])


def table_system() -> Setup:
    reference = Reference("table_sequence_training.npz")
    made = reference.config["recipe"]
    model = StoredTables(reference)
    sentences = []
    for name in reference.groups("sentence"):
        entities = tuple(
            Entity(model.labels.entity_types[t], a, e) for t, a, e in reference[f"{name}/entities"].tolist()
        )
        relations = tuple(
            Relation(model.labels.relation_types[t], h, t2) for t, h, t2 in reference[f"{name}/relations"].tolist()
        )
        words = tuple("w" for _ in reference[f"{name}/word_inputs"])
        sentences.append(Sentence(name, words, entities, relations))
    batches = [[sentences[i] for i in reference[f"{b}/sentences"].tolist()] for b in reference.groups("batch")]
    recipe = own_recipe("table_sequence", encoder_lr=made["lr"], head_lr=made["lr"], warmup_steps=made["warm_steps"])
    assert (recipe["clip"], recipe["eps"], recipe["decay_rate"]) == (made["clip"], made["eps"], made["decay_rate"])

    def ours(stored: dict[str, Tensor]) -> dict[str, Tensor]:
        return {f"network.{name}": value for name, value in table_sequence_weights(stored).items()}

    return Setup(reference, model.train(), batches, ours, recipe, TABLE)


TABLES = {"pfn": pfn_system, "table_sequence": table_system}


@pytest.fixture(params=TABLES)
def tables(request) -> Setup:
    return TABLES[request.param]()


def test_table_systems_have_the_released_losses_and_gradients(tables):
    reference, tolerances = tables.reference, tables.tolerances
    with_gradients = 0
    for name, items in zip(reference.groups("batch"), tables.batches, strict=True):
        terms, found = gradients(tables.model, items)
        if f"{name}/divisor" in reference.arrays.files:
            divisor = float(reference[f"{name}/divisor"])
            divisors = tables.model.divisors([tables.model.training_batch(items)])
            assert set(divisors.values()) == {divisor}
        stored = {term: float(reference[f"{name}/loss_{term}"]) for term in ("entity", "relation")}
        whole = float(reference[f"{name}/loss"])
        # PFN's terms are stored before or after they are divided: the total says which
        factor = sum(stored.values()) / whole
        assert sum(terms.values()) == pytest.approx(whole, abs=tolerances.loss)
        for term, value in stored.items():
            assert terms[term] == pytest.approx(value / factor, abs=tolerances.loss)
        if gradient := reference.weights(f"{name}/gradient/"):
            with_gradients += 1
            for parameter, theirs in tables.ours(gradient).items():
                ours = found.get(parameter, torch.zeros_like(theirs))
                assert_close(ours, theirs, parameter, tolerances.gradient, tolerances.key_bias)
        norm = float(torch.stack([g.norm() for g in found.values()]).norm())
        assert norm == pytest.approx(float(reference[f"{name}/gradient_norm"].norm()), abs=10 * tolerances.norm)
    assert with_gradients


def test_six_steps_of_table_systems_are_the_released_ones(tables):
    reference, model, tolerances = tables.reference, tables.model, tables.tolerances
    losses = [
        lambda items=tables.batches[i]: model.loss(model.training_batch(items))
        for i in reference["trajectory/batches"].tolist()
    ]
    lost, used, norms = follow(new_optimizer(model, tables.recipe), tables.recipe, len(losses), losses)
    np.testing.assert_allclose(lost, reference["trajectory/loss"], atol=tolerances.loss, rtol=0)
    np.testing.assert_allclose(norms, reference["trajectory/gradient_norm"], atol=tolerances.norm, rtol=0)
    np.testing.assert_allclose([u[0] for u in used], reference["trajectory/learning_rate"], atol=1e-12, rtol=0)
    assert all(len(set(rates)) == 1 for rates in used)
    excluded = reference.config.get("exclude_columns", {})
    stored = reference.weights("trajectory/weight/")
    compared = {name: torch.ones_like(value) for name, value in stored.items()}
    for name, columns in excluded.items():
        compared[name][:, columns] = 0  # weights that multiply a unit which is zero but for rounding
    compared, weights = tables.ours(compared), dict(model.named_parameters())
    for name, theirs in tables.ours(stored).items():
        inside = compared[name].bool()
        assert_close(weights[name].detach()[inside], theirs[inside], name, tolerances.weight, tolerances.key_bias)


def test_pfn_labels_the_released_cells():
    setup = pfn_system()
    for sentence in annotated(setup.reference, setup.model.labels):
        batch = setup.model.training_batch([sentence])
        for ours, theirs in (("gold_entities", "entity_cells"), ("gold_relations", "relation_cells")):
            cells = {tuple(cell) for cell in batch[ours][:, 1:].tolist()}
            assert cells == {tuple(cell) for cell in setup.reference[f"{sentence.id}/{theirs}"].tolist()}
        counted: list[int] = []
        setup.model._cells = lambda logits, target, inside, counted=counted: (
            counted.append(int(inside.sum())) or logits.sum() * 0
        )
        setup.model.losses(batch)
        # every cell of two pieces of the sentence, for entities only where the second is not before the first
        assert counted == setup.reference[f"{sentence.id}/candidate_cells"].tolist()


def test_pfn_drops_connections_as_released():
    setup = pfn_system()
    kept = setup.reference["dropconnect/dropped"] == 0
    setup.model.partition_filter.kept = lambda weight: kept
    terms, found = gradients(setup.model, setup.batches[0])
    assert sum(terms.values()) == pytest.approx(float(setup.reference["dropconnect/loss"]), abs=PFN.loss)
    stored = setup.ours(setup.reference.weights("dropconnect/gradient/"))
    for name, theirs in stored.items():
        assert_close(found[name], theirs, name, PFN.gradient, PFN.key_bias)
    assert stored


def test_table_sequence_writes_the_released_tags():
    setup = table_system()
    sentences = {s.id: s for batch in setup.batches for s in batch}
    for name, sentence in sentences.items():
        batch = setup.model.training_batch([sentence])
        assert torch.equal(batch["entity_tags"][0], setup.reference[f"{name}/entity_tags"].long())
        assert torch.equal(batch["relation_tags"][0], setup.reference[f"{name}/relation_tags"].long())


def test_table_sequence_is_trained_at_the_released_rates():
    reference = Reference("table_sequence_training.npz")
    recipe = own_recipe("table_sequence")
    made = reference.config["recipe"]
    assert recipe["warmup_steps"] == made["released_warm_steps"] and recipe["head_lr"] == made["lr"]
    ours = [
        recipe["head_lr"] * inverse_time(step, recipe["warmup_steps"], recipe["decay_rate"])
        for step in reference["schedule/step"].tolist()
    ]
    np.testing.assert_allclose(ours, reference["schedule/learning_rate"], atol=1e-12, rtol=0)


# -- DyGIE++ without coreference -------------------------------------------------------------------------------------

DYGIE_NAMES = {
    "_embedder.token_embedder_bert._matched_embedder.transformer_model": "encoder.model",
    "_endpoint_span_extractor._span_width_embedding": "width",
    "_ner._ner_scorers.scierc__ner_labels.0._module._linear_layers.0": "entity.first",
    "_ner._ner_scorers.scierc__ner_labels.0._module._linear_layers.1": "entity.second",
    "_ner._ner_scorers.scierc__ner_labels.1._module": "entity.output",
    "_relation._mention_pruners.scierc__relation_labels._scorer.0._module._linear_layers.0": "mention.first",
    "_relation._mention_pruners.scierc__relation_labels._scorer.0._module._linear_layers.1": "mention.second",
    "_relation._mention_pruners.scierc__relation_labels._scorer.1._module": "mention.output",
    "_relation._relation_feedforwards.scierc__relation_labels._linear_layers.0": "relation.first",
    "_relation._relation_feedforwards.scierc__relation_labels._linear_layers.1": "relation.second",
    "_relation._relation_scorers.scierc__relation_labels": "relation.output",
}


@pytest.fixture(scope="module")
def dygie() -> tuple[Reference, dygiepp.System, list[list[Sentence]]]:
    reference = Reference("dygiepp.npz")
    config = reference.config
    encoder = bert_encoder(config["encoder"], cls=config["cls_token_id"], sep=config["sep_token_id"])
    labels = Labels(tuple(config["entity_types"]), tuple(config["relation_types"]), frozenset())
    model = dygiepp.System(
        labels,
        encoder,
        max_span_width=config["max_span_width"],
        width_size=config["feature_size"],
        hidden_size=config["feedforward_hidden"],
        spans_per_word=config["relation_spans_per_word"],
        entity_weight=config["loss_weights"]["ner"],
    )
    stored = {n: v for n, v in reference.weights().items() if n.startswith(tuple(DYGIE_NAMES))}
    model.load_state_dict(renamed(stored, DYGIE_NAMES), strict=True)
    documents = []
    for d, gold in enumerate(config["gold"]):
        sentences = []
        for k, (entities, relations) in enumerate(zip(gold["entities"], gold["relations"], strict=True)):
            name = f"document{d}/sentence{k}"
            words = words_of(reference[f"{name}/input_ids"], reference[f"{name}/word_offsets"])
            spans = [(a, e) for a, e, _ in entities]
            related = tuple(Relation(t, spans.index(tuple(h)), spans.index(tuple(x))) for h, x, t in relations)
            sentences.append(Sentence(name, words, tuple(Entity(t, a, e) for a, e, t in entities), related))
        documents.append(sentences)
    return reference, model.eval(), documents


def test_dygiepp_equals_the_released_code_without_coreference(dygie):
    reference, model, documents = dygie
    itself = 0
    for d, sentences in enumerate(documents):
        batch = model.training_batch(sentences)
        stored = f"document{d}/prop0"
        first = (batch["lengths"].cumsum(0) - batch["lengths"]).tolist()
        with torch.no_grad():
            hidden = model.encoder(batch["input_ids"], batch["attention_mask"])
            words = [reference[f"{s.id}/word_representation"] for s in sentences]
            torch.testing.assert_close(dygiepp.word_means(hidden, batch), torch.cat(words), atol=2e-5, rtol=0)
            entity, fits, kept, pairs, relation = model.scores(batch)
            terms = model.losses(batch)
        spans = [[k, a, e] for k, a, e in reference[f"document{d}/spans"].tolist()]
        ours = [(first[k] + a, e - a - 1) for k, a, e in spans]
        assert fits.sum() == len(spans) and all(fits[row, width] for row, width in ours)
        rows, widths = torch.tensor(ours).unbind(1)
        torch.testing.assert_close(entity[rows, widths], reference[f"{stored}/ner_scores"], atol=2e-5, rtol=0)
        assert kept.tolist() == [list(ours[i]) for i in reference[f"{stored}/relation_kept"].tolist()]
        theirs = torch.cat(
            [reference[f"{stored}/sentence{k}/relation_scores"].flatten(0, 1) for k in range(len(sentences))]
        )
        torch.testing.assert_close(relation, theirs, atol=2e-5, rtol=0)
        itself += int((pairs[:, 0] == pairs[:, 1]).sum())
        weights = reference.config["loss_weights"]
        for term, name in (("entity", "ner"), ("relation", "relation")):
            expected = weights[name] * float(reference[f"{stored}/loss_{name}"])
            assert float(terms[term]) == pytest.approx(expected, abs=2e-4)
        whole = float(reference[f"{stored}/loss_without_coreference"])
        assert float(model.loss(batch).detach()) == pytest.approx(whole, abs=2e-4)
    assert itself


def test_dygiepp_decodes_as_the_released_code(dygie):
    reference, model, documents = dygie
    found = dropped = 0
    for sentences, decoded in zip(documents, reference.config["decoded"], strict=True):
        predictions = model.decode(model.collate([s.without_labels() for s in sentences]))
        for ours, theirs in zip(predictions, decoded["prop0"]["sentences"], strict=True):
            spans = [(e.start, e.end) for e in ours.entities]
            assert sorted((*s, e.type) for s, e in zip(spans, ours.entities, strict=True)) == sorted(
                (a, e, t) for a, e, t, *_ in theirs["entities"]
            )
            released = {(tuple(h), tuple(t), kind) for h, t, kind, *_ in theirs["relations"]}
            # what the common format has no place for: a span with itself, spans that are no entities
            placed = {(h, t, kind) for h, t, kind in released if h != t and h in spans and t in spans}
            assert {(spans[r.head], spans[r.tail], r.type) for r in ours.relations} == placed
            found, dropped = found + len(placed), dropped + len(released) - len(placed)
    assert dropped
