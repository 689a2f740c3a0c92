"""Where an encoder's files lie: in an installed package, a folder, a mirror or the hub's cache; and their checksums.

Every file that is read is hashed: weights and their shards, the configuration, the tokenizer's files. The sums are part
of what a training depends on. Declarations: `config/encoders.yaml`. Nothing here needs torch: the workflow asks too.
"""

import importlib.util
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sinet.errors import UserError, shown
from sinet.files import read_json
from sinet.mirrors import DOWNLOADS, mirror_folders
from sinet.provenance import file_sha256
from sinet.schema import EncoderSpec

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""In the order in which transformers looks for them; an index names shards."""
WEIGHT_ENDINGS = (".safetensors", ".bin")
OTHERS = ("*.json", "*.txt", "*.model", "*.jinja")
"""What else may be read: the configuration, and whatever files a tokenizer has."""
COMMIT = "commit.json"
"""In a folder that `fetch_encoder` made: which commit of the hub it holds, under which declaration, and its sums."""
COMMIT_FORM = {"hub": ".+", "revision": "[0-9a-f]{40}|main", "commit": "[0-9a-f]{40}"}
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,200}")
LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class Located:
    """An encoder's files on this machine; `folder` is None for an architecture with random weights.

    `sha256`: of every file that is read. `name` and `cased`: as declared of the encoder whose tokenizer is used.
    """

    folder: Path | None
    tokenizer: Path
    source: str
    revision: str | None
    sha256: dict[str, str]
    name: str
    cased: bool

    def record(self) -> dict:
        """What a run's record says of it."""
        return {"source": self.source, "revision": self.revision, "sha256": self.sha256}


def locate_encoder(declared: EncoderSpec, mirrors: Sequence[str] = ()) -> Located:
    """Find or fetch a declared encoder and hold its files against the declared checksums.

    Args:
        declared: of an architecture with random weights, an `own_tokenizer` is taken instead of `tokenizer` where its
            files are in a mirror.

    Raises:
        UserError: when the files are nowhere to be had, or are not the declared ones.
    """
    if declared.tokenizer is not None:
        of = declared.own_tokenizer
        if of and (found := _on_this_machine(of, mirrors)):
            folder = found[0]
        else:
            of = declared.tokenizer
            folder = locate_encoder(of, mirrors).tokenizer
        sums = {name: sha for name, sha in file_sums(folder).items() if not name.endswith(WEIGHT_ENDINGS)}
        return Located(None, folder, "architecture, random weights", None, sums, of.name, bool(of.cased))
    folder, source, revision = _on_this_machine(declared, mirrors) or _from_hub(declared)
    sums = file_sums(folder)
    for name, expected in (declared.sha256 or {}).items():
        if name not in sums:
            raise UserError(f"encoder {declared.name!r}: {folder / name} is missing; fetch the encoder again")
        if sums[name] != expected:
            raise UserError(
                f"{folder / name}: SHA-256 is {sums[name]}, the encoder {declared.name!r} declares {expected}; "
                "delete the file and fetch it again"
            )
    if not any(name in sums for name in WEIGHTS):
        raise UserError(f"encoder {declared.name!r}: {folder} holds none of {', '.join(WEIGHTS)}")
    return Located(folder, folder, source, revision, sums, declared.name, bool(declared.cased))


