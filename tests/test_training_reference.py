"""Training of our systems against figures of their authors' released training code: candidates, losses, gradients,
and six steps of the released recipe, within the tolerances of the reference's README.

The recipe is the system's `own` of `config/recipes.yaml`, with the rates and lengths that the figures were made with.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from baselines import dygiepp, pfn, pure, spert, table_sequence
from sinet.contract import Batch, Extractor, Labels, Sentence
from sinet.data.sentence import Entity, Relation
from sinet.encoders.encoder import pieces_after_the_first
from sinet.grid.config import read_config
from sinet.grid.recipes import spell_out
from sinet.model import sinet
from sinet.schema import TrainingRecipe
from sinet.train.optimiser import RecipeAdamW
from sinet.train.schedules import inverse_time, schedule
from sinet.train.steps import new_optimizer
from tests.conftest import set_on
from tests.reference import Reference, stored_encoder, words_of
from tests.test_reference import (
    PFN_NAMES,
    PURE_ENTITY_NAMES,
    PURE_RELATION_NAMES,
    SINET_NAMES,
    SPERT_NAMES,
    assert_dygie_predictions,
    dygie_documents,
    dygie_model,
    pure_model,
    renamed,
    table_sequence_labels,
    table_sequence_network,
    table_sequence_weights,
)

KEY_BIAS = "attention.self.key.bias"


class Tolerances(NamedTuple):
    """Absolute, of the reference's README: losses, gradients, their norms, weights after the trajectory, of which key
    biases, where they are stored."""

    loss: float
    gradient: float
    norm: float
    weight: float
    key_bias: float = 0.0


SPANS = Tolerances(1e-5, 2e-5, 1e-4, 5e-6, 2e-5)
ENTITY = Tolerances(2e-4, 5e-4, 1e-3, 5e-6, 5e-4)
RELATION = Tolerances(1e-5, 2e-5, 1e-4, 5e-6, 2e-5)
PFN = Tolerances(5e-4, 5e-4, 1e-3, 2e-5)
TABLE = Tolerances(5e-4, 2e-4, 5e-4, 5e-6)


def annotated(reference: Reference, labels: Labels) -> list[Sentence]:
    """The stored sentences with their annotations; of the table-sequence encoders the inputs stand for the words."""
    found = []
    for name in reference.groups("sentence"):
        entities = tuple(Entity(labels.entity_types[t], a, e) for t, a, e in reference[f"{name}/entities"].tolist())
        relations = tuple(
            Relation(labels.relation_types[t], head, tail) for t, head, tail in reference[f"{name}/relations"].tolist()
        )
        if f"{name}/input_ids" in reference.arrays.files:
            words = words_of(reference[f"{name}/input_ids"], reference[f"{name}/word_offsets"])
        else:
            words = ("w",) * len(reference[f"{name}/word_inputs"])
        found.append(Sentence(name, words, entities, relations))
    return found


def stored_batches(reference: Reference, labels: Labels) -> dict[str, list[Sentence]]:
    sentences = {s.id: s for s in annotated(reference, labels)}
    groups = reference.groups("batch")
    return {g: [sentences[f"sentence{i}"] for i in reference[f"{g}/sentences"].tolist()] for g in groups}


def training_labels(config: dict) -> Labels:
    """As many types as the file has, the symmetric ones by their numbers."""
    kinds = config.get("entity_type_names") or [f"E{i}" for i in range(config["entity_types"])]
    relations = tuple(f"R{i}" for i in range(config["relation_types"]))
    return Labels(tuple(kinds), relations, frozenset(relations[i] for i in config["symmetric_relation_types"]))


def own_recipe(system: str, stage: str | None = None, **figures: object) -> TrainingRecipe:
    """The recipe `own`, with what the figures were made with in place of the released rates and lengths."""
    recipe, _ = spell_out(read_config(), "own", system, "")
    return dict(recipe.trainings)[stage].model_copy(update=figures)


def assert_recipe(recipe: TrainingRecipe, made: dict, **names: str) -> None:
    """The recipe is the released one: what the file says of it, by its names, is what ours says."""
    assert {ours: getattr(recipe, ours) for ours in names} == {ours: made[theirs] for ours, theirs in names.items()}


class Setup(NamedTuple):
    """A system with the stored weights, and what one of its stored figures is called here.

    `batches` holds the training items of the stored batches, `ours` makes parameters of released names ours.
    """

    reference: Reference
    model: Extractor
    batches: dict[str, Sequence]
    ours: Callable[[dict[str, Tensor]], dict[str, Tensor]]
    recipe: TrainingRecipe
    tolerances: Tolerances


def span_system(name: str) -> Setup:
    reference = Reference(f"{name}_training.npz")
    config, made = reference.config, reference.config["recipe"]
    system, names = {"sinet": (sinet.System, SINET_NAMES), "spert": (spert.System, SPERT_NAMES)}[name]
    sizes = {"max_span_width": config["max_span_width"], "width_size": config["width_embedding_size"], "dropout": 0.0}
    if name == "sinet":
        sizes |= {"heads": config["attention_heads"], "attention_dropout": 0.0, "mask_padding": False}
    labels = training_labels(config)
    model = system(labels, stored_encoder(config), negative_spans=10**6, negative_pairs=10**6, **sizes)
    model.width = torch.nn.Embedding(config["width_table_rows"], config["width_embedding_size"])
    model.load_state_dict(renamed(reference.weights(), names), strict=True)
    rates = {"encoder_lr": made["lr"], "head_lr": made["lr"], "warmup": made["warmup_steps"] / made["total_steps"]}
    recipe = own_recipe(name, **rates)
    assert_recipe(recipe, made, clip="max_grad_norm", weight_decay="weight_decay", eps="eps")
    batches = stored_batches(reference, labels)
    return Setup(reference, model.train(), batches, partial(renamed, names=names), recipe, SPANS)


def pure_system(stage: str) -> Setup:
    reference = Reference(f"pure_{stage}_training.npz")
    made = reference.config["recipe"]
    names, head_lr, tolerances = {
        "entity": (PURE_ENTITY_NAMES, "task_learning_rate", ENTITY),
        "relation": (PURE_RELATION_NAMES, "learning_rate", RELATION),
    }[stage]
    dropouts = {"dropout": 0.0, "hidden_dropout": 0.0, "relation_dropout": 0.0}
    model = pure_model(reference, names, training_labels(reference.config), **dropouts).train()
    model.stage = stage
    batches = {b: model.training_items(s) for b, s in stored_batches(reference, model.labels).items()}
    rates = {"encoder_lr": made["learning_rate"], "head_lr": made[head_lr]}
    recipe = own_recipe("pure", stage, warmup=made["warmup_proportion"], **rates)
    assert_recipe(recipe, made, weight_decay="weight_decay", eps="eps")
    return Setup(reference, model, batches, partial(renamed, names=names), recipe, tolerances)


def pfn_system() -> Setup:
    reference = Reference("pfn_training.npz")
    config, made = reference.config, reference.config["recipe"]
    labels = training_labels(config)
    settings = {"hidden_size": config["hidden_size"], "dropconnect": 0.0, "dropout": 0.0, "mask_padding": False}
    model = pfn.System(labels, stored_encoder(config), **settings)
    model.load_state_dict(renamed(reference.weights(), PFN_NAMES), strict=True)
    recipe = own_recipe("pfn", encoder_lr=made["lr"], head_lr=made["lr"])
    assert_recipe(recipe, made, clip="clip", eps="eps", weight_decay="weight_decay", schedule="schedule")
    batches = stored_batches(reference, labels)
    return Setup(reference, model.train(), batches, partial(renamed, names=PFN_NAMES), recipe, PFN)


class StoredTables(Extractor):
    """The table-sequence network over stored word inputs and attention maps; a sentence stands for its arrays."""

    def __init__(self, reference: Reference) -> None:
        super().__init__(table_sequence_labels(reference.config), torch.nn.Module())
        self.reference = reference
        self.inputs = ["word_inputs", "lm_attention"][: 2 if reference.config["lm_attention_size"] else 1]
        self.network = table_sequence_network(reference.config, reference.weights())

    def training_batch(self, items: Sequence[Sentence]) -> Batch:
        longest = max(len(s.tokens) for s in items)
        stored = {n: [self.reference[f"{s.id}/{n}"] for s in items] for n in self.inputs}
        tensors = {n: torch.zeros(len(items), *[longest] * (a[0].ndim - 1), a[0].shape[-1]) for n, a in stored.items()}
        tensors["mask"] = torch.zeros(len(items), longest, dtype=torch.bool)
        tensors["entity_tags"] = torch.zeros(len(items), longest, dtype=torch.long)
        tensors["relation_tags"] = torch.zeros(len(items), longest, longest, dtype=torch.long)
        for b, s in enumerate(items):
            n = len(s.tokens)
            for name, arrays in stored.items():
                tensors[name][b][(slice(n),) * (arrays[b].ndim - 1)] = arrays[b]
            tensors["mask"][b, :n] = True
            table_sequence.write_tags(self.labels, s, n, tensors["entity_tags"][b], tensors["relation_tags"][b])
        return Batch(items, tensors)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        scores = self.network(batch["word_inputs"], batch.tensors.get("lm_attention"), batch["mask"])
        return table_sequence.tag_losses(*scores, batch["mask"], batch["entity_tags"], batch["relation_tags"])


def table_system() -> Setup:
    reference = Reference("table_sequence_training.npz")
    made = reference.config["recipe"]
    model = StoredTables(reference)
    recipe = own_recipe("table_sequence", encoder_lr=made["lr"], head_lr=made["lr"], warmup_steps=made["warm_steps"])
    assert_recipe(recipe, made, clip="clip", eps="eps", weight_decay="weight_decay", decay_rate="decay_rate")

    def ours(stored: dict[str, Tensor]) -> dict[str, Tensor]:
        return {f"network.{name}": value for name, value in table_sequence_weights(stored).items()}

    return Setup(reference, model.train(), stored_batches(reference, model.labels), ours, recipe, TABLE)


SETUPS: dict[str, Callable[[], Setup]] = {
    "sinet": partial(span_system, "sinet"),
    "spert": partial(span_system, "spert"),
    "pure_entity": partial(pure_system, "entity"),
    "pure_relation": partial(pure_system, "relation"),
    "pfn": pfn_system,
    "table_sequence": table_system,
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


def squared_norms(setup: Setup, found: dict[str, Tensor]) -> dict[str, float]:
    """The squared norm of the gradient of every released parameter, of gradients under our names.

    We split some of their weights and stack others: a weight filled with its number, brought under our names, says of
    each of our entries where it comes from.
    """
    parameters = setup.reference.config["parameters"]
    numbers = {
        name: torch.full_like(setup.reference[f"weight/{name}"], i, dtype=torch.double)
        for i, name in enumerate(parameters)
    }
    sums = torch.zeros(len(parameters), dtype=torch.double)
    for name, origin in setup.ours(numbers).items():
        if name in found:
            sums.index_add_(0, origin.long().flatten(), found[name].double().square().flatten())
    return dict(zip(parameters, sums.tolist(), strict=True))


def assert_close(ours: Tensor, theirs: Tensor, name: str, tolerance: float) -> None:
    assert ours.shape == theirs.shape, name
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0, msg=lambda text: f"{name}: {text}")


def test_losses_and_gradients_are_the_released_ones(setup):
    reference, tolerances = setup.reference, setup.tolerances
    for name, items in setup.batches.items():
        if not len(items):
            continue
        terms, found = gradients(setup.model, items)
        assert sum(terms.values()) == pytest.approx(float(reference[f"{name}/loss"]), abs=tolerances.loss)
        if f"{name}/divisor" in reference.arrays.files:
            divisors = setup.model.divisors([setup.model.training_batch(items)])
            assert set(divisors.values()) == {float(reference[f"{name}/divisor"])}
        for term, value in terms.items():
            if f"{name}/loss_{term}" in reference.arrays.files:
                theirs = float(reference[f"{name}/loss_{term}"])
                assert value == pytest.approx(theirs, abs=tolerances.loss), (name, term)
        gradient = reference.weights(f"{name}/gradient/")  # of some batches; of the others their norms
        for parameter, theirs in (setup.ours(gradient) if gradient else {}).items():
            assert_close(found[parameter], theirs, parameter, tolerances.gradient)
        norms = reference[f"{name}/gradient_norm"].tolist()
        for (released, squared), theirs in zip(squared_norms(setup, found).items(), norms, strict=True):
            assert squared**0.5 == pytest.approx(theirs, abs=tolerances.norm), (name, released)


@pytest.mark.parametrize("name", ["sinet", "spert"])
def test_span_systems_draw_the_released_candidates(name):
    setup = span_system(name)
    reference, model = setup.reference, setup.model
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


def test_reverses_of_symmetric_pairs_need_not_be_negatives():
    setup = span_system("spert")
    set_on(setup.model, negative_reverses=False)
    symmetric = [setup.model.labels.relation_types.index(name) for name in setup.model.labels.symmetric]
    for sentence in annotated(setup.reference, setup.model.labels):
        batch = setup.model.training_batch([sentence])
        types = batch["candidate_relations"]
        folded = {tuple(p) for p in batch["candidate_pairs"][types[:, symmetric].any(1)].tolist()}
        negative = {tuple(p) for p in batch["candidate_pairs"][~types.any(1)].tolist()}
        released = {tuple(p) for p in setup.reference[f"{sentence.id}/negative_pairs"].tolist()}
        assert negative == released - {(tail, head) for head, tail in folded}


def test_pure_labels_every_span_and_pair_as_released():
    setup = pure_system("entity")
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

    setup = pure_system("relation")
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
    if "examples/pair" not in reference.arrays.files:
        return [setup.batches[f"batch{i}"] for i in chosen]
    # PURE's relation model: rows of all examples, each a sentence and the number of its pair
    pairs = {s.id: setup.model.training_items([s]) for s in annotated(reference, setup.model.labels)}
    examples = list(zip(reference["examples/sentence"].tolist(), reference["examples/pair"].tolist(), strict=True))
    return [
        [pairs[f"sentence{s}"][p] for s, p in (examples[i] for i in reference[f"{prefix}/examples{k}"].tolist())]
        for k in chosen
    ]


def follow(
    optimizer: RecipeAdamW, recipe: TrainingRecipe, total: int, losses: Sequence[Callable[[], Tensor]]
) -> tuple[list[float], list[list[float]], list[float]]:
    """Losses, rates by group and gradient norms of steps of a recipe: the trainer's own optimiser and schedule."""
    rates = schedule(optimizer, recipe, total)
    lost, used, norms = [], [], []
    for compute in losses:
        optimizer.zero_grad(set_to_none=True)
        loss = compute()
        loss.backward()
        weights = (p for group in optimizer.param_groups for p in group["params"])
        norms.append(float(nn.utils.get_total_norm([p.grad for p in weights if p.grad is not None])))
        used.append([group["lr"] for group in optimizer.param_groups])
        optimizer.clipped_step(recipe.clip, recipe.clip_by_part)
        rates.step()
        lost.append(float(loss.detach()))
    return lost, used, norms


