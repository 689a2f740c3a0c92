"""How a dataset is printed; free of pandas, for the workflow reads it too."""


def dataset_title(name: str, declared: dict) -> str:
    """The title of a declared dataset, of one fold with its number: `ADE, fold 0`."""
    fold_of = declared.get("fold_of")
    return declared["title"] + (f", fold {name.removeprefix(f'{fold_of}-')}" if fold_of else "")
