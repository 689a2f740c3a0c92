"""Where an encoder's weights come from: an installed package, a mirror folder, the hub, or nowhere.

Whatever the source, weights are read from a local folder, hashed, and held against a declared SHA-256 before use. Only
safetensors and weights-only checkpoints are read, and no code from a hub is run. Declarations: `config/encoders.yaml`.

transformers fills in what a folder does not say (a tokenizer that lower-cases, random weights, tokens beyond the
vocabulary) and says so nowhere; here that is an error or a warning. Nothing else in this project calls its loaders.
"""

import importlib.util
import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as hf_logging

from sinet.errors import UserError
from sinet.mirrors import DOWNLOADS, mirror_folders
from sinet.model.encoder import Encoder, max_pieces
from sinet.provenance import file_sha256

hf_logging.set_verbosity_error()
hf_logging.disable_progress_bar()
log = logging.getLogger("sinet")

# attention is eager because FLOPs are counted on the model as it runs (fused kernels are invisible to the counter)
# and because it is the faster kind on a CPU for sentences
ATTENTION = "eager"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
COMMIT = "commit.json"
"""In a folder that `fetch_encoder` made: which commit of the hub it holds, under which declaration."""
UNUSED = re.compile(r"(^|\.)(pooler|cls|lm_head|predictions|sop_classifier|position_ids)(\.|$)")
"""Weights in a checkpoint that no encoder here has: the pooler, heads of pre-training, a buffer of old versions."""
CONTROL = re.compile(r"\[.*\]|<.*>")
"""Pieces that stand for no text, such as [CLS] and <mask>."""