def assert_weights(setup: Setup, prefix: str) -> None:
    """The weights after a stored trajectory, but for those that multiply what is zero but for rounding."""
    stored = setup.reference.weights(f"{prefix}/weight/")
    compared = {name: torch.ones_like(value) for name, value in stored.items()}
    for name, columns in setup.reference.config.get("exclude_columns", {}).items():
        compared[name][:, columns] = 0
    compared, weights = setup.ours(compared), dict(setup.model.named_parameters())
    assert stored
    for name, theirs in setup.ours(stored).items():
        inside = compared[name].bool()
        tolerance = setup.tolerances.key_bias if name.endswith(KEY_BIAS) else setup.tolerances.weight
        assert_close(weights[name].detach()[inside], theirs[inside], name, tolerance)


def test_six_steps_of_the_own_recipe_are_the_released_ones(setup):
    reference, model, tolerances = setup.reference, setup.model, setup.tolerances
    batches = trajectory_batches(setup, "trajectory")
    total = reference.config["recipe"].get("total_steps", len(batches))  # without: no rate depends on it
    losses = [lambda items=items: model.loss(model.training_batch(items)) for items in batches]
    lost, used, norms = follow(new_optimizer(model, setup.recipe), setup.recipe, total, losses)
    np.testing.assert_allclose(lost, reference["trajectory/loss"], atol=tolerances.loss, rtol=0)
    np.testing.assert_allclose(norms, reference["trajectory/gradient_norm"], atol=tolerances.norm, rtol=0)
    # one rate or two: the groups are not ours, what they hold shows in the weights
    rates = reference["trajectory/learning_rate"].double().view(len(used), -1)
    for ours, theirs in zip(used, rates.tolist(), strict=True):
        np.testing.assert_allclose((min(ours), max(ours)), (min(theirs), max(theirs)), atol=1e-12, rtol=0)
    assert_weights(setup, "trajectory")


