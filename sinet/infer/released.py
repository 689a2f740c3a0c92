"""Trained weights under the names of the authors' released code, and theirs under ours.

`export_run` writes what that code loads, `import_run` makes a run's folder of it. Names and shapes are those of the
commits in `RELEASED`, held against `shared/reference` by the tests; which files and options are read was taken from the
public code of neighbouring commits, and has not been tried.
"""

import functools
import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from sinet import systems
from sinet.contract import Extractor, Labels
from sinet.encoders.encoder import Encoder
from sinet.encoders.pretrained import rebuild_encoder
from sinet.errors import UserError, counted
from sinet.files import read_json, similar_path, write_atomically, write_json, write_sealed, write_text
from sinet.infer.finished import check_new, described, run_sums
from sinet.infer.predict import load_run, readable
from sinet.model.weights import write_weights
from sinet.provenance import file_sha256

# prefixes of parameters: released -> ours
SINET_NAMES = {
    "linear_s": "project_entities",
    "linear_r": "project_relations",
    "cross_attention.wq": "cross_attention.query",
    "cross_attention.wk": "cross_attention.key",
    "cross_attention.wv": "cross_attention.value",
    "cross_attention.proj": "cross_attention.output",
    "cross_attention.addnorm.ln": "cross_attention.norm",
    "rel_classifier": "relation_classifier",
    "entity_classifier": "entity_classifier",
    "size_embeddings": "width",
    "bert": "encoder.model",
}
SPERT_NAMES = {n: SINET_NAMES[n] for n in ("rel_classifier", "entity_classifier", "size_embeddings", "bert")}
PFN_NAMES = {
    "feature_extractor.unit.hidden_transform": "partition_filter.hidden_transform",
    "feature_extractor.unit.input_transform": "partition_filter.input_transform",
    "feature_extractor.unit.transform": "partition_filter.transform",
    "ner.n": "entity_table.combine",
    "ner.hid2hid": "entity_table.pair",
    "ner.ln": "entity_table.norm",
    "ner.hid2tag": "entity_table.classify",
    "re.r": "relation_table.combine",
    "re.hid2hid": "relation_table.pair",
    "re.ln": "relation_table.norm",
    "re.hid2rel": "relation_table.classify",
    "bert": "encoder.model",
}
PURE_ENTITY_NAMES = {
    "bert": "encoder.model",
    "width_embedding": "width",
    "ner_classifier.0._linear_layers.0": "entity_model.first",
    "ner_classifier.0._linear_layers.1": "entity_model.second",
    "ner_classifier.1": "entity_model.output",
}
PURE_RELATION_NAMES = {
    "bert": "relation_encoder.model",
    "layer_norm": "relation_model.norm",
    "classifier": "relation_model.classify",
}
ROW = "cross_attention.addnorm.ln."
"""Where the released SINET normalises over (1, hidden) instead of (hidden)."""
UNREAD = (".pooler.", ".embeddings.position_ids")
"""In released state dicts, but no parameter that a system reads."""
ADDED_TOKENS = "({}{}={})".format  # of a marker without a piece of its own; no word piece of a text looks so


@dataclass(frozen=True)
class Released:
    """An authors' repository: its weights by folder (`models`: file, names), and the difference that remains."""

    repository: str
    models: dict[str, tuple[str, dict[str, str]]]
    difference: str


