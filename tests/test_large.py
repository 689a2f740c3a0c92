"""Large and hostile files take time that is linear in their size, and messages stay short."""

import json
import time
from collections.abc import Callable

import pytest

from sinet.cli import main
from sinet.data.ace import Lost, read_documents
from sinet.data.check import check_files
from sinet.data.text import LONGEST, sentences
from sinet.errors import UserError

N = 20_000
SECONDS = 40
"""Far above what any of these takes, far below what each took when its time grew with the square."""


@pytest.fixture
def in_time():
    begun = time.process_time()  # of this process: the machine may do other things
    yield
    assert time.process_time() - begun < SECONDS


def entities(n: int) -> dict:
    spans = [{"type": "T", "start": i, "end": min(i + 3, n)} for i in range(n)]
    related = [{"type": "r", "head": i, "tail": i + 1} for i in range(n - 1)]
    return {"tokens": ["w"] * n, "entities": spans, "relations": related}


def document(n: int, tail: Callable[[int], int]) -> dict:
    return {
        "sentences": [["a", "b"]] * n,
        "ner": [[[2 * i, 2 * i, "T"], [2 * i + 1, 2 * i + 1, "T"]] for i in range(n)],
        "relations": [[[2 * i, 2 * i, tail(i), tail(i), "r"]] for i in range(n)],
        "clusters": [[[2 * i, 2 * i], [2 * i + 1, 2 * i + 1]] for i in range(n)],
    }


TWICE = ",".join(f'"k{i % N}": 1' for i in range(2 * N))
FILES = {
    "entities": (lambda: json.dumps(entities(N)), 0, ""),
    "keys": (lambda: f"{{{TWICE}}}", 1, "key 'k0' occurs twice"),
    "sentences": (lambda: json.dumps(document(N, lambda i: 2 * i + 1)), 0, ""),
    "far relations": (lambda: json.dumps(document(N, lambda i: 2 * N - 1)), N - 1, f"document's sentence {N - 1};"),
    "blanks": (lambda: f"[{' ' * 20_000_000}{json.dumps(entities(2))}{' ' * 20_000_000}]", 0, ""),
    "lines": (lambda: "\n" * 5_000_000 + json.dumps(entities(2)), 0, ""),
    "types": (
        lambda: "".join(
            json.dumps({"tokens": ["a"], "entities": [{"type": f"type {i}", "start": 0, "end": 1}]}) + "\n"
            for i in range(N)
        ),
        1,
        "20,000 types in all",
    ),
    "foreign keys": (lambda: json.dumps({f"sentenc{i}": [[1]] for i in range(N)}), 1, "and 19,970 more"),
    "broken": (lambda: "[\n" + "{\n" * N, 1000, "broken JSON"),
}


@pytest.mark.parametrize("name", FILES)
def test_large_files(name, tmp_path, in_time):
    make, faults, first = FILES[name]
    path = tmp_path / "x.json"
    path.write_text(make())
    report = check_files([path], None, None)
    assert len(report.faults) == faults and first in (*report.faults, "")[0]
    assert max(map(len, report.faults), default=0) < 1500 and len(report.description) < 20_000


UNITS = ["&", "(", ")]", '"', "\N{GRINNING FACE}", ":)", "http://a.b/c?", "'s", "<", "&amp;", "&#" + "1" * 5000 + ";"]