@pytest.mark.parametrize("name", ["sinet", "spert"])
def test_a_step_without_pairs_moves_the_relation_classifier_on(name):
    setup = span_system(name)
    reference, model = setup.reference, setup.model
    batches = trajectory_batches(setup, "trajectory_no_pairs")
    total = reference.config["recipe"]["total_steps"]
    losses = [lambda items=items: model.loss(model.training_batch(items)) for items in batches]
    lost, _, _ = follow(new_optimizer(model, setup.recipe), setup.recipe, total, losses)
    np.testing.assert_allclose(lost, reference["trajectory_no_pairs/loss"], atol=SPANS.loss, rtol=0)
    assert_weights(setup, "trajectory_no_pairs")


# -- PFN and table-sequence encoders: what they are trained on ---------------------------------------------------------


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
    terms, found = gradients(setup.model, next(iter(setup.batches.values())))
    assert sum(terms.values()) == pytest.approx(float(setup.reference["dropconnect/loss"]), abs=PFN.loss)
    stored = setup.ours(setup.reference.weights("dropconnect/gradient/"))
    for name, theirs in stored.items():
        assert_close(found[name], theirs, name, PFN.gradient)
    assert stored


def test_table_sequence_writes_the_released_tags():
    setup = table_system()
    for sentence in annotated(setup.reference, setup.model.labels):
        batch = setup.model.training_batch([sentence])
        for name in ("entity_tags", "relation_tags"):
            assert torch.equal(batch[name][0], setup.reference[f"{sentence.id}/{name}"].long())


