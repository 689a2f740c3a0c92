"""Where an encoder's weights come from: an installed package, a mirror folder, the hub, or nowhere.

Whatever the source, weights are read from a local folder, hashed, and held against a declared SHA-256 before use. Only
safetensors and weights-only checkpoints are read, and no code from a hub is run. Declarations: `config/encoders.yaml`.
"""

import importlib.util
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as hf_logging

from sinet.errors import UserError
from sinet.mirrors import DOWNLOADS, mirror_folders
from sinet.model.encoder import Encoder, max_pieces
from sinet.provenance import file_sha256

hf_logging.set_verbosity_error()
hf_logging.disable_progress_bar()

# attention is eager because FLOPs are counted on the model as it runs (fused kernels are invisible to the counter)
# and because it is the faster kind on a CPU for sentences
ATTENTION = "eager"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
COMMIT = "commit.json"
"""In a folder that `fetch_encoder` made: which commit of the hub it holds, under which declaration."""


@dataclass(frozen=True)
class Located:
    """An encoder's files on this machine; `folder` is None for an architecture with random weights."""

    folder: Path | None
    tokenizer: Path
    source: str
    revision: str | None
    sha256: dict[str, str]

    def record(self) -> dict:
        """What a run's record says of it."""
        return {"source": self.source, "revision": self.revision, "sha256": self.sha256}


def locate_encoder(declared: dict, mirrors: Sequence[str] = ()) -> Located:
    """Find or fetch a declared encoder and check its weights.

    Args:
        declared: `name` and one of `package` + `folder`, `hub` + `revision`, or `architecture` + `tokenizer`.

    Raises:
        UserError: when the files are nowhere to be had, or the weights are not the declared ones.
    """
    if "architecture" in declared:
        tokenizer = locate_encoder(declared["tokenizer"], mirrors).tokenizer
        return Located(None, tokenizer, "architecture, random weights", None, {})
    folder, source, revision = _find(declared, mirrors)
    expected_sums = declared.get("sha256", {})
    used = next((name for name in WEIGHTS if (folder / name).is_file()), None)
    sums = {n: file_sha256(folder / n) for n in {used, *expected_sums} if n and (folder / n).is_file()}
    for name, expected in expected_sums.items():
        if name not in sums:
            raise UserError(f"encoder {declared['name']!r}: {folder / name} is missing; fetch the encoder again")
        if sums[name] != expected:
            raise UserError(
                f"{folder / name}: SHA-256 is {sums[name]}, the encoder {declared['name']!r} declares {expected}; "
                "delete the file and fetch it again"
            )
    if not sums:
        raise UserError(f"encoder {declared['name']!r}: {folder} holds none of {', '.join(WEIGHTS)}")
    return Located(folder, folder, source, revision, sums)


def load_encoder(declared: dict, located: Located) -> Encoder:
    """Build a located encoder; raises `UserError` when its files cannot be read."""
    if located.folder is None:
        model = _from_config(dict(declared["architecture"]))
    else:
        model = _readable(
            located.folder,
            lambda: AutoModel.from_pretrained(
                located.folder, attn_implementation=ATTENTION, add_pooling_layer=False, trust_remote_code=False
            ),
        )
    return Encoder(model, _tokenizer(located.tokenizer))


def read_tokenizer(located: Located) -> tuple[Callable[[Sequence[str]], int], int]:
    """How many word pieces some words are, and how many the encoder takes with [CLS] and [SEP]; no weights are read."""
    tokenizer = _tokenizer(located.tokenizer)
    config = _readable(located.tokenizer, lambda: AutoConfig.from_pretrained(located.tokenizer))

    def count(words: Sequence[str]) -> int:
        return sum(max(1, len(ids)) for ids in tokenizer(list(words), add_special_tokens=False)["input_ids"])

    return count, max_pieces(config)


def save_encoder(encoder: Encoder, folder: Path) -> dict:
    """Write the tokenizer into `folder` and return the configuration from which `rebuild_encoder` starts."""
    encoder.tokenizer.save_pretrained(folder)
    config = json.loads(encoder.model.config.to_json_string(use_diff=False))
    config.pop("_name_or_path", None)  # where it was read from, on this machine
    return config


def rebuild_encoder(config: dict, folder: Path) -> Encoder:
    """The encoder of a finished run, weights still to be loaded: its configuration and its tokenizer folder."""
    return Encoder(_from_config(dict(config)), _tokenizer(folder))


def _from_config(config: dict) -> object:
    config = AutoConfig.for_model(config.pop("model_type"), **config)
    return AutoModel.from_config(config, attn_implementation=ATTENTION, add_pooling_layer=False)


def _tokenizer(folder: Path) -> object:
    return _readable(folder, lambda: AutoTokenizer.from_pretrained(folder, use_fast=True, trust_remote_code=False))


def _readable(folder: Path, load: Callable[[], object]) -> object:
    try:
        return load()
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder}: no encoder that can be read: {str(error).strip().splitlines()[0]}") from None


def _find(declared: dict, mirrors: Sequence[str]) -> tuple[Path, str, str | None]:
    """Folder, a description of the source, and the resolved revision."""
    name = declared["name"]
    if "package" in declared:
        package = importlib.util.find_spec(declared["package"])
        if package is None:
            raise UserError(f"encoder {name!r}: the package {declared['package']} is not installed; run `make setup`")
        return Path(package.submodule_search_locations[0]) / declared["folder"], f"package {declared['package']}", None
    for mirror in (*mirror_folders(mirrors), DOWNLOADS):
        folder = mirror / "encoders" / name
        if (folder / COMMIT).is_file():
            fetched = json.loads((folder / COMMIT).read_text(encoding="utf-8"))
            if (fetched["hub"], fetched["revision"]) == (declared["hub"], declared["revision"]):
                return folder, f"hub {declared['hub']}", fetched["commit"]
        elif (folder / "config.json").is_file():
            return folder, f"mirror, declared revision {declared['revision']}", None
    folder = _snapshot(declared, ["*.json", "*.txt", "*.model", "*.safetensors"])
    if not any((folder / weights).is_file() for weights in WEIGHTS):
        folder = _snapshot(declared, ["pytorch_model.bin"])
    return folder, f"hub {declared['hub']}", folder.name  # the hub's cache names a snapshot's folder by its commit


def _snapshot(declared: dict, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(declared["hub"], revision=declared["revision"], allow_patterns=patterns, max_workers=2)
        )
    except Exception as error:  # the hub's client raises some thirty kinds
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"encoder {declared['name']!r}: not in a mirror and not to be had from the hub: {first} "
            f"Go online once, or put its files into data/mirror/encoders/{declared['name']}/"
        ) from None
