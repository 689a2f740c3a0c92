"""Where an encoder's weights come from: an installed package, a mirror folder, the hub, or nowhere.

Only safetensors and weights-only checkpoints are read, no code from a hub is run, and weights with a declared
SHA-256 are checked before use. Declarations are in `config/encoders.yaml`.
"""

import importlib.util
import json
import os
from collections.abc import Sequence
from pathlib import Path

from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as hf_logging

from sinet.data.sources import mirror_folders
from sinet.errors import UserError
from sinet.model.encoder import Encoder
from sinet.provenance import file_sha256

hf_logging.set_verbosity_error()
hf_logging.disable_progress_bar()

# attention is eager because FLOPs are counted on the model as it runs (fused kernels are invisible to the counter)
# and because it is the faster kind on a CPU for sentences
ATTENTION = "eager"


def load_encoder(declared: dict, mirrors: Sequence[str]) -> tuple[Encoder, dict]:
    """Build a declared encoder.

    Args:
        declared: `name` and one of `package` + `folder`, `hub` + `revision`, or `architecture` + `tokenizer`.

    Returns:
        the encoder, and where it came from: `source`, the resolved `revision`, `sha256` of the weights.

    Raises:
        UserError: when the weights are nowhere to be had or are not the declared ones.
    """
    if "architecture" in declared:
        sizes = dict(declared["architecture"])
        config = AutoConfig.for_model(sizes.pop("model_type"), **sizes)
        model = AutoModel.from_config(config, attn_implementation=ATTENTION, add_pooling_layer=False)
        tokenizer = _tokenizer(*_locate(declared["tokenizer"], mirrors)[:2])
        return Encoder(model, tokenizer), {"source": "architecture, random weights", "revision": None, "sha256": {}}
    place, revision, source = _locate(declared, mirrors)
    checked = {}
    for file, expected in declared.get("sha256", {}).items():
        path = Path(place) / file if Path(place).is_dir() else _hub_file(place, file, revision)
        checked[file] = file_sha256(path)
        if checked[file] != expected:
            raise UserError(
                f"{path}: SHA-256 is {checked[file]}, the encoder {declared['name']!r} declares {expected}; "
                "delete the file and fetch it again"
            )
    model = _offline_message(
        declared,
        lambda: AutoModel.from_pretrained(
            place, revision=revision, attn_implementation=ATTENTION, add_pooling_layer=False, trust_remote_code=False
        ),
    )
    resolved = getattr(model.config, "_commit_hash", None) or revision
    return Encoder(model, _tokenizer(place, revision)), {"source": source, "revision": resolved, "sha256": checked}


def save_encoder(encoder: Encoder, folder: Path) -> dict:
    """Write the tokenizer into `folder` and return the configuration from which `rebuild_encoder` starts."""
    encoder.tokenizer.save_pretrained(folder)
    return json.loads(encoder.model.config.to_json_string(use_diff=False))


def rebuild_encoder(config: dict, folder: Path) -> Encoder:
    """The encoder of a finished run, weights still to be loaded: its configuration and its tokenizer folder."""
    config = AutoConfig.for_model(config["model_type"], **{k: v for k, v in config.items() if k != "model_type"})
    model = AutoModel.from_config(config, attn_implementation=ATTENTION, add_pooling_layer=False)
    return Encoder(model, _tokenizer(str(folder), None))


def _tokenizer(place: str, revision: str | None) -> object:
    return AutoTokenizer.from_pretrained(place, revision=revision, use_fast=True, trust_remote_code=False)


def _locate(declared: dict, mirrors: Sequence[str]) -> tuple[str, str | None, str]:
    """Folder or hub name, revision, and a description of the place."""
    name = declared["name"]
    if "package" in declared:
        package = importlib.util.find_spec(declared["package"])
        if package is None:
            raise UserError(f"encoder {name!r}: the package {declared['package']} is not installed; run `make setup`")
        folder = Path(package.submodule_search_locations[0]) / declared["folder"]
        return str(folder), None, f"package {declared['package']}"
    for mirror in mirror_folders(mirrors):
        folder = mirror / "encoders" / name
        if (folder / "config.json").is_file():
            return str(folder), declared["revision"], "mirror"
    return declared["hub"], declared["revision"], "hub"


def _hub_file(repository: str, file: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    declared = {"name": repository, "hub": repository}
    return Path(_offline_message(declared, lambda: hf_hub_download(repository, file, revision=revision)))


def _offline_message(declared: dict, load: object) -> object:
    try:
        return load()
    except (OSError, ValueError) as error:
        if "hub" not in declared:
            raise
        first = str(error).strip().splitlines()[0]
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        raise UserError(
            f"encoder {declared['name']!r}: not in a mirror and not to be had from the hub{offline}: {first}. "
            f"Go online once, or put its files into data/mirror/encoders/{declared['name']}/"
        ) from None