def test_table_sequence_is_trained_at_the_released_rates():
    reference = Reference("table_sequence_training.npz")
    recipe = own_recipe("table_sequence")
    made = reference.config["recipe"]
    assert recipe.warmup_steps == made["released_warm_steps"] and recipe.head_lr == 1e-3
    ours = [
        made["lr"] * inverse_time(step, recipe.warmup_steps, recipe.decay_rate)
        for step in reference["schedule/step"].tolist()
    ]
    np.testing.assert_allclose(ours, reference["schedule/learning_rate"], atol=1e-12, rtol=0)


# -- DyGIE++ without coreference -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dygie() -> tuple[Reference, dygiepp.System, list[list[Sentence]]]:
    reference = Reference("dygiepp.npz")
    return reference, dygie_model(reference), dygie_documents(reference)


def test_dygiepp_equals_the_released_code_without_coreference(dygie):
    reference, model, documents = dygie
    for d, sentences in enumerate(documents):
        batch = model.training_batch(sentences)
        stored = f"document{d}/prop0"
        first = (batch["lengths"].cumsum(0) - batch["lengths"]).tolist()
        with torch.no_grad():
            hidden = model.encoder(batch["input_ids"], batch["attention_mask"])
            words = [reference[f"{s.id}/word_representation"] for s in sentences]
            torch.testing.assert_close(dygiepp.word_means(hidden, batch), torch.cat(words), atol=2e-5, rtol=0)
            entity, fits, kept, _, relation, _ = model.scores(batch)
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
        weights = reference.config["loss_weights"]
        loss = {name: float(reference[f"{stored}/loss_{name}"]) for name in ("ner", "relation")}
        assert float(terms["entity"]) == pytest.approx(weights["ner"] * loss["ner"], abs=2e-4)
        assert float(terms["relation"]) == pytest.approx(loss["relation"], abs=2e-4)  # as released: weight 1
        whole = float(reference[f"{stored}/loss_without_coreference"]) + (1 - weights["relation"]) * loss["relation"]
        assert float(model.loss(batch).detach()) == pytest.approx(whole, abs=2e-4)