@pytest.mark.parametrize("unit", UNITS)
def test_giant_words(unit, in_time):
    text = "Ann saw " + unit * (N // len(unit) + 1)
    words = [word for sentence in sentences(text) for word in sentence]
    assert [w.text for w in words[:2]] == ["Ann", "saw"] and all(text[w.start : w.end] == w.text for w in words)
    assert sum(len(w.text) for w in words) == len(text) - 2, "no character is lost"


def test_words_up_to_the_bound_are_as_before():
    word = "a" * LONGEST
    assert [w.text for s in sentences(f"x {word} y") for w in s] == ["x", word, "y"]
    assert [w.text for s in sentences(f"x {word}b y") for w in s] == ["x", word, "b", "y"]


def write_ace(folder, source: str, annotation: str) -> dict:
    (folder / "x.sgm").write_text(source)
    path = folder / "x.apf.xml"
    path.write_text(f'<source_file URI="x"><document DOCID="x">{annotation}</document></source_file>')
    return {"x": path}


def mention(i: int, start: int, end: int, text: str = "Ann") -> str:
    place = f'<head><charseq START="{start}" END="{end}">{text}</charseq></head>'
    return f'<entity ID="E{i}" TYPE="PER"><entity_mention ID="{i}">{place}</entity_mention></entity>'


def relation(head: int, tail: int) -> str:
    arguments = "".join(f'<relation_mention_argument REFID="{a}" ROLE="Arg-{n}"/>' for n, a in ((1, head), (2, tail)))
    return f'<relation TYPE="X"><relation_mention>{arguments}</relation_mention></relation>'


@pytest.mark.parametrize("unit", UNITS)
def test_giant_words_of_ace(unit, tmp_path, in_time):
    found = write_ace(tmp_path, f"<DOC><TEXT>Ann {unit * (N // len(unit) + 1)}</TEXT></DOC>", mention(0, 0, 2))
    (sentence, *_) = read_documents(["x"], found, True, Lost())
    assert sentence.tokens[0] == "Ann" and len(sentence.entities) == 1


@pytest.mark.parametrize("related", ["none", "neighbours", "chain"])
@pytest.mark.parametrize("header", [True, False])
def test_many_mentions_of_ace(related, header, tmp_path, in_time):
    text = "<POSTER>Bob</POSTER>\nAnn ran.\n" * N  # 13 characters without tags
    annotation = "".join(mention(i, 13 * i + 4, 13 * i + 6) for i in range(N))
    steps = {"none": 0, "neighbours": 2, "chain": 1}[related]
    annotation += "".join(relation(i, i + 1) for i in range(0, N - 1, steps)) if steps else ""
    found = read_documents(["x"], write_ace(tmp_path, f"<DOC><TEXT>{text}</TEXT></DOC>", annotation), header, Lost())
    assert sum(len(s.entities) for s in found) == N
    assert sum(len(s.relations) for s in found) == {"none": 0, "neighbours": N // 2, "chain": N - 1}[related]
    assert sum(s.tokens.count("Bob") for s in found) == (N if header else 0)


def test_deep_annotations_and_giant_heads_are_refused(tmp_path, in_time):
    deep = '<entity TYPE="PER">' * N + mention(0, 0, 2) + "</entity>" * N
    with pytest.raises(
        UserError, match=r"x\.apf\.xml: cannot be read as XML: more than 50 elements within one another"
    ):
        read_documents(["x"], write_ace(tmp_path, "<TEXT>Ann</TEXT>", deep), True, Lost())
    with pytest.raises(UserError, match=r"mention 0: a head of 20,001 characters; 10,000 at most"):
        source = f"<TEXT>{'Ann ' * N}</TEXT>"
        read_documents(["x"], write_ace(tmp_path, source, mention(0, 0, N)), True, Lost())


def test_giant_words_and_sentences_of_words_are_refused_before_they_are_cut(tmp_path, capsys, in_time):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"tokens": ["é&(" * 4000]}) + "\n" + json.dumps({"tokens": ["w"] * 2_000_000}) + "\n")
    assert main(["check", str(path)]) == 2
    _, word, _, sentence = capsys.readouterr().err.splitlines()
    assert "x.jsonl:1: tokens[0]: a word of 12,000 characters, 10,000 at most; split it" in word
    assert "x.jsonl:2: tokens: 2,000,000 words of 2,000,000 characters, minilm takes 512 pieces" in sentence


def test_a_mention_that_is_not_its_characters_is_shown_in_short(tmp_path):
    lost = Lost()
    read_documents(["x"], write_ace(tmp_path, "<TEXT>Ann</TEXT>", mention(0, 0, 2, "Bob" * N)), True, lost)
    assert len(lost.mentions[0]) < 300
