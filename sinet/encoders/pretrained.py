"""Encoders as their files and their declaration have them, or refused in one line (docs/encoders.md).

transformers fills in without a word what a folder does not say: a tokenizer that lower-cases, random weights, special
tokens beyond the vocabulary. Here what was loaded is compared with what was declared. Only safetensors and weights-only
checkpoints are read, no code from a folder is run, and nothing else in this project calls transformers' loaders.
"""

import copy
import inspect
import json
import logging
import math
import pickle
import re
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel, Sequence
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as hf_logging

from sinet.encoders.encoder import Encoder
from sinet.encoders.located import WEIGHT_ENDINGS, Located
from sinet.errors import UserError, shown
from sinet.files import read_json
from sinet.schema import EncoderSpec

hf_logging.set_verbosity_error()
hf_logging.disable_progress_bar()
log = logging.getLogger("sinet")

# attention is eager because FLOPs are counted on the model as it runs (fused kernels are invisible to the counter)
# and because it is the faster kind on a CPU for sentences
ATTENTION = "eager"
UNUSED = re.compile(
    r"(^|\.)(pooler|cls|\w*lm_head|\w*predictions|vocab_\w+|head|decoder|sop_classifier|position_ids)(\.|$)"
)
"""Weights in a checkpoint that no encoder's model here has: the pooler, heads of pre-training, a buffer of old
versions."""
CONTROL = re.compile(r"\[.*\]|<.*>")
"""Pieces that stand for no text, such as [CLS] and <mask>."""
MOST_PARTS = {r"(layers|groups|group_num|heads)$": 1000, "num_labels": 1_000_000}
"""How often at most something is built, by the names of the settings that say it."""
LEAST_BOUND = 10_000_000
"""Weights that any machine has room for; beyond them as many as the files have bytes."""
MOST_WEIGHTS = 2_000_000_000
"""Where no file says how many there are: 8 GB in float32."""
TYPES = {"do_lower_case": bool | None, "strip_accents": bool | None, "model_max_length": int | float | None}
"""Of settings in tokenizer_config.json, which transformers does not check."""
RELEASE = "take all files from one release"


def load_encoder(declared: EncoderSpec, located: Located) -> Encoder:
    """Build a located encoder; raises `UserError` when its files cannot be read or are not what is declared."""
    where, folder = f"encoder {located.name!r}: {located.tokenizer}", located.folder
    try:
        if folder is None:
            sizes = declared.architecture.model_dump() if declared.architecture else {}
            encoder = Encoder(_from_config(where, sizes), _declared_tokenizer(where, located))
        else:
            config = _encoder_config(where, folder)
            tokenizer = _declared_tokenizer(where, located)
            bytes_each = [(folder / name).stat().st_size for name in located.sha256 if name.endswith(WEIGHT_ENDINGS)]
            _check_sizes(where, config, max(sum(bytes_each), LEAST_BOUND))
            with torch.random.fork_rng(devices=[]):  # a pooler that the files lack is drawn
                model, info = AutoModel.from_pretrained(
                    folder,
                    config=config,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,  # they are reported, and refused below by name
                    trust_remote_code=False,
                    **_settings(config, pooler=True),
                )
            pooler = _detach_pooler(model, info)
            _check_weights(where, model, info)
            encoder = Encoder(model, tokenizer)
            encoder.pooler = pooler
        _check_fit(where, encoder)
        if folder is not None:
            _check_states(where, encoder)
    except UserError:
        raise
    except pickle.UnpicklingError:
        raise UserError(f"{where}: the weights are a pickle of other things too; save them as safetensors") from None
    except Exception as error:  # the libraries raise some thirty kinds for broken files
        why = f"{type(error).__name__}: {' '.join(str(error).split()):.200}"
        raise UserError(f"{where}: no encoder can be made of its files ({why})") from None
    return encoder


def save_encoder(encoder: Encoder, folder: Path) -> dict:
    """Write the tokenizer into `folder` and return the configuration from which `rebuild_encoder` starts."""
    encoder.tokenizer.save_pretrained(folder)
    config = json.loads(encoder.model.config.to_json_string(use_diff=False))
    config.pop("_name_or_path", None)  # where it was read from, on this machine
    return config


def rebuild_encoder(config: dict, folder: Path) -> Encoder:
    """The encoder of a finished run, weights still to be loaded: its configuration and its tokenizer folder."""
    return Encoder(_from_config(str(folder.parent), config), _tokenizer(str(folder.parent), folder))


