"""Random JSON through every reader: it is read, or refused in one printable line; nothing else happens."""

import json
import random

from sinet.data.check import check_files
from sinet.data.formats import FORMS, read
from sinet.errors import UserError

WORDS = ["Kim", "sang", ".", "", " ", "a b", "\x1b[2J", "\n", "\ud800", "x" * 3000, "None", "B-PER", "&", "\u2028"]
KEYS = [
    *("tokens", "entities", "relations", "sentences", "ner", "clusters", "doc_key", "doc_id", "id", "document"),
    *("coreference", "orig_id", "type", "start", "end", "head", "tail", "score", "text", "sentence", "label", "spans"),
    *("token", "ents", "triples", "data", "annotations", "T\n", "k" * 3000),
]
NUMBERS = [0, 1, 2, 3, -1, 10**6, 10**30, -(10**400), 0.5, 1e308, float("nan"), float("inf"), True, False, None]
SEEDS = 2500


def anything(r: random.Random, depth: int = 0) -> object:
    kind = r.random()
    if depth > 4 or kind < 0.25:
        return r.choice(WORDS)
    if kind < 0.5:
        return r.choice(NUMBERS)
    if kind < 0.75:
        return [anything(r, depth + 1) for _ in range(r.randrange(4))]
    return {r.choice(KEYS): anything(r, depth + 1) for _ in range(r.randrange(5))}


def nearly(r: random.Random) -> object:
    """A record of a known form of which something, often, is replaced."""
    n = r.randrange(1, 5)
    spans = [[s := r.randrange(n), r.randrange(s, n) + 1, r.choice(["A", "NA", "Other", *WORDS])] for _ in range(3)]
    form = r.choice(["own", "table_sequence", "dygie"])
    words = [r.choice(["Kim", "sang", "."]) for _ in range(n)]
    if form == "own":
        entities = [{"type": t, "start": s, "end": e} for s, e, t in spans]
        record = {"tokens": words, "entities": entities, "relations": [{"type": "r", "head": 0, "tail": 1}]}
    elif form == "table_sequence":
        record = {"tokens": words, "entities": spans, "relations": [[*spans[0][:2], *spans[1][:2], "r"]]}
    else:
        record = {"sentences": [words], "ner": [[[s, e - 1, t] for s, e, t in spans]], "relations": [[]]}
    for _ in range(r.randrange(3)):
        place = record
        while isinstance(place, dict | list) and place and r.random() < 0.7:
            key = r.choice(list(place)) if isinstance(place, dict) else r.randrange(len(place))
            if not isinstance(place[key], dict | list) or r.random() < 0.3:
                place[key] = anything(r)
                break
            place = place[key]
        if r.random() < 0.2:
            record[r.choice(KEYS)] = anything(r)
    return record


def triplets(r: random.Random) -> str:
    """A list of ASTE-Data-V2 of which something, often, is replaced."""
    if r.random() < 0.2:
        return repr(anything(r))
    numbers = [[r.randrange(2)] if r.random() < 0.7 else anything(r) for _ in range(2)]
    return repr([(*numbers, "POS" if r.random() < 0.7 else anything(r))])


def text(r: random.Random) -> str:
    records = [(nearly if r.random() < 0.8 else anything)(r) for _ in range(r.randrange(1, 4))]
    made = json.dumps(records) if r.random() < 0.5 else "\n".join(map(json.dumps, records))
    if r.random() < 0.2:
        made = "\n".join(f"{r.choice(WORDS)} ate####{triplets(r)}" for _ in range(r.randrange(1, 4)))
    if r.random() < 0.2:
        at = r.randrange(len(made) + 1)
        made = (
            made[:at]
            + r.choice(["", "{", "]", ",", '"', "\\", "\n", "[" * 2000, "9" * 5000])
            + made[at + r.randrange(3) :]
        )
    return made


def test_random_files_are_read_or_refused_in_one_line(tmp_path):
    path, outcomes = tmp_path / "x.json", {"read": 0, "refused": 0}
    for seed in range(SEEDS):
        r = random.Random(seed)
        path.write_text(text(r), encoding="utf-8", errors="replace")
        faults = check_files([path], None, None).faults
        for form in (*FORMS, None):
            try:
                read(path, form)
                outcomes["read"] += 1
            except UserError as error:
                outcomes["refused"] += 1
                faults.append(str(error))
        for fault in faults:
            assert "\n" not in fault and len(fault) < 1500 and not any(c in fault for c in "\x1b\x00\u2028"), (
                seed,
                fault,
            )
    assert min(outcomes.values()) > SEEDS / 20, outcomes
