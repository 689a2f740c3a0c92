"""`sinet init`: files of one's own -> a configuration with their declaration and a grid of SINET alone."""

import functools
import os
import random
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from sinet.data.card import count
from sinet.data.check import split_of
from sinet.data.decode import read_text
from sinet.data.formats import FORMS, read, recognise
from sinet.data.sentence import Labels, Sentence, absences, ask_absence, write_sentences
from sinet.errors import UserError, counted, quoted
from sinet.files import write_atomically
from sinet.grid.config import load_config, read_config
from sinet.mirrors import DOWNLOADS

SPLITS = ("train", "dev", "test")
HELD_OUT = 0.1
"""Share of the sentences that is dev, and share that is test, of a file that is divided; share of train that is dev
where only dev is missing."""
EPOCHS = 8, 100
"""As many sentences are seen as by recipe `equal`, as whole epochs come to, no fewer and no more than these."""
DECLARED_COUNTS = ("sentences", "tokens", "entities", "relations")
FEWEST, HEAD_FIRST, SAME_TYPES, BOTH_WAYS = 10, 0.85, 0.75, 0.5
"""A relation type may be without a direction if so many of it are annotated, the head comes first in this share of them
and this share keeps its types when head and tail change places (SciERC's Compare and Conjunction: 88 and 92 %, 81 and
96 %), or if this share of them is annotated both ways round."""


def init(paths: Sequence[Path], output: Path, name: str, seed: int, force: bool) -> str:
    """Write a configuration that declares files in a known form (`sinet.data.formats`) as dataset `name`, and a grid of
    SINET on it. One file alone is divided into three, written into `data/mirror/NAME/`.

    Returns:
        what was written, a line each.

    Raises:
        UserError: the first mistake in a file; files that are no splits of one dataset; a name that is taken; a file
            that is there already, without `force`. Nothing is written then.
    """
    base = load_config()
    if name in base["datasets"]:
        raise UserError(f"--name {name}: is a dataset of config/datasets.yaml; choose another")
    for path in paths:
        if path.is_dir():
            hint = f"name its files, or, if it is brat's, convert it first: `sinet convert {path} --out DIR`"
            raise UserError(f"{path}: a folder; {hint}")
    forms = {path: recognise(read_text(path)) for path in paths}
    if other := next((path for path in paths if forms[path] != forms[paths[0]]), None):
        there, here = (FORMS[forms[path]].title for path in (paths[0], other))
        raise UserError(f"{other}: {here}, but {paths[0]}: {there}; the files of a dataset have one form")
    sentences = {path: read(path, forms[path]) for path in paths}
    if empty := next((path for path in paths if not sentences[path]), None):
        raise UserError(f"{empty}: the file holds no sentence")
    everything = [sentence for of in sentences.values() for sentence in of]
    if not any(sentence.entities for sentence in everything):
        raise UserError(f"{paths[0]}: no sentence has an entity, so there is nothing to learn")

    said, written = [], {}
    if len(paths) == 1:
        form = "jsonl"
        splits, how = divided(everything, seed)
        files = {split: DOWNLOADS / name / f"{split}.jsonl" for split in SPLITS}
        written = {files[split]: splits[split] for split in SPLITS}
        each = ", ".join(f"{files[split]} {len(splits[split])}" for split in SPLITS)
        said.append(f"{paths[0]}: {counted(len(everything), 'sentence')} divided {how}, seed {seed}: {each}")
    else:
        form, files = forms[paths[0]], _by_split(paths)
        splits = {split: sentences[path] for split, path in files.items()}
    for path in (output, *written):
        if path.resolve() in {given.resolve() for given in paths}:
            raise UserError(f"{path}: would be written over the data; choose another --out or --name")
        if path.exists() and not force:
            raise UserError(f"{path}: is there already; --force writes it anew, --out names another file")

    labels = Labels.occurring(everything)
    text = _configuration(name, form, files, splits, labels, base, output)
    output.parent.mkdir(parents=True, exist_ok=True)

    def write_checked(path: Path) -> None:
        path.write_text(text, encoding="utf-8")
        try:
            read_config(path)
        except UserError as error:  # a name that no configuration may hold, wherever it stands
            raise UserError(str(error).splitlines()[0]) from None

    write_atomically(output, write_checked)
    for path, of in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, functools.partial(write_sentences, sentences=of))
    types = (
        f"{counted(len(labels.entity_types), 'entity type')}, {counted(len(labels.relation_types), 'relation type')}"
    )
    said.append(f"{output}: dataset {name} ({types}) and a grid of SINET; run it: make tables CONFIG={output}")
    return "\n".join(said)


def _by_split(paths: Sequence[Path]) -> dict[str, Path]:
    """The file of each split; raises `UserError` unless each is called after another, train and test among them."""
    files: dict[str, Path] = {}
    for path in paths:
        if (split := split_of(path)) is None:
            rule = "name each file so (such as train.jsonl), or give one file alone, which is divided"
            raise UserError(f"{path}: is called neither train, dev nor test; {rule}")
        if files.setdefault(split, path) != path:
            raise UserError(f"{path}: is called {split}, as {files[split]} is; give one file a split")
    if lacking := [split for split in ("train", "test") if split not in files]:
        rule = f"name it so, or give one file alone, which is divided; without dev {HELD_OUT:.0%} of train are held out"
        raise UserError(f"{', '.join(map(str, paths))}: no file is called {lacking[0]}; {rule}")
    return {split: files[split] for split in SPLITS if split in files}


