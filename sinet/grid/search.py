"""A search for a recipe on equal terms: the same random trials for every system, judged on dev alone.

`config/search/search.yaml` declares it. `trials_grid` lays its trials out as a grid, so they are trained, resumed and
run on a cluster as any runs are; no step of them reads the test split. `sinet.infer.choose` takes the best.
"""

import json
import math
import random
from pathlib import Path
from typing import Any

from sinet.errors import UserError, nearest
from sinet.grid.bounded_yaml import read_yaml
from sinet.grid.config import checked, lay_over
from sinet.grid.mistakes import validated
from sinet.schema import Search

SETTINGS = "settings."
"""How the name of a system's setting begins in a space."""


def read_search(path: Path) -> Search:
    """A declared search; raises `UserError` for mistakes in the file."""
    return validated(Search, read_yaml(path), where=f"{path}: ")


def draw(search: Search) -> list[dict[str, Any]]:
    """What each trial changes in the recipe: every value drawn by itself, uniformly, rates uniformly in their
    logarithm. The draws are the same for all systems and datasets; more trials leave the first as they were."""
    return [{key: _drawn(search, trial, key) for key in search.space} for trial in range(search.trials)]


def _drawn(search: Search, trial: int, key: str) -> Any:
    of = search.space[key]
    rng = random.Random(f"{search.seed} {trial} {key}")
    if of.least is None or of.most is None:
        return rng.choice(of.one_of or [])
    return float(f"{math.exp(rng.uniform(math.log(of.least), math.log(of.most))):.1e}")


def trials_grid(search: Search, config: dict[str, Any], results: str) -> dict[str, Any]:
    """What to lay over a configuration so that its grid holds the trials and nothing else: a recipe `trial-K` and
    models `MODEL.trial-K` each.

    Raises:
        UserError: a model, recipe, dataset or encoder that is not declared, a system without the settings of the space,
            or values that the configuration's checks refuse.
    """
    for what, names in (("models", search.models), ("recipes", [search.recipe])):
        for name in names:
            if name not in config[what]:
                raise UserError(f"search: {name!r} is none of the {what}, {nearest(name, config[what])}")
    recipe = config["recipes"][search.recipe]
    grid: dict[str, Any] = {"models": {}, "recipes": {}, "grid": []}
    for number, changes in enumerate(draw(search)):
        trial = f"trial-{number}"
        grid["recipes"][trial] = {"defaults": recipe.get("defaults", {})}
        for model in search.models:
            declared = config["models"][model]
            system = declared["system"]
            if system not in recipe:
                raise UserError(f"search: recipe {search.recipe} has none for {system}, the system of {model}")
            grid["recipes"][trial][system] = changed(recipe[system], changes)
            title = f"{declared['title']}, {trial}"
            grid["models"][f"{model}.{trial}"] = declared | {"title": title, "published": None, "setting": None}
        models = [f"{model}.{trial}" for model in search.models]
        block = {"datasets": search.datasets, "encoders": [search.encoder], "models": models, "recipe": trial}
        grid["grid"].append(block | {"seeds": search.seeds})
    grid |= {"results": results, "archive": None, "efficiency": None, "case_study": None, "reference": None}
    whole: dict[str, Any] = {}
    lay_over(whole, json.loads(json.dumps(config)))
    lay_over(whole, grid)
    checked(whole)
    return grid


def changed(own: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A recipe for a system with what a trial changes, without what an earlier search has chosen for single datasets; a
    frozen encoder stays so."""
    own = {key: value for key, value in own.items() if key != "datasets"}
    drawn = {key: value for key, value in changes.items() if not key.startswith(SETTINGS)}
    settings = {key.removeprefix(SETTINGS): value for key, value in changes.items() if key.startswith(SETTINGS)}
    if "encoder_lr" in own and own["encoder_lr"] is None:
        drawn.pop("encoder_lr", None)
    return own | drawn | {"settings": own.get("settings", {}) | settings}
