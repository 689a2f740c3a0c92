"""Raw text: words with their characters, and triples from it with a trained run."""

import json

import pytest

import sinet
from sinet.__main__ import main
from sinet.data.text import Word, cut, sentences
from sinet.model.sinet import System
from sinet.run.extract import paragraphs
from sinet.run.train import train_run
from tests.conftest import tiny_run

TEXT = "Dr. Smith's parser (v2.0) isn't slow, e.g. 9 words/s here.  It won!\n\nA title without end\n\nU.S. troops left."


@pytest.fixture(scope="module")
def prepared_run(tiny_mirror, prepared, tmp_path_factory):
    """A finished run that has learned the ten sentences of the corpus."""
    folder = tmp_path_factory.mktemp("run")
    settings = System.tiny | {"dropout": 0.0, "attention_dropout": 0.0}
    run = tiny_run(settings, 0, epochs=60, batch_size=5, weight_decay=0.0, selection="last")
    train_run(run, prepared, folder / "out", folder / "state", [tiny_mirror])
    return folder / "out"


def test_words_are_the_characters_they_say():
    found = list(sentences(TEXT))
    assert all(TEXT[word.start : word.end] == word.text for words in found for word in words)
    assert "".join(w.text for words in found for w in words) == "".join(TEXT.split())
    assert [words[0].text for words in found] == ["Dr.", "It", "A", "U.S."]


def test_line_breaks_end_sentences_when_asked():
    text = "One line\nand another"
    assert len(list(sentences(text))) == 1 and len(list(sentences(text, lines=True))) == 2
    assert list(sentences(" \n \n")) == []


def test_words_are_cut_at_edges():
    assert cut([Word("ex-president", 5, 17)], {8, 17, 5, 40}) == [Word("ex-", 5, 8), Word("president", 8, 17)]


def test_paragraphs_cover_the_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffé one\r\ntwo\r\n\r\nthree".encode())
    parts = list(paragraphs(path))
    text = "".join(part for _, _, part in parts)
    assert text == "é one\r\ntwo\r\n\r\nthree"
    assert all(text[offset : offset + len(part)] == part for _, offset, part in parts) and len(parts) == 2


def test_triples_from_text(prepared_run, tmp_path, capsys):
    text = "We use neural parsers for semantic parsing .\n\nNothing here ."
    found = sinet.load(prepared_run).predict([text, "One more ."])
    assert [t.document for t in found] == ["0", "0", "1"]
    for sentence in found[:2]:
        for entity in sentence.as_json()["entities"]:
            start, end = entity["characters"]
            assert text[start:end] == entity["text"] and 0 <= entity["score"] <= 1
    assert any(t.found.entities for t in found), "the run has learned its ten sentences"

    page, out = tmp_path / "p.html", tmp_path / "o.jsonl"
    arguments = ["predict", "--run", str(prepared_run), "--text", text, "--html", str(page), "--output", str(out)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed == "\n".join(t.readable() for t in found[:2]) + "\n"
    assert [json.loads(line) for line in out.read_text().splitlines()] == [t.as_json() for t in found[:2]]
    drawn = page.read_text()
    assert drawn.count("<svg") == 2 and "http://www.w3.org/2000/svg" in drawn and "<script" not in drawn

    source = tmp_path / "in.txt"
    source.write_text(text, encoding="utf-8")
    file_out = tmp_path / "f.jsonl"
    assert main(["predict", "--run", str(prepared_run), "--input", str(source), "--output", str(file_out)]) == 0
    written = [json.loads(line) for line in file_out.read_text().splitlines()]
    assert [(w["tokens"], w["offsets"], w["entities"]) for w in written] == [
        (t.as_json()["tokens"], t.as_json()["offsets"], t.as_json()["entities"]) for t in found[:2]
    ]


def test_wrong_calls_of_predict_are_explained(prepared_run, tmp_path, capsys):
    assert main(["predict", "--run", str(prepared_run), "--input", "x.txt"]) == 2
    assert "--output: name the file to write" in capsys.readouterr().err
    assert main(["predict", "--run", str(tmp_path), "--text", "a"]) == 2
    assert "no model.json, so no finished run" in capsys.readouterr().err
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe")
    bad = ["predict", "--run", str(prepared_run), "--input", str(tmp_path / "bad.txt"), "--output", str(tmp_path / "o")]
    assert main(bad) == 2 and "not UTF-8" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("text", ["", "   \n"])
def test_text_without_words_gives_nothing(prepared_run, text):
    assert sinet.load(prepared_run).predict([text]) == []