def divided(sentences: Sequence[Sentence], seed: int) -> tuple[dict[str, list[Sentence]], str]:
    """The sentences as train, dev and test, each in the order of the file, and in words how they were divided: whole
    documents where there are three or more of several sentences, else sentence by sentence; drawn by the seed."""
    documents = {sentence.document for sentence in sentences} - {None}
    whole = len(SPLITS) <= len(documents) < len(sentences)
    units: dict[object, list[int]] = {}
    for i, sentence in enumerate(sentences):
        units.setdefault(sentence.document if whole and sentence.document is not None else i, []).append(i)
    if len(units) < len(SPLITS):
        raise UserError(f"{counted(len(sentences), 'sentence')} in the file, at least 3 are needed for three splits")
    drawn = list(units.values())
    random.Random(seed).shuffle(drawn)
    wanted = max(1, round(HELD_OUT * len(sentences)))
    places: dict[str, list[int]] = {split: [] for split in SPLITS}
    for split, left in (("test", 2), ("dev", 1)):
        while len(drawn) > left and len(places[split]) < wanted:
            places[split] += drawn.pop()
    places["train"] = [i for unit in drawn for i in unit]
    few = f" (of only {counted(len(documents), 'document')})" * (0 < len(documents) < len(SPLITS))
    how = "by document" if whole else f"by sentence{few}"
    return {split: [sentences[i] for i in sorted(places[split])] for split in SPLITS}, how


def undirected(sentences: Sequence[Sentence]) -> dict[str, str]:
    """Relation types that may be without a direction, and what lets one think so."""
    number: Counter[str] = Counter()
    first: Counter[str] = Counter()
    both: Counter[str] = Counter()
    typed: Counter[tuple[str, str, str]] = Counter()
    for sentence in sentences:
        facts = {(r.type, r.head, r.tail) for r in sentence.relations}
        for kind, head, tail in facts:
            h, t = sentence.entities[head], sentence.entities[tail]
            number[kind] += 1
            first[kind] += (h.start, h.end) <= (t.start, t.end)
            both[kind] += (kind, tail, head) in facts
            typed[kind, h.type, t.type] += 1
    found = {}
    for kind, n in sorted(number.items()):
        same = sum(min(times, typed[kind, t, h]) for (of, h, t), times in typed.items() if of == kind)
        if both[kind] >= BOTH_WAYS * n:
            found[kind] = f"{both[kind]} of {n} are annotated both ways round"
        elif n >= FEWEST and first[kind] >= HEAD_FIRST * n and same >= SAME_TYPES * n:
            found[kind] = f"the head comes first in {first[kind]} of {n}, and either type occurs as head and as tail"
    return found


# -- the configuration as text -------------------------------------------------------------------------------------


def _configuration(
    name: str,
    form: str,
    files: dict[str, Path],
    splits: dict[str, list[Sentence]],
    labels: Labels,
    base: dict,
    output: Path,
) -> str:
    places = {split: path.resolve() for split, path in files.items()}
    folder = Path(os.path.commonpath([place.parent for place in places.values()]))
    below = {split: place.relative_to(folder).as_posix() for split, place in places.items()}
    here = os.path.relpath(folder) if folder.is_relative_to(Path.cwd()) else str(folder)
    declared: dict[str, Any] = {
        "title": name,
        "format": form,
        "folder": ".",
        "files": {split: {"path": path} for split, path in below.items()},
    }
    fixed: tuple[str, ...] = SPLITS  # of which splits the files say how many sentences they have
    if "dev" not in files:
        declared["dev_share"] = HELD_OUT
        fixed = ("test",)
    declared |= {"entity_types": list(labels.entity_types), "relation_types": list(labels.relation_types)}
    counts = {split: {key: count(splits[split], labels)[key] for key in DECLARED_COUNTS} for split in fixed}
    seen = base["recipes"]["equal"]["defaults"]["steps"] * base["recipe_defaults"]["batch_size"]
    epochs = min(max(round(seen / len(splits["train"])), EPOCHS[0]), EPOCHS[1])
    length = {"recipes": {"equal": {"defaults": {"steps": None, "epochs": epochs, "evaluate_every": 1}}}}
    hints = "".join(textwrap.indent(line, "    # ") + "\n" for line in _hints(splits, labels))
    return (
        f"# Data of one's own and a grid of one system. make tables CONFIG={output}\n"
        f"# (snakemake --cores all --configfile {output}) runs it; every other key is as in config.yaml and config/.\n"
        + _yaml({"results": f"results/{name}", "mirrors": [here, *base["mirrors"]]})
        + "remark: Rates not tuned on these data.\n"
        + _yaml({"datasets": {name: declared}})
        + hints
        + "    # what the files hold: where they hold something else, nothing is trained\n"
        + textwrap.indent(_yaml({"counts": counts}), "    ")
        + "seeds: [0]\ngrid:\n"
        + textwrap.indent(_yaml([{"datasets": [name], "encoders": ["minilm"], "models": ["sinet"]}]), "  ")
        + "    recipe: equal\n"
        + f"# its length in epochs: about {seen:,} sentences in eight to a hundred epochs\n{_yaml(length)}"
        + "efficiency: null\ncase_study: null\n"
    )


def _hints(splits: dict[str, list[Sentence]], labels: Labels) -> Iterator[str]:
    """Comments on the relation types, a line each."""
    if found := undirected([sentence for of in splits.values() for sentence in of]):
        yield "Without a direction? Where that is so, name the type in `symmetric`:"
        yield from (f"  {quoted(kind)}: {why}" for kind, why in found.items())
        yield _yaml({"symmetric": list(found)}).rstrip("\n")
    if asked := absences(labels.relation_types):
        yield from textwrap.wrap(ask_absence(asked), 114)


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, default_flow_style=None, allow_unicode=True, width=114)
