"""Hostile inputs to every reader, made by a seeded generator: each is taken, or refused in clear lines.

`python -m tests.fuzz [N]` makes N of them (2,400) and prints how many of each reader were taken and refused, and every
other end: an exception of another kind, or a message with a control character.
"""

import collections
import copy
import datetime
import json
import random
import sys
import tempfile
import time
import traceback
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from sinet.data.check import check_files
from sinet.data.sentence import Labels, read_sentences
from sinet.encoders.located import COMMIT, changed_files, locate_encoder
from sinet.errors import UserError
from sinet.files import read_json
from sinet.grid.bounded_yaml import read_yaml
from sinet.grid.config import load_config
from sinet.grid.mistakes import validated
from sinet.grid.plan import resolve
from sinet.grid.site import load_site
from sinet.schema import Dataset, Encoder, EncoderSpec, RunSpec

NESTED: list = []
for _ in range(200):
    NESTED = [NESTED]
VALUES = (
    *(10**30, -(10**400), 2**53 + 1, -1, 0, 1.5, 1e308, float("inf"), float("nan"), True, None),
    *("", "x" * 100_000, "\x1b[31mred", "a\0b", "line\n", "\u202e", "\ud800", "../../..", "=1+1", "nan", "1e5"),
    *([], {}, [[]], {"": None}, NESTED, [{}], ["x"] * 3, {"x": {"x": 1}}, [None]),
)
OF_YAML = (datetime.date(2024, 1, 1), {1: 2}, {None: 1}, {True: 1}, b"bytes", {"a\n": 1}, (1, 2), {1, 2}, 10**5000)
"""What YAML can hold and JSON cannot, or not all of it."""
DIGITS = "9" * 5000
TEXTS = ("[" * 100_000, '{"a":' * 5000, DIGITS, "\0", "\ufeff", "\x1b[2J", "'", '"', ":", "- ", "&a [*a]", "}", "\n")
"""Put somewhere into a text."""
SCALARS = ("24:00:00", "2024-13-45", "010", "1_000", "!!binary x", "&a [*a]", "*none", DIGITS, "!!int [1]", "? x", "%")


def places(value: object, path: tuple = ()) -> Iterator[tuple]:
    """The paths of everything that a nested value holds."""
    held = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in held:
        yield (*path, key)
        yield from places(child, (*path, key))


def changed(whole: object, draw: random.Random, values: tuple = VALUES) -> object:
    """A copy with one place removed, renamed, given another's value or a hostile one."""
    if not (everywhere := list(places(whole))):
        return draw.choice(values)
    path, whole = draw.choice(everywhere), copy.deepcopy(whole)
    parent, key = whole, path[-1]
    for step in path[:-1]:
        parent = parent[step]
    kind = draw.choice(("value", "value", "value", "remove", "rename", "other"))
    if kind == "remove":
        del parent[key]
    elif kind == "rename" and isinstance(parent, dict):
        parent[draw.choice([v for v in values if isinstance(v, str)])] = parent.pop(key)
    elif kind == "other":
        parent[key] = copy.deepcopy(parent[draw.choice(list(parent)) if isinstance(parent, dict) else 0])
    else:
        parent[key] = copy.deepcopy(draw.choice(values))
    return whole


def damaged(text: str, draw: random.Random) -> bytes:
    """The bytes of a text, some of them lost, foreign or no Unicode."""
    at = draw.randrange(len(text) + 1)
    kind, whole = draw.choice(("cut", "text", "text", "bytes", "empty")), text.encode("utf-8", "surrogatepass")
    if kind == "cut":
        return whole[:at]
    if kind == "text":
        return (text[:at] + draw.choice(TEXTS) + text[at:]).encode("utf-8", "surrogatepass")
    return whole[:at] + b"\xff\xfe" + whole[at:] if kind == "bytes" else b""


def json_bytes(value: object, draw: random.Random) -> bytes:
    """A changed value as JSON, or its text damaged; a number of thousands of digits now and then."""
    if draw.random() < 0.3:
        return damaged(json.dumps(value), draw)
    text = json.dumps(changed(value, draw))
    return (text.replace("1", DIGITS, 1) if draw.random() < 0.05 else text).encode()