def test_dygiepp_decodes_as_the_released_code(dygie):
    reference, model, documents = dygie
    for sentences, decoded in zip(documents, reference.config["decoded"], strict=True):
        predictions = model.decode(model.collate([s.without_labels() for s in sentences]))
        for ours, theirs in zip(predictions, decoded["prop0"]["sentences"], strict=True):
            assert_dygie_predictions(ours, theirs)


def test_dygiepp_labels_the_released_pairs(dygie, monkeypatch):
    """`relation_gold`, the diagonal included."""
    reference, model, documents = dygie
    targets: list[Tensor] = []
    entropy = dygiepp.F.cross_entropy

    def recorded(scores: Tensor, target: Tensor, **settings: object) -> Tensor:
        targets.append(target)
        return entropy(scores, target, **settings)

    monkeypatch.setattr(dygiepp.F, "cross_entropy", recorded)
    for d, sentences in enumerate(documents):
        targets.clear()
        model.losses(model.training_batch(sentences))
        gold = [reference[f"document{d}/prop0/sentence{k}/relation_gold"].flatten() for k in range(len(sentences))]
        assert any(torch.equal(target, torch.cat(gold).long()) for target in targets)


def test_dygiepp_reads_the_released_words():
    """The released embedder on its own; a word there may lack pieces, here it cannot."""
    stored = Reference("dygiepp.npz")
    start, end = stored["embedder/word_offsets"].unbind(1)
    real = end > start
    batch = {"word_start": start[real], "word_end": end[real]}
    batch["later_pieces"], batch["later_words"] = pieces_after_the_first(*batch.values())
    ours = dygiepp.word_means(stored["embedder/pieces"].unsqueeze(0), batch)
    torch.testing.assert_close(ours, stored["embedder/words"][real], atol=2e-5, rtol=0)
