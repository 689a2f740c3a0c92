"""Recipes: how systems are trained, from what the configuration says to what the trainer reads.

What a recipe does not name is as `recipe_defaults` of `config/recipes.yaml` has it, or as the recipe's own `defaults`;
what it says of a dataset comes last. Spelled out, a recipe is a `sinet.schema.Recipe`.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

from sinet import systems
from sinet.errors import counted
from sinet.schema import Config, Recipe, TrainingRecipe

SELECTIONS = {
    "last": (),
    "dev_ent": ("ent",),
    "dev_rel": ("rel",),
    "dev_rel_plus": ("rel_plus",),
    "dev_ent_rel": ("ent", "rel"),
    "dev_ent_rel_plus": ("ent", "rel_plus"),
}
"""Which weights are selected: the last ones, or those with the highest sum of these F1 on dev."""
OF_SCHEDULES = {
    "warmup_steps": ("inverse_time",),
    "decay_rate": ("inverse_time", "exponential"),
    "decay_steps": ("exponential",),
}
"""Keys of a recipe that only these schedules read."""


def spell_out(config: Config, name: str, system: str, dataset: str) -> tuple[Recipe, dict[str, Any]]:
    """A recipe for a system on a dataset with every key, and the system's settings."""
    recipe = config.recipes[name]
    own = recipe[system].declared()
    stages = own.pop("stages", {})
    for_dataset = own.pop("datasets", {}).get(dataset, {})
    stages_for_dataset = for_dataset.pop("stages", {})
    settings = own.pop("settings", {}) | for_dataset.pop("settings", {})
    common = recipe["defaults"].declared() if "defaults" in recipe else {}
    training = config.recipe_defaults.model_dump() | common | own | for_dataset
    parts = {part: training | stage | for_dataset | stages_for_dataset.get(part, {}) for part, stage in stages.items()}
    return Recipe.model_validate({"name": name} | training | {"stages": parts}), settings


def recorded(record: dict[str, Any]) -> Recipe:
    """The recipe that a record was trained by."""
    return Recipe.model_validate(record["recipe"])


def length_of(training: TrainingRecipe) -> str:
    """How long one training is, for a caption."""
    return f"{training.steps:,} steps" if training.steps else counted(training.epochs or 0, "epoch")


def length(recipe: Recipe) -> str:
    """How long a recipe trains, for a caption."""
    return _of_each(recipe, length_of)


def selection(recipe: Recipe) -> str:
    """Which weights a recipe selects, for a caption."""
    return _of_each(recipe, lambda t: t.selection)


def _of_each(recipe: Recipe, what: Callable[[TrainingRecipe], str]) -> str:
    return ", ".join(f"{part} {what(t)}" if part else what(t) for part, t in recipe.trainings)


def needs_documents(recipe: Recipe, system: str, settings: dict[str, Any]) -> str | None:
    """What of a recipe, or of a system's settings, asks for documents, as it stands in a file; None if nothing does."""
    if any(t.batch_size == "document" for _, t in recipe.trainings):
        return "batch_size: document"
    of = systems.settings(system)(**settings)
    return next((f"{name}: {window}" for name in of.windows if (window := getattr(of, name))), None)


def mistakes(recipe: Recipe, system: str) -> Iterator[str]:
    """What does not go together in the recipe of a system: the key and what would be right."""
    of = systems.settings(system)
    parts = [name for name in of.parts if name]
    if unknown := [name for name in recipe.stages if name not in parts]:
        right = " and ".join(parts) if parts else "none, the system is one model"
        yield f"stages: {unknown[0]!r} is not a part of the system; its parts are {right}"
    elif recipe.stages and (missing := [name for name in parts if name not in recipe.stages]):
        yield f"stages: {missing[0]!r} would not be trained; name all of {', '.join(parts)}"
    for name, t in recipe.trainings:
        where = f"stages.{name}." if name else ""
        if (t.epochs is None) == (t.steps is None):
            yield f"{where}epochs: give either epochs or steps"
        if t.encoder_lr is None and of.trains_encoder:
            yield f"{where}encoder_lr: {system} trains its encoder; give a rate, not null"
        if t.encoder_lr is None and t.layer_decay != 1:
            yield f"{where}layer_decay: the encoder has no rate that could fall; write 1.0"
        whole = t.evaluate_every == int(t.evaluate_every)
        if t.steps is not None and not whole:
            yield f"{where}evaluate_every: {t.evaluate_every} should be a whole number of steps, as the length is"
        if t.epochs is not None and t.evaluate_every > 1 and not whole:
            yield f"{where}evaluate_every: {t.evaluate_every} should be a share of an epoch or a number of them"
        if t.train_on == "train+dev" and t.selection != "last":
            yield f"{where}selection: {t.selection} needs a dev split that is not trained on; write last"
        if t.optimizer == "adam" and (t.weight_decay or t.encoder_weight_decay):
            yield f"{where}weight_decay: Adam has no weight decay here; write 0.0, or optimizer: adamw"
        if not t.bias_correction and t.optimizer != "transformers_adamw":
            yield f"{where}bias_correction: only transformers_adamw can leave it out; write true"
        for key, schedules in OF_SCHEDULES.items():
            if getattr(t, key) and t.schedule not in schedules:
                yield f"{where}{key}: belongs to {' and '.join(schedules)}, not to {t.schedule}; write 0"
        for key in ("warmup_steps", "decay_steps"):
            if t.steps is not None and (value := getattr(t, key)) >= t.steps:
                yield f"{where}{key}: {value} should be less than the {t.steps} steps in all"
        if t.schedule == "exponential" and not 0 < t.decay_rate < 1:
            yield f"{where}decay_rate: {t.decay_rate} should be above 0 and below 1, as the rate is multiplied by it"
        if t.schedule == "exponential" and not t.decay_steps:
            yield f"{where}decay_steps: 0 should be the steps after which the rate falls, at least 1"
        if t.batch_size == "document":
            if t.drop_last:
                yield f"{where}drop_last: a batch that is a document is never incomplete; write false"
            if t.order not in ("shuffled", "data"):
                yield f"{where}order: {t.order} is by length, not for documents; write shuffled or data"
            if parts:
                yield f"{where}batch_size: document is for systems of one model; write a number"
        if t.select_after >= (t.steps or t.epochs or math.inf):
            yield f"{where}select_after: {t.select_after} should be less than {length_of(t)}"
        if t.selection == "last" and (t.select_after or t.patience):
            yield f"{where}selection: last selects nothing on dev; select_after should be 0 and patience null with it"
        figure = of.judged_by.get(name or "", "")
        if not all(metric.startswith(figure) for metric in SELECTIONS[t.selection]):
            yield f"{where}selection: {t.selection} does not measure the {name} model; write dev_{figure}"
    if len({t.train_on for _, t in recipe.trainings}) > 1:
        yield "stages: train_on should be the same for all; a split that one trains on cannot evaluate another"