# -- configuration and weights -----------------------------------------------------------------------------------------


def _from_config(where: str, sizes: dict) -> PreTrainedModel:
    _check_counts(where, sizes)
    config = AutoConfig.for_model(**sizes)
    _check_sizes(where, config, MOST_WEIGHTS)
    return AutoModel.from_config(config, trust_remote_code=False, **_settings(config))


def _settings(config: PreTrainedConfig, pooler: bool = False) -> dict:
    """In float32, whatever the files are stored in; with a pooler or without, where the architecture has one."""
    architecture: Any = MODEL_MAPPING[type(config)]  # typed as though it were a pair
    pools = "add_pooling_layer" in inspect.signature(architecture).parameters
    return {"attn_implementation": ATTENTION, "dtype": torch.float32} | ({"add_pooling_layer": pooler} if pools else {})


def _detach_pooler(model: PreTrainedModel, info: dict) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The weight and bias of a model's pooler, which it loses; None where its files have none."""
    pooler: Any = getattr(model, "pooler", None)
    if pooler is None:
        return None
    setattr(model, "pooler", None)  # noqa: B010 - as though built without, to which transformers gives no type
    missing = {name for name in info["missing_keys"] if name.startswith("pooler.")}
    info["missing_keys"] -= missing
    linear = getattr(pooler, "dense", pooler)  # ALBERT's is the layer itself
    return None if missing else (linear.weight.detach(), linear.bias.detach())


def _check_counts(where: str, config: dict) -> None:
    """Raise `UserError` before time is taken to build more parts than any encoder has."""
    for key, count in config.items():
        most = next((most for name, most in MOST_PARTS.items() if re.search(name, key)), math.inf)
        if isinstance(count, int) and count > most:
            raise UserError(f"{where}: {key} is {shown(count)} in the configuration; at most {most:,} are built")


def _check_sizes(where: str, config: PreTrainedConfig, most: int) -> None:
    """Raise `UserError` before memory is taken for more weights than there can be."""
    with torch.device("meta"):
        model = AutoModel.from_config(copy.deepcopy(config), trust_remote_code=False, **_settings(config))
    weights = sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    if weights > most:
        raise UserError(f"{where}: its configuration has {weights:,} weights, of which at most {most:,} can be there")


def _config(folder: Path) -> PreTrainedConfig:
    """What config.json says. One without `model_type` is BERT's: SciBERT's archive is older than that key."""
    config = _json(folder / "config.json")
    _check_counts(str(folder / "config.json"), config)
    kind = AutoConfig if "model_type" in config else BertConfig
    return kind.from_pretrained(folder, trust_remote_code=False)


def _encoder_config(where: str, folder: Path) -> PreTrainedConfig:
    """The configuration; raises `UserError` for a model that is no encoder by transformers' own tables."""
    config = _config(folder)
    decodes = config.is_encoder_decoder or getattr(config, "is_decoder", False)
    if decodes or type(config) not in MODEL_FOR_MASKED_LM_MAPPING:
        raise UserError(f"{where}: {config.model_type} is a decoder, or no model of text; take an encoder such as BERT")
    return config


def _json(path: Path) -> dict:
    """A file's mapping, {} where it is not there; raises `UserError` where it names code to run."""
    found = read_json(path) if path.is_file() else {}
    if not isinstance(found, dict):
        raise UserError(f"{path}: no mapping of settings")
    if "auto_map" in found:
        raise UserError(f"{path}: auto_map names code to run, which is never done; take an encoder without it")
    return found


def _check_weights(where: str, model: PreTrainedModel, info: dict) -> None:
    """Raise `UserError` for weights that would stay random or are no numbers, warn of those that are not read."""
    weights, unread = model.state_dict(), sorted(n for n in info["unexpected_keys"] if not UNUSED.search(n))
    layers = {re.sub(r"\d+", "#", name) for name in weights}
    instead = f" (the file has {unread[0]})" if unread else ""
    faults = {
        f"of {len(weights)} are missing{instead}": info["missing_keys"],
        "are of another size than config.json says": [
            f"{name} ({tuple(stored)}, should be {tuple(built)})" for name, stored, built in info["mismatched_keys"]
        ],
        "are of more layers than config.json says": [n for n in unread if re.sub(r"\d+", "#", n) in layers],
        "are no finite numbers": [name for name, value in weights.items() if not value.isfinite().all()],
    }
    for what, names in faults.items():
        if names:
            raise UserError(f"{where}: {len(names)} weights {what}, the first is {min(names)}; {RELEASE}")
    if unread:
        log.warning("%s: %d weights that its architecture does not have: %s", where, len(unread), ", ".join(unread))