def yaml_bytes(value: object, draw: random.Random) -> bytes:
    """The same as YAML; now and then a value that YAML reads otherwise than it looks."""
    text = yaml.safe_dump(value)
    if draw.random() < 0.3:
        return damaged(text, draw)
    lines = text.splitlines()
    number = draw.choice([n for n, line in enumerate(lines) if ": " in line])
    lines[number] = lines[number].split(": ")[0] + ": " + draw.choice(SCALARS)
    return "\n".join(lines).encode()


TOKENS = ["Parsing", "with", "trees", "of", "words", "."]
JSONL = {
    "tokens": TOKENS,
    "entities": [{"type": "Task", "start": 0, "end": 1}, {"type": "Method", "start": 2, "end": 5}],
    "relations": [{"type": "Used-for", "head": 1, "tail": 0}],
}
SPERT = [
    {
        "tokens": TOKENS,
        "entities": [{"type": "Task", "start": 0, "end": 1}, {"type": "Method", "start": 2, "end": 5}],
        "relations": [{"type": "Used-for", "head": 1, "tail": 0}],
        "orig_id": "a",
    }
]
DYGIE = {
    "doc_key": "d",
    "sentences": [TOKENS, ["Again", "."]],
    "ner": [[[0, 0, "Task"], [2, 4, "Method"]], [[6, 6, "Task"]]],
    "relations": [[[2, 4, 0, 0, "Used-for"]], []],
}
TWO = [{"tokens": TOKENS, "entities": [[0, 1, "Task"], [2, 5, "Method"]], "relations": [[2, 5, 0, 1, "Used-for"]]}]
ASTE = "Parsing with trees .####[([0], [2], 'POS'), ([0], [1, 2], 'NEG')]\nGood .####[([1], [0], 'POS')]\n"
TYPES = {"entity_types": ["Method", "Task"], "relation_types": ["Used-for"], "symmetric": []}
SITE = {"account": "a", "gpus": 1, "limits": {"cpus": 8, "mem_mb": 64000, "runtime": 1440}, "partitions": {"gpu": "g"}}


