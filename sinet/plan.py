"""The plan of a grid as a file, `RESULTS/plan.json`: what the steps after training know of it, and where its runs lie.

Steps are given the file and find what they need below its folder, so that no command grows with the number of runs.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from sinet.errors import UserError
from sinet.files import read_sealed, write_sealed
from sinet.published import is_system

KEYS = (
    *("datasets", "encoders", "models", "reference", "remark", "runs", "failed", "kept", "left_out"),
    *("tables", "figures", "measured", "case_study"),
)


@dataclass(frozen=True)
class GridPlan:
    """A grid whose outputs lie below `results`.

    `declared`: `datasets`, `encoders`, `models` (titles and the like by name); the `reference`, the model of the grid
    that the others are compared with, or None; the grid's `remark`; `runs` (path to recipe) in the order of the grid,
    those `kept` without weights (paths), those `left_out` and those that `failed` (path and reason); `tables` and
    `figures` by name; the `measured` places (dataset, encoder), None where efficiency is not measured; the
    `case_study`, None where there is none: the studied `model`, its `dataset` and `encoder`, and `systems`, the run
    of each model there.
    """

    results: Path
    declared: dict

    @classmethod
    def read(cls, path: Path) -> "GridPlan":
        """The plan in a file, of the grid in its folder; raises `UserError`, and `OSError` where there is none."""
        return cls(path.parent, read_sealed(path, *KEYS))

    def write(self, name: str = "plan.json") -> Path:
        """Write the plan, unless the file holds it already."""
        path = self.results / name
        try:
            same = json.dumps(read_sealed(path)) == json.dumps(self.declared)  # the order of runs counts as well
        except (OSError, UserError):
            same = False
        if not same:
            self.results.mkdir(parents=True, exist_ok=True)
            write_sealed(path, self.declared)
        return path

    def runs(self, *place: str) -> list[str]:
        """Paths of the runs that have not failed, all or those at a place: dataset, encoder, model as far as given."""
        failed = {path for path, _ in self.declared["failed"]}
        below = "".join(f"{name}/" for name in place)
        return [path for path in self.declared["runs"] if path.startswith(below) and path not in failed]

    def file(self, run: str, name: str) -> Path:
        """A file of a run."""
        return self.results / "runs" / run / name

    def records(self, *place: str) -> list[Path]:
        """`record.json` of `runs`."""
        return [self.file(run, "record.json") for run in self.runs(*place)]

    def of_systems(self, dataset: str, encoder: str) -> dict[str, str]:
        """The runs to count and time: of each system, not of the steps of an ablation, the first seed."""
        chosen: dict[str, str] = {}
        for run in self.runs(dataset, encoder):
            if is_system(self.declared["models"][model := run.split("/")[2]]):
                chosen.setdefault(model, run)
        return chosen

    def measured(self) -> list[Path] | None:
        """Folders of what was counted and timed; None where the grid measures neither."""
        places = self.declared["measured"]
        return places and [self.results / "efficiency" / dataset / encoder for dataset, encoder in places]

    def studied(self) -> dict:
        """The case study; raises `UserError` where there is none."""
        if self.declared["case_study"] is None:
            raise UserError(f"{self.results}: this grid has no case study")
        return self.declared["case_study"]