# -- tokenizer ---------------------------------------------------------------------------------------------------------


def _tokenizer(where: str, folder: Path, **settings: object) -> PreTrainedTokenizerFast:
    _json(folder / "tokenizer_config.json")
    if (folder / "config.json").is_file():
        settings["config"] = _config(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **settings)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise UserError(f"{where}: {type(tokenizer).__name__} is no tokenizer of the tokenizers library; take another")
    return tokenizer


def _declared_tokenizer(where: str, located: Located) -> PreTrainedTokenizerFast:
    """The tokenizer with the declared casing, for words one by one; raises `UserError` where its files contradict the
    declaration or each other."""
    folder, cased = located.tokenizer, located.cased
    config = _json(folder / "tokenizer_config.json")
    if wrong := [key for key, kind in TYPES.items() if not isinstance(config.get(key), kind)]:
        raise UserError(f"{where}/tokenizer_config.json: {wrong[0]} is {shown(config[wrong[0]])}, of the wrong type")
    # transformers lower-cases where tokenizer_config.json does not say otherwise, whatever tokenizer.json does
    settings = {"do_lower_case": not cased} if config.get("do_lower_case") is None else {}
    # of bytes, a word without a space before it would be cut as part of another; the setting is for the saved copy
    tokenizer = _tokenizer(where, folder, add_prefix_space=True, **settings)
    first = tokenizer.backend_tokenizer.pre_tokenizer
    for part in first if isinstance(first, Sequence) else [first]:  # type: ignore[union-attr]  # missing in its stub
        if isinstance(part, ByteLevel):
            part.add_prefix_space = True
    texts = sorted(_texts(tokenizer))
    if not any(texts):
        raise UserError(f"{where}: its tokenizer has no vocabulary; put its tokenizer.json or vocab.txt there")
    file = Tokenizer.from_file(str(folder / "tokenizer.json")) if (folder / "tokenizer.json").is_file() else None
    known = (file or tokenizer.backend_tokenizer).get_vocab(with_added_tokens=file is not None)
    for role, instead in (("cls", "bos"), ("sep", "eos"), ("pad", None), ("unk", None)):
        if instead and getattr(tokenizer, f"{role}_token") is None:
            setattr(tokenizer, f"{role}_token", getattr(tokenizer, f"{instead}_token"))
        # transformers gives one that its files lack a number beyond the vocabulary: the row of another piece, or none
        token, number = getattr(tokenizer, f"{role}_token"), getattr(tokenizer, f"{role}_token_id")
        if token is None or known.get(token) != number:
            raise UserError(f"{where}: its vocabulary has no {role}_token ({token}); the encoder needs one")
    _check_vocabularies(where, folder, tokenizer, file)
    _check_casing(where, tokenizer, file, cased, texts)
    return tokenizer


def _texts(tokenizer: PreTrainedTokenizerFast) -> set[str]:
    """The pieces of a vocabulary as they are in texts, without marks of where in a word they stand."""
    pieces = {p for p in tokenizer.get_vocab().keys() - tokenizer.get_added_vocab().keys() if not CONTROL.fullmatch(p)}
    if (alphabet := set(ByteLevel.alphabet())) <= pieces:
        # every byte is a piece there, capital or not, and letters beyond ASCII stand for bytes
        pieces = {re.sub("[^ -~]", "", piece) for piece in pieces - alphabet}
    return {piece.removeprefix("##").removeprefix("\u2581") for piece in pieces}


def _check_vocabularies(where: str, folder: Path, tokenizer: PreTrainedTokenizerFast, file: Tokenizer | None) -> None:
    """Raise `UserError` where a file numbers a piece otherwise than the tokenizer that was made of them all."""
    tables = {"tokenizer.json": file.get_vocab() if file else {}, "vocab.json": _json(folder / "vocab.json")}
    if (path := folder / "vocab.txt").is_file():
        tables[path.name] = {piece: n for n, piece in enumerate(path.read_text(encoding="utf-8").split("\n"))}
    # readers of vocab.txt differ in the white space that they strip; of equal pieces the last one holds
    loaded = {piece.strip(): n for piece, n in sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])}
    for name, table in tables.items():
        for piece, number in {piece.strip(): n for piece, n in table.items()}.items():
            if piece and loaded.get(piece, number) != number:
                raise UserError(
                    f"{where}/{name}: piece {shown(piece)} is number {shown(number)}, by the tokenizer's other files "
                    f"{loaded[piece]}; {RELEASE}"
                )