def file_sums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of an encoder's folder that is read when it is loaded, by name.

    Raises:
        UserError: a shard is missing, or a file is a pointer of Git LFS.
    """
    names = {path.name for pattern in OTHERS for path in folder.glob(pattern)} - {COMMIT}
    if weights := next((name for name in WEIGHTS if (folder / name).is_file()), None):
        names.add(weights)
        if weights.endswith(".index.json"):
            shards = _shards(folder / weights)
            if absent := sorted(name for name in shards if not (folder / name).is_file()):
                raise UserError(f"{folder / weights}: {len(absent)} of its files are missing, the first is {absent[0]}")
            names |= shards
    sums = {}
    for name in sorted(name for name in names if (folder / name).is_file()):
        with open(folder / name, "rb") as file:
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                raise UserError(f"{folder / name}: a pointer of Git LFS, not the file; run `git lfs pull` there")
        sums[name] = file_sha256(folder / name)
    return sums


def _shards(index: Path) -> set[str]:
    """The files that an index of weights names."""
    named = read_json(index, "weight_map")["weight_map"]
    if not isinstance(named, dict) or not all(isinstance(n, str) and FILE_NAME.fullmatch(n) for n in named.values()):
        raise UserError(f"{index}: weight_map should be a mapping of weights to files beside it")
    return set(named.values())


def _fetched(folder: Path) -> dict:
    """What `fetch_encoder` noted of a folder that it made."""
    path = folder / COMMIT
    found = read_json(path, *COMMIT_FORM, "sha256")
    sums = found["sha256"]
    fits = {key: isinstance(found[key], str) and re.fullmatch(form, found[key]) for key, form in COMMIT_FORM.items()}
    wrong = [key for key in fits if not fits[key]]
    if not isinstance(sums, dict) or not all(re.fullmatch("[0-9a-f]{64}", str(value)) for value in sums.values()):
        wrong.append("sha256")
    if wrong:
        raise UserError(f"{path}: {wrong[0]} is {shown(found[wrong[0]])}, not what was written there; fetch again")
    return found


def changed_files(declared: EncoderSpec, mirrors: Sequence[str] = ()) -> dict[str, str | None]:
    """The checksums that a workflow watches: of the files that lie on this machine otherwise than `fetch_encoder`
    left them; of a folder of one's own, of all."""
    try:
        found = _on_this_machine(declared, mirrors)
        sums = file_sums(found[0]) if found else {}
        fetched = _fetched(found[0])["sha256"] if found and (found[0] / COMMIT).is_file() else {}
    except (UserError, OSError):
        return {}  # said by the step that reads them
    return {name: sums.get(name) for name in sorted(sums | fetched) if sums.get(name) != fetched.get(name)}


def _on_this_machine(declared: EncoderSpec, mirrors: Sequence[str]) -> tuple[Path, str, str | None] | None:
    """Folder, a description of the source, and the resolved revision."""
    name = declared.name
    if declared.package is not None and declared.folder is not None:
        package = importlib.util.find_spec(declared.package)
        if package is None or not package.submodule_search_locations:
            raise UserError(f"encoder {name!r}: the package {declared.package} is not installed; run `make setup`")
        return Path(package.submodule_search_locations[0]) / declared.folder, f"package {declared.package}", None
    if declared.path is not None:
        folder = Path(os.path.expanduser(declared.path))  # noqa: PTH111 (pathlib's raises for an unknown user)
        if not folder.is_dir():
            raise UserError(f"encoder {name!r}: path {folder} is no folder")
        return folder, f"folder {declared.path}", None
    for mirror in (*mirror_folders(mirrors), DOWNLOADS):
        folder = mirror / "encoders" / name
        if (folder / COMMIT).is_file():
            fetched = _fetched(folder)
            if (fetched["hub"], fetched["revision"]) == (declared.hub, declared.revision):
                return folder, f"hub {declared.hub}", fetched["commit"]
        elif (folder / "config.json").is_file():
            return folder, f"mirror, declared revision {declared.revision}", None
    return None


def _from_hub(declared: EncoderSpec) -> tuple[Path, str, str]:
    from huggingface_hub import snapshot_download

    def snapshot(*patterns: str) -> Path:
        return Path(
            snapshot_download(
                str(declared.hub), revision=declared.revision, allow_patterns=list(patterns), max_workers=2
            )
        )

    try:
        folder = snapshot(*OTHERS, "*.safetensors")
        if not any((folder / weights).is_file() for weights in WEIGHTS):
            folder = snapshot("pytorch_model*")
    except Exception as error:  # the hub's client raises some thirty kinds
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"encoder {declared.name!r}: not in a mirror and not available from the hub: {first} "
            f"Go online once, or put its files into data/mirror/encoders/{declared.name}/"
        ) from None
    return folder, f"hub {declared.hub}", folder.name  # the hub's cache names a snapshot's folder by its commit
