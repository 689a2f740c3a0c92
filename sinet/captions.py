"""What captions, notes and messages say of datasets, machines, commits and runs; each is said in one place, here."""

from collections.abc import Callable, Mapping, Sequence

from sinet.grid import recipes


def dataset_title(name: str, declared: dict) -> str:
    """The title of a declared dataset, of one fold with its number: `ADE, fold 0`."""
    fold_of = declared.get("fold_of")
    return declared["title"] + (f", fold {name.removeprefix(f'{fold_of}-')}" if fold_of else "")


def machine(record: Mapping) -> str:
    """The device of a record; both its names and its threads."""
    return "{device_name} ({device}, {threads} threads)".format_map(record)


def short_commit(commit: str) -> str:
    """A commit as people write it; `+` at its end means that there were changes besides."""
    return commit[:12] + "+" * commit.endswith("+")


def span(sizes: Sequence[int]) -> str:
    """`551`, or `230 to 551` of several numbers."""
    return " to ".join(map(str, sorted({min(sizes), max(sizes)})))


def measured_on(runs: Sequence[dict], titles: Mapping[str, str], dataset: str) -> list[str]:
    """What runs on a dataset with an encoder were measured on, a text for each recipe, split, machine and precision.

    What differs between models, as the length of training under one recipe, is said of each.

    Args:
        titles: of the models. dataset: of which the runs' may be folds.
    """
    settings: dict[tuple, list[dict]] = {}
    for run in runs:
        settings.setdefault((run["recipe"]["name"], run["split"], machine(run), run["precision"]), []).append(run)
    return [
        f"{split} split ({span([run['test_sentences'] for run in of])} sentences), {_folds(dataset, of)}symmetric "
        f"types direction-free; recipe {recipe} ({_by_model(of, titles, _training)}); {on}, {precision}; "
        f"seeds {_seeds(of, titles)}"
        for (recipe, split, on, precision), of in settings.items()
    ]


def _training(runs: Sequence[dict]) -> str:
    recipe = recipes.recorded(runs[0])
    return f"{recipes.length(recipe)}, selection {recipes.selection(recipe)}"


def _seeds(runs: Sequence[dict], titles: Mapping[str, str]) -> str:
    def of_model(runs: Sequence[dict]) -> str:
        return ", ".join(map(str, dict.fromkeys(run["seed"] for run in runs)))

    return _by_model(runs, titles, of_model)


def _by_model(runs: Sequence[dict], titles: Mapping[str, str], said: Callable[[Sequence[dict]], str]) -> str:
    """A text of each model's runs, once where it is the same for all."""
    models: dict[str, list[dict]] = {}
    for run in runs:
        models.setdefault(titles[run["model"]], []).append(run)
    texts: dict[str, list[str]] = {}
    for title, of in models.items():
        texts.setdefault(said(of), []).append(title)
    return "; ".join(text if len(texts) == 1 else f"{text} for {', '.join(of)}" for text, of in texts.items())


def _folds(dataset: str, runs: Sequence[dict]) -> str:
    folds = {run["dataset"] for run in runs}
    if folds == {dataset}:
        return ""
    if len(folds) == 1:
        return f"fold {next(iter(folds)).removeprefix(f'{dataset}-')} alone, "
    return f"mean over the {len(folds)} folds of each seed, "
