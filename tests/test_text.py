"""Raw text: words with their characters, and triples from it with a trained run."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import sinet
from sinet.cli import main
from sinet.data.sentence import Entity, Relation, Sentence, read_sentences
from sinet.data.text import Word, cut, foreign, sentences
from sinet.errors import UserError
from sinet.files import write_sealed
from sinet.infer import draw, extract
from sinet.infer.extract import paragraphs
from sinet.provenance import ROOT
from tests.conftest import CORPUS, LABELS

TEXT = "Dr. Smith's parser (v2.0) isn't slow, e.g. 9 words/s here.  It won!\n\nA title without end\n\nU.S. troops left."
GERMAN = (
    "Die Vereinigung der beiden Staaten wurde im Oktober vollzogen. Seitdem ist Berlin wieder die Hauptstadt. Anna "
    "wohnt in Hamburg, wo sie für eine Versicherung arbeitet, und Peter hat seit Mai seinen Sitz in Bonn."
)
TEN = [word for sentence in read_sentences(CORPUS) for word in sentence.tokens]


def test_words_are_the_characters_they_say():
    found = list(sentences(TEXT))
    assert all(TEXT[word.start : word.end] == word.text for words in found for word in words)
    assert "".join(w.text for words in found for w in words) == "".join(TEXT.split())
    assert [words[0].text for words in found] == ["Dr.", "It", "A", "U.S."]


def test_line_breaks_end_sentences_when_asked():
    text = "One line\nand another"
    assert len(list(sentences(text))) == 1 and len(list(sentences(text, lines=True))) == 2
    assert list(sentences(" \n \n")) == []


def test_words_follow_the_rules_of_a_language():
    text = "C'est l'usine d'aujourd'hui, M. Dupont."
    words = {code: [w.text for s in sentences(text, language=code) for w in s] for code in ("en", "fr")}
    assert "l'" in words["fr"] and "aujourd'hui" in words["fr"] and "l'" not in words["en"]


def test_words_broken_across_lines_are_joined_in_text_of_a_pdf():
    """With the characters of both parts; a hyphen that belongs to the word stays, a dash divides."""
    text = (
        "We use co-\noperation, state-of-the-\nart T-\ncells, neu-\r\n  ral\npre\u00ad\nfix parsers -\nof COVID-\n19."
    )
    (joined,) = sentences(text, pdf=True)
    differing = {w.text: text[w.start : w.end] for w in joined if w.text != text[w.start : w.end]}
    assert differing == {
        "cooperation": "co-\noperation",
        "neural": "neu-\r\n  ral",
        "prefix": "pre\u00ad\nfix",
        "COVID-19": "COVID-\n19",
    }
    said = "".join(w.text for w in joined)
    assert said == "Weusecooperation,state-of-the-artT-cells,neuralprefixparsers-ofCOVID-19."
    assert all(before.end <= after.start for before, after in itertools.pairwise(joined))
    assert "co-" in [w.text for s in sentences(text) for w in s], "in other text hyphens stand at ends of lines, too"
    long = "a" * 400 + "-\n" + "b" * 10
    (words,) = sentences(long, pdf=True)
    assert [(w.start, w.end) for w in words] == [(0, 300), (300, 412)]


@pytest.mark.parametrize("blank", ["\n\n", "\r\n\r\n", "\n \t\n", "\n\u00a0\n", "\n\x0c\n"])
def test_a_heading_is_no_part_of_the_sentence_below(blank):
    for pdf in (False, True):
        found = [s[0].text for s in sentences(f"We end here{blank}A short heading{blank}Here it\ngoes on.", pdf=pdf)]
        assert found == ["We", "A", "Here"]


def test_a_heading_may_stand_on_the_paragraph_in_text_of_a_pdf():
    body = "We use neural parsers for semantic parsing and\nevaluate Smith parsers on the corpus of the\nShared Task."
    for above, divided in (
        ("2.1 Our method", True),
        ("It won at last.", False),
        ("Our method is one of very many of Kim", False),
        ("Our method,", False),
    ):
        firsts = [s[0].text for s in sentences(f"{above}\n{body}", pdf=True)]
        assert (firsts[1:] == ["We"]) == (divided or above.endswith(".")), above
        assert len(list(sentences(f"{above}\n{body}"))) == 1 + above.endswith(".")
    assert len(list(sentences(f"Our method\nwith {body}", pdf=True))) == 1, "a sentence goes on in small letters"


def test_another_language_is_evident_from_its_frequent_words():
    words = [w.text for s in sentences(GERMAN) for w in s]
    assert foreign(words, "en") and not foreign(words, "de")
    assert not foreign(words[:20], "en"), "too few"
    for n in range(0, len(TEN) - 30, 30):
        assert not foreign(TEN[n:], "en")


def test_words_are_cut_at_edges():
    assert cut([Word("ex-president", 5, 17)], {8, 17, 5, 40}) == [Word("ex-", 5, 8), Word("president", 8, 17)]


def test_paragraphs_cover_the_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffé one\r\ntwo\r\n\r\nthree".encode())
    parts = list(paragraphs(path))
    text = "".join(part for _, _, part in parts)
    assert text == "é one\r\ntwo\r\n\r\nthree"
    assert all(text[offset : offset + len(part)] == part for _, offset, part in parts) and len(parts) == 2


def test_a_line_without_end_is_divided_between_sentences(tmp_path, monkeypatch):
    text = " ".join(f"Sentence {i} is here." for i in range(40))
    whole = [[w.text for w in words] for words in sentences(text)]
    path = tmp_path / "a.txt"
    path.write_text(text)
    monkeypatch.setattr(extract, "PARAGRAPH", 100)
    parts = list(paragraphs(path))
    assert len(parts) > 8 and "".join(part for _, _, part in parts) == text
    assert all(text[offset : offset + len(part)] == part and len(part) <= 100 for _, offset, part in parts)
    assert [[w.text for w in words] for _, _, part in parts for words in sentences(part)] == whole
    path.write_text("x" * 250)
    assert [len(part) for _, _, part in paragraphs(path)] == [100, 100, 50]


def test_long_wrapped_text_is_divided_between_sentences(tmp_path, monkeypatch):
    monkeypatch.setattr(extract, "PARAGRAPH", 100)
    wrapped = tmp_path / "b.txt"
    wrapped.write_text("\n".join(f"Sentence {i} is\nhere. And" for i in range(40)))
    ends = [part.rstrip()[-1] for _, _, part in paragraphs(wrapped)]
    assert len(ends) > 4 and set(ends[:-1]) == {"."}
    assert "".join(part for _, _, part in paragraphs(wrapped)) == wrapped.read_text()


def test_a_stream_does_not_depend_on_its_chunks(prepared_run, tmp_path, monkeypatch):
    (tmp_path / "in.txt").write_text("We use neural parsers for semantic parsing .\n\n" * 3 + TEXT)
    written = []
    for chunk in (2, 512):
        monkeypatch.setattr(extract, "CHUNK", chunk)
        extract.extract_file(prepared_run, tmp_path / "in.txt", tmp_path / "out.jsonl", None)
        lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        written.append([(w["id"], w["offsets"], [e["characters"] for e in w["entities"]]) for w in lines])
    assert written[0] == written[1] and len(written[0]) == 7


def test_an_interrupted_prediction_is_kept_and_gone_on_from(prepared_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(extract, "CHUNK", 2)
    source, out = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("We use neural parsers for semantic parsing .\n\n" * 3 + TEXT)
    predict, given = extract.predict, []

    def until(last):
        def counted(model, sentences, *others):
            if len(given) == last:
                raise KeyboardInterrupt
            given.append([s.id for s in sentences])
            return predict(model, sentences, *others)

        return counted

    asked = ["predict", "--run", str(prepared_run), "--input", str(source), "--out", str(out)]
    monkeypatch.setattr(extract, "predict", until(2))
    assert main(asked) == 75 and not out.exists()
    (partial,) = tmp_path.glob("out.jsonl.*.partial")
    told = f"interrupted; 4 lines are kept in {partial}, and the same command continues from there"
    assert told in capsys.readouterr().err
    with open(partial, "ab") as file:
        file.write(b'{"half a li')  # as a killed process leaves it
    monkeypatch.setattr(extract, "predict", until(None))
    assert main(asked) == 0 and not list(tmp_path.glob("*.partial"))
    assert given == [["0", "1"], ["2", "3"], ["4", "5"], ["6"]]
    whole = out.read_bytes()
    assert main(asked) == 0 and out.read_bytes() == whole

    partial.write_bytes(b"lines of another text\n" * 4)
    source.write_text(source.read_text() + "More .")
    assert main(asked) == 0 and b"another" not in out.read_bytes() and not partial.exists()


def test_a_sentence_longer_than_the_encoder_is_read_in_windows(prepared_run):
    """Every mention of three words and every relation of neighbours, wherever seams lie, and each once."""
    model = sinet.load(prepared_run).model
    sentence = Sentence("0", ("word",) * 1000)
    windows = extract.windows(model, sentence)
    assert len(windows) > 9 and windows[0][0] == 0 and windows[-1][1] == 1000
    predicted = []
    for start, end in windows:
        part = Sentence("0", sentence.tokens[start:end])
        assert model.truncated_words([part]) == 0
        entities = [Entity("Task", n, n + 3) for n in range(end - start - 2) if (start + n) % 7 == 0]
        cut_off = [Entity("Task", n, end - start) for n in (end - start - 1,) if end < 1000]
        relations = [Relation("Used-for", n, n + 1) for n in range(len(entities) - 1)]
        predicted.append(part.with_labels([*entities, *cut_off], relations))
    read = extract.joined(sentence, windows, predicted)
    starts = [e.start for e in read.entities]
    assert sorted(starts) == [*range(0, 998, 7)], "what a seam cuts is decided by the window that sees around it"
    pairs = sorted((starts[r.head], starts[r.tail]) for r in read.relations)
    assert pairs == [*itertools.pairwise(range(0, 998, 7))]


def test_mentions_of_a_long_sentence_are_found_behind_what_the_encoder_reads(prepared_run, caplog):
    text = "We use neural parsers for semantic parsing and " * 80
    predictor = sinet.load(prepared_run)
    (found,) = predictor.predict(text)
    room = extract.windows(predictor.model, found.found)[0][1]
    assert room < 200 < len(found.words) and not caplog.text
    assert all(text[slice(*e.characters)] == e.text for e in found.entities)
    assert {e.start // room for e in found.found.entities} == {*range(len(found.words) // room + 1)}


def test_text_in_another_language_is_told_of(prepared_run, tmp_path, capsys):
    told = []
    for text in (GERMAN, "We use the parsers that we have for all of the tasks. " * 4):
        assert main(["predict", "--run", str(prepared_run), "--text", text]) == 0
        told.append("hardly a frequent word of --language en" in capsys.readouterr().err)
    assert told == [True, False]


def test_line_breaks_end_sentences_of_a_file_when_asked(prepared_run, tmp_path):
    (tmp_path / "in.txt").write_text("a title\nwe use parsers\nfor parsing")
    out, counts = tmp_path / "out.jsonl", []
    asked = ["predict", "--run", str(prepared_run), "--input", str(tmp_path / "in.txt"), "--out", str(out)]
    for option in ([], ["--lines"]):
        assert main([*asked, *option]) == 0
        counts.append(len(out.read_text().splitlines()))
    assert counts == [1, 3]


def test_mentions_of_broken_words_have_the_characters_of_the_file(prepared_run, tmp_path):
    text = "We use neu-\nral par-\nsers for semantic par-\nsing ."
    (tmp_path / "in.txt").write_text(text)
    out = tmp_path / "out.jsonl"
    asked = ["predict", "--run", str(prepared_run), "--input", str(tmp_path / "in.txt"), "--out", str(out)]
    assert main([*asked, "--pdf"]) == 0
    (found,) = map(json.loads, out.read_text().splitlines())
    assert found["tokens"] == ["We", "use", "neural", "parsers", "for", "semantic", "parsing", "."]
    assert [text[start:end] for start, end in found["offsets"]][2:4] == ["neu-\nral", "par-\nsers"]
    assert found["entities"], "the run has learned the sentence"
    for e in found["entities"]:
        assert text[slice(*e["characters"])].replace("-\n", "") == e["text"]


def test_triples_from_text(prepared_run, tmp_path, capsys):
    text = "We use neural parsers for semantic parsing .\n\nNothing here ."
    found = sinet.load(prepared_run).predict([text, "One more ."])
    assert [t.document for t in found] == ["0", "0", "1"]
    for sentence in found[:2]:
        for entity in sentence.as_json()["entities"]:
            start, end = entity["characters"]
            assert text[start:end] == entity["text"] and 0 <= entity["score"] <= 1
    (relation,) = found[0].relations
    assert (relation.head, relation.tail) in itertools.permutations(found[0].entities, 2), "the run has learned it"
    for e in found[0].entities:
        assert text[slice(*e.characters)] == e.text and f"{e.text} [{e.type}]" in repr(found[0])
    assert repr(relation) == f"⟨{relation.head}, {relation.type}, {relation.tail}⟩ {relation.score:.2f}"
    assert repr(found[0]).startswith("ExtractedSentence('We use neural") and repr(relation) in repr(found[0])
    assert "\n" not in repr(found[0]) and found[2].document == "1" and "relations=[]" in repr(found[2])

    page, out = tmp_path / "p.html", tmp_path / "o.jsonl"
    arguments = ["predict", "--run", str(prepared_run), "--text", text, "--html", str(page), "--out", str(out)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed == "\n".join(t.readable() for t in found[:2]) + "\n"
    assert [json.loads(line) for line in out.read_text().splitlines()] == [t.as_json() for t in found[:2]]
    drawn = page.read_text()
    assert drawn.count("<svg") == 2 and "http://www.w3.org/2000/svg" in drawn and "<script" not in drawn

    source = tmp_path / "in.txt"
    source.write_text(text, encoding="utf-8")
    file_out = tmp_path / "f.jsonl"
    assert main(["predict", "--run", str(prepared_run), "--input", str(source), "--out", str(file_out)]) == 0
    written = [json.loads(line) for line in file_out.read_text().splitlines()]
    assert [(w["tokens"], w["offsets"], w["entities"]) for w in written] == [
        (t.as_json()["tokens"], t.as_json()["offsets"], t.as_json()["entities"]) for t in found[:2]
    ]


def test_what_has_no_file_is_printed(prepared_run, tmp_path, capsys):
    """Raw text to read, as of --text; sentences of words as the lines that the file would have."""
    (tmp_path / "in.txt").write_text("L'usine de parsing, we use neural parsers for semantic parsing .")
    shown = []
    for given in (["--input", str(tmp_path / "in.txt")], ["--text", (tmp_path / "in.txt").read_text()]):
        assert main(["predict", "--run", str(prepared_run), *given, "--language", "fr"]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1] and shown[0].startswith("L' usine ") and "parsing" in shown[0]
    asked = ["predict", "--run", str(prepared_run), "--input", str(CORPUS)]
    assert main(asked) == 0
    printed = capsys.readouterr().out
    assert main([*asked, "--out", str(tmp_path / "out.jsonl")]) == 0
    assert printed == (tmp_path / "out.jsonl").read_text() and printed.count("\n") == 10


def test_a_file_of_texts_keeps_their_ids_and_is_drawn_on_the_way(prepared_run, tmp_path):
    given, lines, page = tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / "out.html"
    texts = {"a": "We use neural parsers for semantic parsing .", "b": "Nothing <here> .\n\nOne more ."}
    given.write_text("".join(json.dumps({"id": id, "text": text}) + "\n" for id, text in texts.items()))
    arguments = ["--run", str(prepared_run), "--input", str(given), "--out", str(lines), "--html", str(page)]
    assert main(["predict", *arguments]) == 0
    written = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [w["document"] for w in written] == ["a", "b", "b"]
    for w in written:
        assert [texts[w["document"]][start:end] for start, end in w["offsets"]] == w["tokens"]
    drawn = page.read_text()
    assert drawn.count("<svg") == 3 and drawn.count("&lt;</text>") == 1
    assert ElementTree.fromstring(drawn[drawn.index("<svg") : drawn.index("</svg>") + 6]) is not None


def test_predicted_sentences_can_be_drawn(prepared_run, tmp_path):
    lines, page = tmp_path / "out.jsonl", tmp_path / "out.html"
    arguments = ["--run", str(prepared_run), "--input", str(CORPUS), "--out", str(lines), "--html", str(page)]
    assert main(["predict", *arguments]) == 0
    assert page.read_text().count("<svg") == 10 == len(lines.read_text().splitlines())


def test_a_drawing_holds_every_entity_and_relation_across_rows():
    """Nested entities, a relation inside one, one to itself, both directions between two, and rows."""
    words = tuple(f"word{i}" for i in range(60))
    entities = (Entity("Task", 0, 3, 0.5), Entity("Method", 1, 2), Entity("Material", 55, 60), Entity("Task", 8, 30))
    pairs = ((0, 1), (1, 0), (2, 2), (0, 2), (3, 2))
    sentence = Sentence("s", words, entities, tuple(Relation("Used-for", *pair, 0.25) for pair in pairs))
    drawn = draw.drawing(sentence, LABELS)
    svg = ElementTree.fromstring(drawn)
    space = "{http://www.w3.org/2000/svg}"
    shown = [t for t in svg.iter(f"{space}text") if t.get("class") == "w"]
    assert [t.text for t in shown] == list(words)
    rows = sorted({float(t.get("y")) for t in shown})
    assert len(rows) == 5, "60 words of 5 and 6 characters do not fit four rows"
    titles = [t.text for t in svg.iter(f"{space}title")]
    for wanted in ("Task 0.50", "Method", "Material"):
        assert wanted in titles
    crossed = 1 + rows.index(float(shown[55].get("y")))
    assert titles.count("Used-for 0.25") == 3 + 2 * crossed, "each within its row, or once in every row it crosses"
    assert len([t for t in svg.iter(f"{space}path") if t.get("class") == "h"]) == len(pairs), "an arrow each"
    width, height = float(svg.get("width")), float(svg.get("height"))
    for t in svg.iter(f"{space}text"):
        half = float(t.get("textLength")) / (2 if t.get("class") == "r" else 1)
        assert float(t.get("x")) + half <= width and 0 < float(t.get("y")) < height
    assert draw.drawing(sentence, LABELS) == drawn


def test_a_library_call_leaves_torch_as_it_is(prepared_run):
    """Threads and determinism belong to the process of the caller; the command line sets its own."""
    program = (
        "import sys, torch, sinet; torch.set_num_threads(3); "
        "found = sinet.load(sys.argv[1]).predict('We use neural parsers .'); "
        "print(torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), len(found))"
    )
    done = subprocess.run([sys.executable, "-c", program, prepared_run], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["3", "False", "1"], done.stderr


def test_a_copied_run_needs_nothing_else(prepared_run, tiny_mirror, tmp_path, capsys):
    """Another process, without mirrors, network or the encoder's files, gives the bytes that the run gives here."""
    shutil.copytree(prepared_run, tmp_path / "copied")

    def arguments(run: Path, out: str) -> list[str]:
        return ["predict", "--run", str(run), "--text", TEXT, "--out", str(tmp_path / out)]

    assert main(arguments(prepared_run, "here.jsonl")) == 0
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    there = [sys.executable, "-m", "sinet", *arguments(tmp_path / "copied", "there.jsonl")]
    done = subprocess.run(there, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == capsys.readouterr().out
    assert (tmp_path / "there.jsonl").read_bytes() == (tmp_path / "here.jsonl").read_bytes()
    files = [file.read_bytes() for file in (tmp_path / "copied").rglob("*") if file.is_file()]
    places = [str(place).encode() for place in (prepared_run.parent, tiny_mirror, tmp_path, ROOT)]
    assert files and not any(place in held for held in files for place in places), "it names no place outside"


def test_wrong_calls_of_predict_are_explained(prepared_run, tmp_path, capsys):
    for option, message in (
        (["--html", "x.html"], "--out: name the file to write"),
        (["--lines", "--pdf"], "--lines, --pdf: give one of them"),
        (["--language", "qq"], "--language 'qq': spaCy has no rules for it (Can't import language qq"),
    ):
        (tmp_path / "in.txt").write_text("a")
        assert main(["predict", "--run", str(prepared_run), "--input", str(tmp_path / "in.txt"), *option]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    words = ["predict", "--run", str(prepared_run), "--input", str(CORPUS), "--language", "de"]
    assert main(words) == 2 and "--language: " in capsys.readouterr().err
    assert main(["predict", "--run", str(tmp_path), "--text", "a"]) == 2
    assert "no model.json, so no finished run" in capsys.readouterr().err
    (tmp_path / "bad.txt").write_bytes("Zürich\n".encode() * 9000 + b"fine\n\xff\xfe")
    bad = ["predict", "--run", str(prepared_run), "--input", str(tmp_path / "bad.txt"), "--out", str(tmp_path / "o")]
    assert main(bad) == 2 and "bad.txt:9002: not UTF-8 (byte 1 of the line)" in capsys.readouterr().err
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"txt": "a"}\n')
    bad[4] = str(tmp_path / "bad.jsonl")
    assert main(bad) == 2 and "bad.jsonl:2: text: should be an object" in capsys.readouterr().err
    assert not (tmp_path / "o").exists() and not list(tmp_path.glob("*.part"))
    bad[4] = str(tmp_path)
    assert main(bad) == 2 and "should end in .txt" in capsys.readouterr().err
    (tmp_path / "folder.txt").mkdir()
    bad[4] = str(tmp_path / "folder.txt")
    assert main(bad) == 2 and "folder.txt: Is a directory" in capsys.readouterr().err


def test_predict_writes_over_nothing_that_it_reads(prepared_run, tmp_path, capsys):
    shutil.copytree(prepared_run, tmp_path / "run")
    source, out = tmp_path / "in.txt", tmp_path / "out"
    source.write_text("We parse trees.\n")
    run, given = ["predict", "--run", str(tmp_path / "run")], ["--input", str(source)]
    for arguments, message in (
        ([*given, "--out", str(source)], "--out {}: is --input as well"),
        ([*given, "--out", str(out), "--html", str(tmp_path / "run" / ".." / "out")], "is --out as well"),
        (["--text", "a", "--out", str(out), "--html", str(out)], "--html {}: is --out as well"),
        (["--text", "a", "--thresholds", str(source), "--out", str(source)], "--out {}: is --thresholds as well"),
        (["--text", "a", "--out", str(tmp_path / "run" / "model.json")], "is a file of --run"),
        (["--text", "a", "--html", str(tmp_path / "run" / "tokenizer" / "tokenizer.json")], "is a file of --run"),
    ):
        assert main([*run, *arguments]) == 2
        said = capsys.readouterr().err
        assert message.format(arguments[-1]) in said and "; name another file" in said
    assert source.read_text() == "We parse trees.\n" and not out.exists()
    assert main([*run, *given, "--out", str(tmp_path / "run" / "found.jsonl")]) == 0


def test_faults_of_a_long_file_are_told_before_anything_is_predicted(prepared_run, tmp_path, capsys, monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError("predicted")

    monkeypatch.setattr("sinet.infer.extract.predict", never)
    monkeypatch.setattr("sinet.infer.predict.predict", never)
    monkeypatch.setattr("sinet.infer.extract.CHUNK", 1)
    monkeypatch.setattr("sinet.infer.predict.CHUNK", 1)
    for name, text in (
        ("a.txt", b"Some words.\n\nMore words.\n\n\xff\n"),
        ("b.jsonl", b'{"text": "Some words."}\n{"text": 1}\n'),
        ("c.jsonl", b'{"tokens": ["a"]}\n{"tokens": []}\n'),
    ):
        (tmp_path / name).write_bytes(text)
        arguments = ["--input", str(tmp_path / name), "--out", str(tmp_path / "o")]
        assert main(["predict", "--run", str(prepared_run), *arguments]) == 2
        assert f"{tmp_path}/{name}:{text.count(bytes([10]))}: " in capsys.readouterr().err


def test_labels_of_sentences_to_predict_are_passed_over(prepared_run, tmp_path):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"tokens": ["We", "parse", "."], "entities": [[0, 1, "P"]], "relations": 3}\n')
    assert main(["predict", "--run", str(prepared_run), "--input", str(source), "--out", str(out)]) == 0
    assert json.loads(out.read_text())["tokens"] == ["We", "parse", "."]


@pytest.mark.parametrize(
    "file, spoil",
    [
        ("model.safetensors", lambda path: path.write_bytes(path.read_bytes()[:1000])),
        ("model.safetensors", lambda path: path.unlink()),
        ("model.json", lambda path: path.write_text("{}")),
        ("model.json", lambda path: path.write_text("[" * 100_000)),
        ("model.json", lambda path: path.write_bytes(path.read_bytes()[:100])),
        ("tokenizer", shutil.rmtree),
        ("tokenizer", lambda path: (path / "tokenizer.json").write_text("{")),
    ],
)
def test_a_run_that_was_copied_badly_is_one_line(prepared_run, file, spoil, tmp_path, capsys):
    shutil.copytree(prepared_run, tmp_path / "run")
    spoil(tmp_path / "run" / file)
    assert main(["predict", "--run", str(tmp_path / "run"), "--text", "a"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f" {tmp_path}/run/{file}" in line and ("copy the run again" in line or "make it again" in line)


@pytest.mark.parametrize("settings, why", [({"colour": 3}, "colour"), ({"width_size": 9}, "size mismatch for width")])
def test_a_run_made_by_other_code_is_one_line(prepared_run, settings, why, tmp_path, capsys):
    shutil.copytree(prepared_run, tmp_path / "run")
    made = json.loads((tmp_path / "run" / "model.json").read_text())
    write_sealed(tmp_path / "run" / "model.json", made | {"settings": made["settings"] | settings})
    assert main(["predict", "--run", str(tmp_path / "run"), "--text", "a"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path}/run: made by other code than this (" in line and why in line


def test_text_that_is_not_unicode_is_one_line(prepared_run, capsys):
    """Bytes of another encoding on the command line come as halves of characters."""
    arguments = [sys.executable, "-m", "sinet", "predict", "--run", prepared_run, "--text", b"caf\xe9"]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and line.endswith("text 0: not Unicode at character 3; give it in UTF-8")
    run = sinet.load(prepared_run)
    with pytest.raises(UserError, match="text 1: not Unicode at character 0"):
        run.predict(["a", "\ud800"])
    for given, message in (
        ([None], "text 0: .* None"),
        (b"Bob", "text 0: .* 66"),
        (None, "None"),
        (["a", 3], "text 1"),
    ):
        with pytest.raises(UserError, match=message):
            run.predict(given)


def test_a_file_without_words_is_said_to_be_empty(prepared_run, tmp_path, capsys):
    (tmp_path / "empty.txt").write_text(" \n\n")
    out, page = tmp_path / "o.jsonl", tmp_path / "o.html"
    arguments = ["--run", str(prepared_run), "--input", str(tmp_path / "empty.txt"), "--out", str(out)]
    assert main(["predict", *arguments, "--html", str(page)]) == 0
    assert "empty.txt: no words in it" in capsys.readouterr().err
    assert out.read_text() == "" and page.read_text().endswith("</html>\n")
    (tmp_path / "empty.jsonl").write_text("\n")
    arguments[3] = str(tmp_path / "empty.jsonl")
    assert main(["predict", *arguments]) == 0 and "empty.jsonl: no sentence in it" in capsys.readouterr().err
    assert main(["predict", "--run", str(prepared_run), "--text", " "]) == 0
    assert capsys.readouterr().out == "no words in the text\n"


@pytest.mark.parametrize("text", ["", "   \n"])
def test_text_without_words_gives_nothing(prepared_run, text):
    assert sinet.load(prepared_run).predict([text]) == []