RELEASED = {
    "sinet": Released(
        "AONE-NLP/RTE-SINET, commit 5f67fdaac88b3eeaf8efbb475ed624e90cee301a",
        {"": ("pytorch_model.bin", SINET_NAMES)},
        "the released cross-task attention also sees padding, ours does not: keep eval_batch_size at 1",
    ),
    "spert": Released(
        "lavis-nlp/spert, commit a53f468bebfa9de6d66456dcfbf4b62aef237bf7",
        {"": ("pytorch_model.bin", SPERT_NAMES)},
        "none is known",
    ),
    "pfn": Released(
        "Coopercoppers/PFN, commit 6173b3e6b048d1307766ee5d2f8178b30d6675b2",
        {"": ("pfn.pt", PFN_NAMES)},
        "the released global feature is a maximum over padding too, ours is not: keep --batch_size at 1. The released "
        "code keeps 128 words of a sentence, as ours does by default (`max_words`)",
    ),
    "pure": Released(
        "princeton-nlp/PURE, commit b1e9cad39bec10eb3c355dc5a8e4e75dd0afebf5",
        {
            "entity": ("pytorch_model.bin", PURE_ENTITY_NAMES),
            "relation": ("pytorch_model.bin", PURE_RELATION_NAMES),
        },
        "markers have the ids under which they were trained here, by special_tokens.json, instead of ids in the order "
        "of first use; ours pairs at most `max_arguments` entities of a sentence",
    ),
}


