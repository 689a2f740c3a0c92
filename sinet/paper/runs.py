"""Finished runs as figures and captions take them: by model, with what they were measured on."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sinet.files import check_sum, read_sealed
from sinet.paper.style import looks


class Runs:
    """Records of the runs on one dataset with one encoder, grouped by model in the order of the grid."""

    def __init__(self, records: Sequence[Path], models: Mapping[str, dict]) -> None:
        self.datasets: set[str] = set()
        self.folders: dict[str, list[Path]] = {}
        self.records: dict[str, list[dict]] = {}
        for path in records:
            record = read_sealed(path, "dataset", "model", "seed", "recipe", "selection", "precision", "test_sentences")
            self.datasets.add(record["dataset"])
            self.folders.setdefault(record["model"], []).append(path.parent)
            self.records.setdefault(record["model"], []).append(record)
        self.titles = {model: models[model]["title"] for model in self.records}
        self.looks = looks({model: declared["system"] for model, declared in models.items()})

    def f1(self, model: str, metric: str) -> list[float]:
        """F1 x 100 of each seed."""
        return [record["scores"]["symmetric"][metric]["f1"] for record in self.records[model]]

    def files(self, model: str, name: str) -> list[Path]:
        """A file of each seed's run, found to be what it was."""
        paths = [folder / name for folder in self.folders[model]]
        for path in paths:
            check_sum(path)
        return paths

    def measured_on(self) -> str:
        """Recipe, selection, seeds, precision, device and split of the runs, as a caption says it."""
        all_ = [record for records in self.records.values() for record in records]

        def of(value: Callable[[dict], object]) -> str:
            return " / ".join(map(str, dict.fromkeys(map(value, all_))))

        return (
            f"recipe {of(lambda r: r['recipe']['name'])}, selection {of(lambda r: r['selection'])}, {self._seeds()}, "
            f"{of(lambda r: r['precision'])}, "
            + of(lambda r: f"{r['device_name']} ({r['device']}, {r['threads']} threads)")
            + f"; scored on the {of(lambda r: r['split'])} split ({of(lambda r: r['test_sentences'])} sentences)"
        )

    def _seeds(self) -> str:
        """The seeds, of which models where they are not those of all."""
        models: dict[str, list[str]] = {}
        for model, records in self.records.items():
            models.setdefault(" / ".join(str(record["seed"]) for record in records), []).append(self.titles[model])
        each = [f"seeds {seeds}" + f" ({', '.join(of)})" * (len(models) > 1) for seeds, of in models.items()]
        return ", ".join(each)