@dataclass(frozen=True)
class Located:
    """An encoder's files on this machine; `folder` is None for an architecture with random weights.

    `name` and `cased` are what is declared of the encoder whose tokenizer is used.
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


def locate_encoder(declared: dict, mirrors: Sequence[str] = ()) -> Located:
    """Find or fetch a declared encoder and check its weights.

    Args:
        declared: `name` and either `cased` with one of `package` + `folder` and `hub` + `revision`, or
            `architecture` + `tokenizer`; an `own_tokenizer` is taken instead where its files are in a mirror.

    Raises:
        UserError: when the files are nowhere to be had, the weights are not the declared ones, or `cased` is missing.
    """
    if "architecture" in declared:
        own = declared.get("own_tokenizer")
        found = _mirrored(own, mirrors) if own else None
        of, folder = (own, found[0]) if found else (declared["tokenizer"], None)
        folder = folder or locate_encoder(of, mirrors).tokenizer
        return Located(None, folder, "architecture, random weights", None, {}, of["name"], of["cased"])
    if not isinstance(declared.get("cased"), bool):
        raise UserError(f"encoder {declared['name']!r}: declare cased: true, or false if its vocabulary is lower-case")
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
    return Located(folder, folder, source, revision, sums, declared["name"], declared["cased"])


def load_encoder(declared: dict, located: Located) -> Encoder:
    """Build a located encoder; raises `UserError` when its files cannot be read or are not what is declared."""
    tokenizer = _declared_tokenizer(located)
    if located.folder is None:
        model = _from_config(dict(declared["architecture"]))
    else:
        model, told = _readable(
            located.folder,
            lambda: AutoModel.from_pretrained(
                located.folder,
                attn_implementation=ATTENTION,
                add_pooling_layer=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are told, and refused below by name
                trust_remote_code=False,
            ),
        )
        _check_weights(located, told)
    _check_fit(located, tokenizer, model.config)
    return Encoder(model, tokenizer)


def read_tokenizer(located: Located) -> tuple[Callable[[Sequence[str]], int], int]:
    """How many word pieces some words are, and how many the encoder takes with [CLS] and [SEP]; no weights are read.

    Raises:
        UserError: the tokenizer cannot be read or is not what is declared.
    """
    tokenizer = _declared_tokenizer(located)
    config = _readable(
        located.tokenizer, lambda: AutoConfig.from_pretrained(located.tokenizer, trust_remote_code=False)
    )
    _check_fit(located, tokenizer, config)

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
    return AutoModel.from_config(
        config, attn_implementation=ATTENTION, add_pooling_layer=False, trust_remote_code=False
    )


def _tokenizer(folder: Path, **settings: bool) -> object:
    for name in ("config.json", "tokenizer_config.json"):
        if "auto_map" in _json(folder / name):
            raise UserError(
                f"{folder / name}: auto_map names code to run, which is never done; take an encoder without it"
            )
    return _readable(folder, lambda: AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **settings))


def _declared_tokenizer(located: Located) -> object:
    """The tokenizer with the declared casing; raises `UserError` where its files contradict the declaration."""
    folder, cased = located.tokenizer, located.cased
    where = f"encoder {located.name!r}: {folder}"
    # transformers lower-cases where tokenizer_config.json does not say otherwise, whatever tokenizer.json does
    silent = _json(folder / "tokenizer_config.json").get("do_lower_case") is None
    tokenizer = _tokenizer(folder, **({"do_lower_case": not cased} if silent else {}))
    if not tokenizer.is_fast:
        raise UserError(f"{where}: {type(tokenizer).__name__} is no tokenizer of the tokenizers library; take another")
    cutters, known = {}, tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False)
    if (folder / "tokenizer.json").is_file():
        file = Tokenizer.from_file(str(folder / "tokenizer.json"))
        file.no_padding()
        cutters["/tokenizer.json"] = lambda word: file.encode(word, add_special_tokens=False).tokens
        known = file.get_vocab()
    cutters["" if silent else "/tokenizer_config.json"] = tokenizer.tokenize
    for role in ("cls", "sep", "pad", "unk"):
        # transformers gives one that its files lack a number beyond the vocabulary: the row of another piece, or none
        token, number = getattr(tokenizer, f"{role}_token"), getattr(tokenizer, f"{role}_token_id")
        if token is None or known.get(token) != number:
            raise UserError(f"{where}: its vocabulary has no {role}_token ({token}); the encoder needs one")

    words = sorted(_texts(tokenizer))
    capital = next((word for word in words if word != word.lower()), None)
    if capital and not cased:
        raise UserError(f"{where}: its vocabulary holds capital letters ({capital!r}); declare cased: true, not false")
    if not capital and cased:
        raise UserError(f"{where}: its vocabulary holds no capital letter; declare cased: false, not true")
    cuttable = [word for word in words if word.isalpha() and word.upper().lower() == word != word.upper()]
    for file_name, cut in cutters.items():
        word = next((w for w in cuttable if tokenizer.unk_token not in cut(w)), None)
        if word is None:
            raise UserError(f"{where}{file_name}: no word of its vocabulary can be cut, so cased cannot be checked")
        if (cut(word) == cut(word.upper())) == cased:
            does = "lower-cases" if cased else "does not lower-case"
            raise UserError(
                f"{where}{file_name}: this tokenizer {does}, against the declared cased: {str(cased).lower()}; its "
                f"vocabulary is {'cased' if cased else 'lower-case'}, so put files of the same release there"
            )
    return tokenizer


def _texts(tokenizer: object) -> set[str]:
    """The pieces of a vocabulary as they are in texts, without marks of where in a word they stand."""
    pieces = {p for p in tokenizer.get_vocab().keys() - tokenizer.get_added_vocab().keys() if not CONTROL.fullmatch(p)}
    if (alphabet := set(ByteLevel.alphabet())) <= pieces:
        # every byte is a piece there, capital or not, and letters beyond ASCII stand for bytes
        pieces = {re.sub("[^ -~]", "", piece) for piece in pieces - alphabet}
    return {piece.removeprefix("##").removeprefix("\u2581") for piece in pieces}


def _check_weights(located: Located, told: dict) -> None:
    """Raise `UserError` for weights that would stay random, warn of those that would be left unread."""
    where = f"encoder {located.name!r}: {located.folder}"
    sized = {name for name, *_ in told["mismatched_keys"]}
    for wrong, names in (("missing", told["missing_keys"]), ("of another size than config.json says", sized)):
        if names:
            raise UserError(
                f"{where}: weights {wrong}: {len(names)}, the first is {min(names)}; "
                "config.json and the weights must be of the same release"
            )
    if unread := sorted(name for name in told["unexpected_keys"] if not UNUSED.search(name)):
        log.warning("%s: %d weights that its architecture does not have: %s", where, len(unread), ", ".join(unread))


def _check_fit(located: Located, tokenizer: object, config: object) -> None:
    """Raise `UserError` for pieces without a row in the embedding, warn of limits and padding that are not the same."""
    where = f"encoder {located.name!r}: {located.tokenizer}"
    if (pieces := max(tokenizer.get_vocab().values()) + 1) > config.vocab_size:
        raise UserError(
            f"{where}: the tokenizer has {pieces} pieces, the embedding {config.vocab_size} rows (vocab_size); "
            "the files must be of the same release"
        )
    if tokenizer.model_max_length < max_pieces(config):
        limits = tokenizer.model_max_length, max_pieces(config)
        log.warning("%s: model_max_length is %d; %d word pieces are read, as many as it has positions", where, *limits)
    if config.pad_token_id not in (None, tokenizer.pad_token_id):
        padding = config.pad_token_id, tokenizer.pad_token_id
        log.warning("%s: pad_token_id is %d in the configuration, %d in the tokenizer, which is used", where, *padding)


def _json(path: Path) -> dict:
    return _readable(path.parent, lambda: json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


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
    if found := _mirrored(declared, mirrors):
        return found
    folder = _snapshot(declared, ["*.json", "*.txt", "*.model", "*.safetensors"])
    if not any((folder / weights).is_file() for weights in WEIGHTS):
        folder = _snapshot(declared, ["pytorch_model.bin"])
    return folder, f"hub {declared['hub']}", folder.name  # the hub's cache names a snapshot's folder by its commit


def _mirrored(declared: dict, mirrors: Sequence[str]) -> tuple[Path, str, str | None] | None:
    """The same of an encoder of a hub, where its files are in a mirror or were fetched."""
    for mirror in (*mirror_folders(mirrors), DOWNLOADS):
        folder = mirror / "encoders" / declared["name"]
        if (folder / COMMIT).is_file():
            fetched = json.loads((folder / COMMIT).read_text(encoding="utf-8"))
            if (fetched["hub"], fetched["revision"]) == (declared["hub"], declared["revision"]):
                return folder, f"hub {declared['hub']}", fetched["commit"]
        elif (folder / "config.json").is_file():
            return folder, f"mirror, declared revision {declared['revision']}", None
    return None


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