def renamed(weights: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    """Released parameter names to ours; poolers, which none of the systems reads, are dropped."""
    out = {}
    for name, value in weights.items():
        if not any(part in name for part in UNREAD):
            prefix = max((p for p in names if name.startswith(p + ".")), key=len)
            out[names[prefix] + name[len(prefix) :]] = value.squeeze(0) if name.startswith(ROW) else value
    return out


def released(weights: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    """Our parameter names to released ones, without poolers; the inverse of `renamed`. What `names` lacks is dropped:
    it belongs to another model of the system."""
    out = {}
    for theirs, ours in names.items():
        for name in (n for n in weights if n.startswith(ours + ".")):
            there = theirs + name[len(ours) :]
            out[there] = weights[name].unsqueeze(0) if there.startswith(ROW) else weights[name]
    return out


def _authors(system: str, folder: Path) -> Released:
    if system not in RELEASED:
        raise UserError(f"{folder}: is a run of {system!r}; weights travel for {', '.join(RELEASED)} only")
    return RELEASED[system]


# -- ours to theirs ------------------------------------------------------------------------------------------------


def export_run(run: Path, out: Path) -> None:
    """Write the weights of a finished run, and what the authors' code loads with them, into the folder `out`.

    Raises:
        UserError: no run, `out` is not empty, or a system, setting or encoder that the released code does not have.
    """
    made = described(run)
    authors = _authors(made["system"], run)
    check_new("--out", out)
    kind = made["encoder_config"].get("model_type")
    if kind != "bert":
        raise UserError(f"{run}: its encoder is of the kind {kind!r}, the released code's names are those of 'bert'")
    if made["system"] == "sinet" and made["settings"].get("interaction", "ctam") != "ctam":
        raise UserError(f"{run}: interaction is {made['settings']['interaction']!r}; the released code has 'ctam' only")
    model, _ = load_run(run, torch.device("cpu"))
    weights = model.state_dict()
    for place, (file, names) in authors.models.items():
        folder = out / place
        folder.mkdir(parents=True, exist_ok=True)
        _write_encoder(folder, made, model, relation=place == "relation")
        state = released(weights, names) | _unread(model, made["system"])
        state = {name: value.detach().contiguous().clone() for name, value in state.items()}
        # in the form that torch before 1.6 reads too; SINET and SpERT were released with 1.4
        save = functools.partial(torch.save, state, _use_new_zipfile_serialization=False)
        write_atomically(folder / file, save)
    _write_types(out, made["system"], model)
    write_text(out / "README.md", _readme(made, model))


def _unread(model: Extractor, system: str) -> dict[str, Tensor]:
    """What the released state dicts hold although nothing reads it."""
    hidden = model.encoder.hidden_size
    found = {"bert.pooler.dense.weight": torch.zeros(hidden, hidden), "bert.pooler.dense.bias": torch.zeros(hidden)}
    if system == "pfn":  # loaded strictly; transformers before 4.31 (4.9.1 is theirs) keeps this buffer in the state
        positions = torch.arange(model.encoder.model.config.max_position_embeddings)
        found["bert.embeddings.position_ids"] = positions.unsqueeze(0)
    return found


def _write_encoder(folder: Path, made: dict, model: Extractor, relation: bool) -> None:
    """`config.json`, `vocab.txt` and `tokenizer_config.json`, as every version of BERT's tokenizer reads them."""
    encoder = _relation_encoder(model) if relation else model.encoder
    kept = (
        "model_type vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size hidden_act "
        "hidden_dropout_prob attention_probs_dropout_prob max_position_embeddings type_vocab_size initializer_range "
        "layer_norm_eps pad_token_id"
    )
    config = {key: made["encoder_config"][key] for key in kept.split() if key in made["encoder_config"]}
    if made["system"] in ("sinet", "spert"):
        config[f"{made['system']}_version"] = "1.1"  # their code refuses a state dict without
    write_json(folder / "config.json", config | {"vocab_size": encoder.rows})
    pieces = {number: piece for piece, number in encoder.tokenizer.get_vocab().items()}
    if relation:
        markers = _marker_names(model)
        # a marker is a piece of the vocabulary, or one of the rows that were added for it
        pieces = {number: ADDED_TOKENS(*name) for number, name in markers.items()} | pieces
        pieces = {number: pieces.get(number, f"(filler{number})") for number in range(max(encoder.rows, *pieces) + 1)}
        special = {f"{role}{end}={kind}": pieces[n] for n, (role, end, kind) in markers.items()}
        write_json(folder / "special_tokens.json", special)
    if _word_pieces(encoder.tokenizer):
        lines = "".join(f"{pieces.get(n, f'(filler{n})')}\n" for n in range(max(pieces) + 1))
        write_text(folder / "vocab.txt", lines)
        write_json(folder / "tokenizer_config.json", {"do_lower_case": _lowercase(encoder.tokenizer)})


def _relation_encoder(model: Extractor) -> Encoder:
    """PURE's second encoder."""
    encoder = model.get_submodule("relation_encoder")
    assert isinstance(encoder, Encoder)
    return encoder


def _marker_names(model: Extractor) -> dict[int, tuple[str, str, str]]:
    """PURE's markers by their ids: role, end and entity type."""
    markers = model.get_buffer("markers")
    return {
        int(markers[k, r, e]): (role, end, kind)
        for k, kind in enumerate(model.labels.entity_types)
        for r, role in enumerate(("SUBJ", "OBJ"))
        for e, end in enumerate(("_START", "_END"))
    }


def _word_pieces(tokenizer: PreTrainedTokenizerFast) -> bool:
    return json.loads(tokenizer.backend_tokenizer.to_str())["model"]["type"] == "WordPiece"


def _lowercase(tokenizer: PreTrainedTokenizerFast) -> bool:
    return bool((json.loads(tokenizer.backend_tokenizer.to_str())["normalizer"] or {}).get("lowercase"))


def _write_types(out: Path, system: str, model: Extractor) -> None:
    """The types in the order of their classes, in the authors' form."""
    entities, relations = model.labels.entity_types, model.labels.relation_types
    if system == "pfn":
        for name, types in (("ner2idx.json", entities), ("rel2idx.json", relations)):
            write_json(out / name, {t: i for i, t in enumerate(types)})
    elif system == "pure":
        write_json(out / "relation" / "label_list.json", ["no_relation", *relations])
        write_json(out / "entity" / "label_list.json", ["no entity", *entities])  # for `import`: theirs are in the code
    else:
        symmetric = model.labels.symmetric
        typed = {t: {"short": t, "verbose": t} for t in entities}
        related = {t: {"short": t, "verbose": t, "symmetric": t in symmetric} for t in relations}
        write_json(out / "types.json", {"entities": typed, "relations": related})


def _readme(made: dict, model: Extractor) -> str:
    system, authors = made["system"], RELEASED[made["system"]]
    settings: Any = model.settings
    trained = ""
    lowercase = _lowercase(model.encoder.tokenizer)
    if not model.mask_padding:
        trained = ". That is so in prediction; in training this run saw padding as there (`mask_padding`)"
    notes = [
        "The state dict holds `bert.pooler`, which the released constructor builds and nothing reads, as zeros.",
        f"Known difference that remains: {authors.difference}{trained}.",
        "Names and shapes are those of that commit. Files and options are those of neighbouring "
        "commits; nothing here was run with it.",
    ]
    if system in ("sinet", "spert"):
        options = {
            "model_type": system,
            "model_path": "THIS_FOLDER",
            "tokenizer_path": "THIS_FOLDER",
            "types_path": "THIS_FOLDER/types.json",
            "max_span_size": settings.max_span_width,
            "size_embedding": settings.width_size,
            "rel_filter_threshold": settings.threshold,
        }
        options |= {"head": settings.heads, "eval_batch_size": 1} if system == "sinet" else {}
        options |= {"lowercase": "true"} if lowercase else {}
        how = "\n".join(["In the configuration of its `eval`:\n", *(f"    {k} = {v}" for k, v in options.items())])
    elif system == "pfn":
        how = (
            "Put ner2idx.json and rel2idx.json into data/NAME/ of the repository, the triples of the test set beside "
            "them, and run\n\n    python eval.py --data NAME --embed_mode MODE --model_file THIS_FOLDER/pfn.pt "
            f"--hidden_size {settings.hidden_size} --dropconnect {settings.dropconnect} --batch_size 1"
        )
        notes += [
            f"MODE must build the encoder of these weights ({made.get('encoder', 'see config.json')}, hidden size "
            f"{model.encoder.hidden_size}); eval.py knows input sizes 768 and 4096 only, model/pfn.py the hub's names.",
            f"The released metric's threshold is 0.5, this run's is {settings.threshold}.",
            "With transformers 4.31 or later remove `bert.embeddings.position_ids` from the state dict.",
        ]
    else:
        types = list(model.labels.entity_types)
        task = "--task TASK --do_eval --eval_test --context_window"
        script, batched = "run_relation.py", ""
        if settings.markers == "batched":
            script, batched = "run_relation_approx.py", " --batch_computation"
        lower = " --do_lower_case" if lowercase else ""
        longest = min(settings.max_sequence_length, _relation_encoder(model).max_pieces)
        how = (
            f"In shared/const.py set task_ner_labels[TASK] = {types}\n"
            f"and task_rel_labels[TASK] = {list(model.labels.relation_types)}; then\n\n"
            f"    python run_entity.py {task} {settings.entity_window} --data_dir DATA --output_dir THIS_FOLDER/entity "
            f"--model THIS_FOLDER/entity --max_span_length {settings.max_span_width}\n"
            f"    python {script} {task} {settings.relation_window} --output_dir THIS_FOLDER/relation "
            f"--model THIS_FOLDER/relation --entity_output_dir THIS_FOLDER/entity "
            f"--max_seq_length {longest}{lower}{batched}"
        )
        sizes = settings.hidden_size, settings.width_size
        if sizes != (150, 150):
            named = f"head_hidden_dim={sizes[0]} and width_embedding_dim={sizes[1]}"
            notes += [f"The head's sizes are no options there: set the defaults {named} in entity/models.py."]
    if not _word_pieces(model.encoder.tokenizer):
        notes += ["The encoder's tokenizer is not a word-piece one, so there is no vocab.txt."]
    listed = "\n".join(f"- {note}" for note in notes)
    title = f"# Weights of {system} for {authors.repository.split(',')[0]}"
    return f"{title}\n\nFor the code of {authors.repository}.\n\n{how}\n\n{listed}\n"


# -- theirs to ours ------------------------------------------------------------------------------------------------


def import_run(source: Path, like: Path, out: Path) -> None:
    """Make a run's folder `out` of released weights.

    `source`: the folder that `export_run` writes or the authors' code saves; for one state dict also that file alone.
    `like`: a run of the same system with the same encoder. Settings, tokenizer and what the released files do not say
    come from it; the order of the types comes from the released files where they are there.

    Raises:
        UserError: weights that are no plain tensors, do not fit, or belong to another vocabulary.
    """
    made = described(like)
    authors = _authors(made["system"], like)
    check_new("--out", out)
    if not source.exists():
        raise UserError(f"--released {source}: no such file or folder{similar_path(source)}")
    folder = source if source.is_dir() else source.parent
    labels = _labels(made["system"], folder, Labels.from_json(made["labels"]))
    with readable(like / "tokenizer"):
        encoder = rebuild_encoder(made["encoder_config"], like / "tokenizer")
    try:
        model = systems.load(made["system"])(labels, encoder, **made["settings"])
    except ValueError as error:
        raise UserError(f"{like}: made by other code than this ({error})") from None
    ours, sums = model.state_dict(), {}
    for place, (file, names) in authors.models.items():
        path = source if source.is_file() and not place else _weights_file(folder / place, file)
        sums[f"{place}/{path.name}".lstrip("/")] = file_sha256(path)
        theirs = {n: v for n, v in _tensors(path).items() if not any(part in n for part in UNREAD)}
        _check_fit(path, theirs, released(ours, names))
        _check_tokenizer(path.parent, model.encoder.tokenizer, like)
        ours |= renamed(theirs, names)
    if "markers" in ours:
        ours["markers"] = _markers(folder / "relation", model)
    model.load_state_dict(ours)
    out.mkdir(parents=True, exist_ok=True)
    (out / "tokenizer").mkdir(exist_ok=True)
    for path in sorted((like / "tokenizer").iterdir()):
        write_atomically(out / "tokenizer" / path.name, functools.partial(shutil.copyfile, path))
    write_weights(out / "model.safetensors", model)
    # last: the file by which a finished run is known
    write_sealed(
        out / "model.json",
        made
        | {
            "labels": labels.to_json(),
            "files": run_sums(out),
            "released": {"repository": authors.repository, "sha256": sums},
        },
    )


def _weights_file(folder: Path, file: str) -> Path:
    found = [folder / name for name in (file, "model.safetensors") if (folder / name).is_file()]
    found += sorted(folder.glob("*.pt")) if file.endswith(".pt") else []
    if not found:
        raise UserError(f"{folder}: no {file} in it, the released weights")
    return found[0]


def _tensors(path: Path) -> dict[str, Tensor]:
    """A released state dict; a pickle is read for its tensors only, code in it is refused."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, ValueError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{path}: no state dict of plain tensors, so it is not read ({why:.150})") from None
    if not isinstance(state, dict) or not all(isinstance(n, str) and _is_plain(v) for n, v in state.items()):
        raise UserError(f"{path}: should hold a state dict, plain tensors by name; save model.state_dict()")
    return state


def _is_plain(value: object) -> bool:
    """Whether it is a dense tensor with its figures in memory, not quantised."""
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        return False
    return value.device.type == "cpu" and not value.is_quantized


def _check_fit(path: Path, theirs: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raise `UserError` that names the first missing, unexpected, mis-shaped or non-numerical tensor and how many there
    are."""
    shaped = {n: (tuple(theirs[n].shape), tuple(expected[n].shape)) for n in theirs.keys() & expected.keys()}
    wrong: dict[str, tuple[list[str], Callable[[str], str]]] = {
        "missing": (sorted(expected.keys() - theirs.keys()), str),
        "unexpected": (sorted(theirs.keys() - expected.keys()), str),
        "of another shape": (
            sorted(n for n, (a, b) in shaped.items() if a != b),
            lambda n: "{} ({}, should be {})".format(n, *shaped[n]),
        ),
        "that should be finite floating-point numbers": (
            sorted(n for n in shaped if not (theirs[n].is_floating_point() and theirs[n].isfinite().all())),
            lambda n: f"{n} ({str(theirs[n].dtype).removeprefix('torch.')})",
        ),
    }
    told = [f"{counted(len(n), 'tensor')} {what}, first {say(n[0])}" for what, (n, say) in wrong.items() if n]
    if told:
        raise UserError(f"{path}: does not fit the run given as --like: {'; '.join(told)}")


def _check_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerFast, like: Path) -> None:
    """Raise `UserError` where the released files give a word piece another id than the run's tokenizer, or case another
    treatment."""
    if (path := folder / "tokenizer_config.json").is_file():
        said, ours = _mapping(path).get("do_lower_case"), _lowercase(tokenizer)
        if said not in (None, ours):
            told = f"do_lower_case is {json.dumps(said)}, the tokenizer of {like} has {json.dumps(ours)}"
            raise UserError(f"{path}: {told}; give a run of the same encoder as --like")
    if (path := folder / "vocab.txt").is_file():
        pieces = _lines(path)
        for piece, number in tokenizer.get_vocab().items():
            if number < len(pieces) and pieces[number] != piece:
                raise UserError(
                    f"{path}: word piece {number} is {pieces[number]!r}, in the tokenizer of {like} {piece!r}; "
                    "give a run of the same encoder as --like"
                )


def _mapping(path: Path) -> dict:
    if not isinstance(found := read_json(path), dict):
        raise UserError(f"{path}: should hold a mapping")
    return found


def _lines(path: Path) -> list[str]:
    try:
        # not splitlines: pieces may be such signs
        return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 ({error.reason} at byte {error.start})") from None


def _labels(system: str, folder: Path, like: Labels) -> Labels:
    """The types in the released order, or those of `like` where no file says it; `UserError` for a broken one."""
    entities, relations, symmetric = like.entity_types, like.relation_types, like.symmetric
    try:
        if system in ("sinet", "spert"):
            if (path := next(iter(sorted(folder.glob("*types.json"))), None)) is not None:
                types = read_json(path, "entities", "relations")
                entities, relations = tuple(types["entities"]), tuple(types["relations"])
                both_ways = {t: types["relations"][t]["symmetric"] for t in relations}
                if not all(isinstance(value, bool) for value in both_ways.values()):
                    raise ValueError
                symmetric = frozenset(t for t, value in both_ways.items() if value)
        elif system == "pfn":
            if (path := folder / "ner2idx.json").is_file():
                entities = _by_index(read_json(path))
            if (path := folder / "rel2idx.json").is_file():
                relations = _by_index(read_json(path))
        else:  # the first is none; only `export_run` writes the list of entity types
            if (path := folder / "entity" / "label_list.json").is_file():
                entities = _listed(read_json(path))
            if (path := folder / "relation" / "label_list.json").is_file():
                relations = _listed(read_json(path))
    except (KeyError, TypeError, AttributeError, ValueError):
        raise UserError(f"{path}: does not hold types as the authors' code writes them") from None
    return Labels(entities, relations, symmetric & set(relations))


def _listed(types: list[str]) -> tuple[str, ...]:
    """Of a list whose first entry stands for none of them."""
    if not isinstance(types, list) or not all(isinstance(t, str) for t in types) or len(set(types)) < len(types):
        raise ValueError
    return tuple(types[1:])


def _by_index(numbered: dict[str, int]) -> tuple[str, ...]:
    whole = all(type(number) is int for number in numbered.values())  # True is 1 as well
    if not whole or sorted(numbered.values()) != list(range(len(numbered))):
        raise ValueError
    return tuple(sorted(numbered, key=numbered.__getitem__))


def _markers(folder: Path, model: Extractor) -> Tensor:
    """PURE's marker ids, (types, 2, 2), by `special_tokens.json` and the vocabulary beside it."""
    if not (path := folder / "special_tokens.json").is_file():
        raise UserError(f"{path}: missing; it says which word pieces the markers are")
    special, markers = _mapping(path), model.get_buffer("markers").clone()
    ids = model.encoder.tokenizer.get_vocab()
    if (vocabulary := folder / "vocab.txt").is_file():
        ids = {piece: i for i, piece in enumerate(_lines(vocabulary))}
    for number, (role, end, kind) in _marker_names(model).items():
        name = f"{role}{end}={kind}"
        if not isinstance(piece := special.get(name), str) or piece not in ids:
            raise UserError(
                f"{path}: {name!r} is not a word piece of the vocabulary; do the entity types of --like differ?"
            )
        markers[model.get_buffer("markers") == number] = ids[piece]
    return markers