class Readers:
    """By name what reads a hostile input, which it writes into `folder` first."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.config = folder, load_config()
        small = copy.deepcopy(self.config)
        for kind, count in (("datasets", 2), ("recipes", 2)):
            names = [n for n in ("scierc", "conll04", "short", "own") if n in small[kind]][:count]
            small[kind] = {name: small[kind][name] for name in names}
        self.overlay = {
            key: small[key] for key in ("grid", "efficiency", "case_study", "datasets", "encoders", "models")
        }
        self.run = resolve(self.config, offline=False).specs()[0].model_dump()

    def write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def resolve(self, draw: random.Random) -> object:
        return resolve(changed(self.config, draw, VALUES + OF_YAML), offline=False)

    def configuration(self, draw: random.Random) -> object:
        return resolve(load_config(self.write("c.yaml", yaml_bytes(self.overlay, draw))), offline=False)

    def site(self, draw: random.Random) -> object:
        return load_site(self.write("site.yaml", yaml_bytes(SITE, draw)))

    def site_value(self, draw: random.Random) -> object:
        values = (*VALUES[:14], *OF_YAML[:6])
        return load_site(self.write("site.yaml", yaml.safe_dump(changed(SITE, draw, values)).encode()))

    def any_yaml(self, draw: random.Random) -> object:
        return read_yaml(self.write("any.yaml", damaged(draw.choice(SCALARS) + draw.choice(TEXTS), draw)))

    def declared(self, draw: random.Random) -> object:
        kind = draw.choice(("datasets", "encoders"))
        name = draw.choice(sorted(self.config[kind]))
        return validated({"datasets": Dataset, "encoders": Encoder}[kind], changed(self.config[kind][name], draw))

    def planned_run(self, draw: random.Random) -> object:
        return validated(RunSpec, changed(self.run, draw))

    def commit(self, draw: random.Random) -> object:
        declared = validated(EncoderSpec, {"name": "e", "hub": "a/b", "revision": "main", "cased": False})
        sums = {"config.json": "0" * 64}
        whole = {"hub": "a/b", "revision": "main", "commit": "0" * 40, "sha256": sums}
        folder = self.folder / "encoders" / "e"
        folder.mkdir(parents=True, exist_ok=True)
        self.write("encoders/e/config.json", b"{}")
        self.write("encoders/e/model.safetensors", b"")
        self.write(f"encoders/e/{COMMIT}", json_bytes(whole, draw))
        changed_files(declared, [str(self.folder)])
        return locate_encoder(declared, [str(self.folder)])

    def shards(self, draw: random.Random) -> object:
        folder = self.folder / "encoders" / "s"
        folder.mkdir(parents=True, exist_ok=True)
        index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
        self.write("encoders/s/model-1.safetensors", b"")
        self.write("encoders/s/model.safetensors.index.json", json_bytes(index, draw))
        return locate_encoder(validated(EncoderSpec, {"name": "s", "path": str(folder), "cased": False}))

    def labels(self, draw: random.Random) -> object:
        return Labels.read(self.write("labels.json", json_bytes(TYPES, draw)))

    def sentences(self, draw: random.Random) -> object:
        return read_sentences(self.write("s.jsonl", json_bytes(JSONL, draw)))

    def json_file(self, draw: random.Random) -> object:
        return read_json(self.write("any.json", json_bytes({"a": [1, {"b": None}]}, draw)), "a")

    def check(self, name: str, whole: object) -> Callable[[random.Random], object]:
        made = damaged if isinstance(whole, str) else json_bytes

        def read(draw: random.Random) -> object:
            faults = check_files([self.write(name, made(whole, draw))], None, None).faults
            if faults:
                raise UserError("\n".join(faults))
            return faults

        return read

    def all(self) -> dict[str, Callable[[random.Random], object]]:
        named = ("resolve", "configuration", "site", "site_value", "any_yaml", "declared", "planned_run", "commit")
        named = (*named, "shards", "labels", "sentences", "json_file")
        forms = {"jsonl": ("d.jsonl", JSONL), "spert": ("s.json", SPERT), "dygie": ("g.json", DYGIE)}
        forms["table_sequence"] = ("t.json", TWO)
        forms["aste"] = ("a.txt", ASTE)
        return {name: getattr(self, name) for name in named} | {
            f"check {form}": self.check(*given) for form, given in forms.items()
        }


def fuzz(count: int, seed: int = 0, only: tuple[str, ...] = ()) -> tuple[dict[str, collections.Counter], list[str]]:
    """How many inputs each reader took and refused; and what else became of one, with where it happened."""
    ends: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    others = []
    with tempfile.TemporaryDirectory() as folder:
        readers = {name: read for name, read in Readers(Path(folder)).all().items() if not only or name in only}
        for number in range(count):
            name = list(readers)[number % len(readers)]
            try:
                readers[name](random.Random(f"{seed} {number}"))
                end = "taken"
            except UserError as error:
                end = "refused"
                if wrong := [c for c in str(error) if c != "\n" and unicodedata.category(c) in ("Cc", "Cs")]:
                    end = "other"
                    others.append(f"{seed} {number} {name}: {wrong[0]!r} in {str(error)[:80]!r}")
            except Exception as error:
                end = "other"
                ours = [f for f in traceback.extract_tb(error.__traceback__) if "site-packages" not in f.filename]
                place = " ".join(f"{Path(f.filename).name}:{f.lineno}" for f in ours[-2:])
                others.append(f"{seed} {number} {name}: {type(error).__name__} at {place}: {str(error)[:80]!r}")
            ends[name][end] += 1
    return ends, others


def main() -> int:
    began = time.monotonic()
    ends, others = fuzz(int(sys.argv[1]) if len(sys.argv) > 1 else 2400, *map(int, sys.argv[2:3]))
    for name, counted in ends.items():
        print(f"{name:16} {', '.join(f'{counted[end]} {end}' for end in ('taken', 'refused', 'other'))}")
    whole = sum(ends.values(), collections.Counter())
    print("\n".join(others))
    print(
        f"{whole.total():,} inputs: {whole['refused']:,} clear refusals, {whole['taken']:,} taken, "
        f"{whole['other']:,} anything else; {time.monotonic() - began:.0f} s"
    )
    return 1 if others else 0


if __name__ == "__main__":
    sys.exit(main())