def _check_casing(
    where: str, tokenizer: PreTrainedTokenizerFast, file: Tokenizer | None, cased: bool, texts: list[str]
) -> None:
    """Raise `UserError` where the vocabulary, tokenizer.json or the tokenizer as loaded does not treat capital letters
    as declared, or where the last two differ in accents."""
    yes, no = str(cased).lower(), str(not cased).lower()
    capital = next((text for text in texts if text != text.lower()), None)
    if (capital is not None) != cased:
        holds = "holds no capital letter" if cased else f"holds capital letters ({capital!r})"
        raise UserError(f"{where}: its vocabulary {holds}; declare cased: {no}, not {yes}")
    cutters = {"tokenizer_config.json": lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]}
    if file:
        file.no_padding()
        file.no_truncation()
        cutters = {"tokenizer.json": lambda text: file.encode(text, add_special_tokens=False).ids} | cutters
    words = [text for text in texts if text.isalpha() and text.upper().lower() == text != text.upper()]
    for name, cut in cutters.items():
        word = next((word for word in words if tokenizer.unk_token_id not in cut(word)), None)
        if word is None:
            raise UserError(f"{where}/{name}: no word of its vocabulary can be cut, so cased cannot be checked")
        if (cut(word) == cut(word.upper())) == cased:
            does = "lower-cases" if cased else "does not lower-case"
            raise UserError(f"{where}/{name}: the tokenizer {does}, but cased: {yes} is declared; {RELEASE}")
    if len({tuple(cut(f" {word}\u0301")) for cut in cutters.values()}) > 1:
        raise UserError(f"{where}: tokenizer.json and tokenizer_config.json treat accents differently; {RELEASE}")


# -- both together -----------------------------------------------------------------------------------------------------


def _check_fit(where: str, encoder: Encoder) -> None:
    """Raise `UserError` for pieces without a row in the embedding, warn of limits and padding that are not the same."""
    tokenizer, model, most = encoder.tokenizer, encoder.model, encoder.max_pieces
    pieces, rows = max(tokenizer.get_vocab().values()) + 1, encoder.rows
    if pieces > rows:
        raise UserError(
            f"{where}: the tokenizer has {pieces} pieces, the embedding {rows} rows (vocab_size); {RELEASE}"
        )
    if (limit := tokenizer.model_max_length) < most:
        log.warning(
            "%s: model_max_length is %d; %d word pieces are read, as many as it has positions", where, limit, most
        )
    if model.config.pad_token_id not in (None, tokenizer.pad_token_id):
        padding = model.config.pad_token_id, tokenizer.pad_token_id
        log.warning("%s: pad_token_id is %d in the configuration, %d in the tokenizer, which is used", where, *padding)


def _check_states(where: str, encoder: Encoder) -> None:
    """Raise `UserError` where the state of [CLS] is not a finite one that depends on the pieces behind it, and on
    nothing else: some architectures (FNet, ConvBERT, YOSO) mix padding in, so that a prediction would depend on the
    sentences beside it."""
    tokenizer = encoder.tokenizer
    cls, sep, unk, pad = (getattr(tokenizer, f"{role}_token_id") for role in ("cls", "sep", "unk", "pad"))
    ids = torch.tensor([[cls, unk, sep, *[pad] * 5], [cls, sep, sep, *[pad] * 5]])
    trained = encoder.training
    with torch.inference_mode():
        first, second = encoder.eval()(ids[:, :3], torch.ones(2, 3, dtype=torch.long))[:, 0]
        padded = encoder(ids, (torch.arange(8) < 3).long().expand(2, 8))[0, 0]
    encoder.train(trained)
    if first.shape != (encoder.hidden_size,) or not first.isfinite().all() or first.equal(second):
        raise UserError(f"{where}: the state of its first piece does not depend on those behind it; take an encoder")
    if (padded - first).abs().max() > 0.01 * (second - first).abs().max():
        raise UserError(f"{where}: its states depend on the padding behind a sentence; take an encoder such as BERT")
