"""What the folder of a finished run says of itself, read without torch."""

from pathlib import Path

from sinet import systems
from sinet.data.sentence import Labels
from sinet.errors import UserError
from sinet.files import read_sealed, similar_path
from sinet.provenance import file_sha256

DESCRIBED = ("system", "settings", "labels", "encoder_config", "precision", "files")
"""What `model.json` says of a run, and loading it needs."""

AGAIN = "copy the run again, or train it"


def described(folder: Path) -> dict:
    """A finished run's `model.json`; raises `UserError` where there is none that can be read."""
    description = folder / "model.json"
    if not description.is_file():
        if folder.is_dir():
            raise UserError(f"{folder}: no model.json, so no finished run; train it first")
        raise UserError(f"{folder}: no such folder of a run{similar_path(folder)}")
    return read_sealed(description, *DESCRIBED)


def run_sums(folder: Path) -> dict[str, str]:
    """SHA-256 of what a run's model is read from beside `model.json`: its weights and the tokenizer's files; what
    is hidden there, as Snakemake's time stamp is, nobody reads."""
    files = [folder / "model.safetensors", *sorted((folder / "tokenizer").glob("[!.]*"))]
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files if path.is_file()}


def check_as_trained(folder: Path, made: dict) -> None:
    """Raise `UserError` where a file of a run is not what its `model.json`, `made`, says it was."""
    if changed := sorted(name for name, _ in made["files"].items() ^ run_sums(folder).items()):
        raise UserError(f"{folder / changed[0]}: not as it was trained (model.json has another checksum); {AGAIN}")


def run_labels(folder: Path) -> Labels:
    """The types that a finished run tells apart."""
    return Labels.from_json(described(folder)["labels"])


def check_has_thresholds(run: Path) -> None:
    """Refuse a run whose system has no threshold of relations; loads no torch."""
    system = described(run)["system"]
    if system in systems.sources() and "threshold" not in systems.settings(system).model_fields:
        raise UserError(f"{run}: {system} takes the best relation of a pair; it has no threshold")


def check_new(option: str, out: Path) -> None:
    """Raise `UserError` unless a folder to write is new or empty."""
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UserError(f"{option} {out}: is there already and not empty; name a new folder")
