"""ACE documents, written here in the releases' form: every mention comes through to the exact characters."""
# ruff: noqa: RUF001 - letters of other scripts are what these documents are about

import html
import json
from pathlib import Path

import pytest

from sinet.data.ace import Lost, find_documents, read_document, read_documents
from sinet.data.card import table_checksum
from sinet.data.prepare import prepare
from sinet.data.sentence import Labels, Sentence, read_sentences
from sinet.data.sources import annotations, release_folders
from sinet.errors import UserError
from sinet.evaluate.metrics import score
from sinet.grid.config import load_config
from sinet.grid.plan import resolve
from tests.annotation import Annotation, news
from tests.conftest import DATASETS, data_file, dataset

SOURCE = news(
    "AT&amp;T names chief",
    """AT&amp;T chief John
Smith met ex-president Bill Clinton's wife, Hillary, in New-York. They
flew to Paris.

Q: Was Smith there? He knows
A: MARY says yes.
Q: well
A: never

Troops of the U.S. army left. His brother Tom died.

Yahoo! Inc. hired
Ann at
10:30 sharp. Bank

of Iowa closed.""",
)

# characters of one to four bytes, composed and decomposed, references of every kind, speakers inside the text
CONVERSATION = """<DOC>
<DOCID> {name} </DOCID>
<DOCTYPE SOURCE="broadcast conversation"> STORY </DOCTYPE>
<DATETIME> 2003-03-04T10:00:00 </DATETIME>
<BODY>
<HEADLINE>
São Paulo’s mayor resigns
</HEADLINE>
<TEXT>
<TURN>
<SPEAKER> José Núñez </SPEAKER>
“Zoë Müller”, the 𝔘𝔫𝔦’s chief (İstanbul&#8212;Beşiktaş), met Пётр
Чайковский &lt;in&gt; Zürich&nbsp;West. 😀 Smith&amp;Søn’s café owner and 李小龍 left for R&D.
</TURN>
<TURN>
<SPEAKER>Møller</SPEAKER>
I agree with Núñez.
</TURN>
</TEXT>
</BODY>
<ENDTIME> 2003-03-04T10:30:00 </ENDTIME>
</DOC>
"""


def example(release: str = "ace05", name: str = "DOC1", source: str = SOURCE) -> Annotation:
    made = Annotation(name, release, source)
    made.mention("m0", "ORG", "AT&amp;T")  # in the headline
    made.mention("m1", "ORG", "AT&amp;T", 1)
    made.mention("m2", "PER", "chief", 1)
    made.mention("m3", "PER", "John\nSmith")  # crosses a line
    made.mention("m4", "PER", "president")  # inside "ex-president"
    made.mention("m5", "PER", "Bill Clinton")
    made.mention("m6", "PER", "Clinton")  # nested head
    made.mention("m7", "PER", "wife")
    made.mention("m8", "GPE", "New-York")
    made.mention("m9", "PER", "They")
    made.mention("m10", "GPE", "Paris")
    made.mention("m11", "PER", "wife")  # the same mention again, in another entity
    made.mention("m12", "PER", "Smith", 1)
    made.mention("m13", "PER", "MARY")
    made.mention("m14", "GPE", "U.S.")
    made.mention("m15", "PER", "Troops")
    made.mention("m16", "PER", "His")
    made.mention("m17", "PER", "Tom")
    made.mention("m18", "ORG", "Yahoo! Inc.")  # a sentence would end inside it
    made.mention("m19", "PER", "Ann")
    made.mention("m20", "ORG", "Bank\n\nof Iowa")  # over a blank line
    made.relation("ORG-AFF", "m3", "m1")
    made.relation("PER-SOC", "m11", "m5")  # names the duplicate
    made.relation("PER-SOC", "m7", "m5")  # the same once it is re-pointed
    made.relation("PHYS", "m9", "m10")
    made.relation("PER-SOC", "m12", "m13")  # across a sentence's end and a line break that is one
    made.relation("ART", "m9", None)
    made.relation("ART", "m9", "V1")  # a value, no mention
    made.relation("ORG-AFF", "m15", "m14")
    return made


def conversation(name: str = "CONV") -> Annotation:
    made = Annotation(name, "ace05", CONVERSATION)
    made.mention("h1", "GPE", "São Paulo")  # in the headline
    made.mention("s1", "PER", "José Núñez")  # a speaker
    made.mention("m1", "PER", "Zoë Müller")
    made.mention("m2", "ORG", "𝔘𝔫𝔦")  # outside the basic plane: one character each
    made.mention("m3", "GPE", "İstanbul")  # its lower case has another length
    made.mention("m4", "FAC", "Beşiktaş")
    made.mention("m5", "PER", "Пётр\nЧайковский")
    made.mention("m6", "LOC", "Zürich&nbsp;West")
    made.mention("m7", "ORG", "Smith&amp;Søn")
    made.mention("m8", "FAC", "cafe\u0301")
    made.mention("m9", "PER", "李小龍")
    made.mention("m10", "PER", "小龍")  # nested
    made.mention("m11", "ORG", "R&D")  # an ampersand that is no reference
    made.mention("s2", "PER", "Møller")  # a speaker whose line has no blank around it
    made.mention("m12", "PER", "I", made.plain[: made.plain.index("I agree")].count("I"))
    made.mention("m13", "PER", "Núñez", 1)
    made.relation("PER-SOC", "m1", "m5")
    made.relation("ORG-AFF", "m9", "m11")
    made.relation("PER-SOC", "s2", "m12")  # from a speaker into what is said
    made.relation("PER-SOC", "m12", "m13")
    return made


def spoken(sentence: Sentence) -> list[tuple[str, str]]:
    """Type and characters of each entity, blanks between words left out."""
    return [(e.type, "".join(sentence.tokens[e.start : e.end])) for e in sentence.entities]


def relations(sentences: list[Sentence]) -> set[tuple[str, str, str]]:
    found = set()
    for s in sentences:
        names = [text for _, text in spoken(s)]
        found |= {(r.type, names[r.head], names[r.tail]) for r in s.relations}
    return found


@pytest.mark.parametrize("release", ["ace04", "ace05"])
@pytest.mark.parametrize("form", ["plain", "crlf", "bom"])
def test_every_mention_comes_through_to_the_exact_characters(release, form, tmp_path):
    source = SOURCE.replace("\n", "\r\n") if form == "crlf" else SOURCE
    made = example(release, source=source)
    made.write(tmp_path / "English" / "nw", "utf-8-sig" if form == "bom" else "utf-8")
    lost = Lost()
    sentences = read_documents(["DOC1"], find_documents([tmp_path]), True, lost)
    assert lost.mentions == []
    found = [mention for s in sentences for mention in spoken(s)]
    expected = [value for id, value in made.texts.items() if id != "m11"]
    assert sorted(found) == sorted(expected)
    assert lost.counts["duplicate mentions merged"] == 1 and lost.counts["repeated relations dropped"] == 1
    assert lost.counts["relations dropped for want of an entity as argument"] == 2
    assert relations(sentences) == {
        ("ORG-AFF", "JohnSmith", "AT&T"),
        ("PER-SOC", "wife", "BillClinton"),
        ("PHYS", "They", "Paris"),
        ("PER-SOC", "Smith", "MARY"),
        ("ORG-AFF", "Troops", "U.S."),
    }
    assert all(s.document == "DOC1" for s in sentences) and len({s.id for s in sentences}) == len(sentences)


@pytest.mark.parametrize("form", ["plain", "crlf", "bom"])
def test_offsets_count_characters_whatever_their_bytes(form, tmp_path):
    made = conversation()
    if form == "crlf":
        made.source = made.source.replace("\n", "\r\n")
    made.write(tmp_path, "utf-8-sig" if form == "bom" else "utf-8")
    lost = Lost()
    document = read_document(find_documents([tmp_path])["CONV"], lost)
    cut = [(kind, "".join(document.text[start:end].split())) for kind, start, end in document.mentions]
    assert cut == list(made.texts.values())
    sentences = read_documents(["CONV"], find_documents([tmp_path]), True, lost)
    assert sorted(m for s in sentences for m in spoken(s)) == sorted(made.texts.values())
    assert lost.mentions == [] and lost.summary().endswith("exact characters: 0.")
    assert relations(sentences) == {
        ("PER-SOC", "ZoëMüller", "ПётрЧайковский"),
        ("ORG-AFF", "李小龍", "R&D"),
        ("PER-SOC", "Møller", "I"),
        ("PER-SOC", "I", "Núñez"),
    }
    joined = "".join(word for s in sentences for word in s.tokens)
    assert joined == "".join(html.unescape(made.plain).split())


def test_the_text_is_the_source_word_for_word(tmp_path):
    made = example()
    made.write(tmp_path)
    sentences = read_documents(["DOC1"], find_documents([tmp_path]), True, Lost())
    joined = "".join(word for s in sentences for word in s.tokens)
    assert joined == "".join(made.plain.replace("&amp;", "&").split())
    assert [s.tokens[0] for s in sentences][:3] == ["DOC1", "NEWS", "2003"]


def test_words_never_cross_a_head_and_sentences_never_part_an_entity_or_a_relation(tmp_path):
    example().write(tmp_path)
    sentences = read_documents(["DOC1"], find_documents([tmp_path]), True, Lost())
    (mixed,) = [s for s in sentences if "president" in s.tokens]
    assert mixed.tokens[mixed.tokens.index("president") - 1] in ("-", "ex-"), "a hyphenated word is cut at the head"
    assert "Smith" in mixed.tokens and "New" in mixed.tokens[mixed.tokens.index("Hillary") :][3]
    (asked,) = [s for s in sentences if "MARY" in s.tokens]
    assert {"Q", "A"} <= set(asked.tokens), "one relation holds two lines of different speakers together"
    (never,) = [s for s in sentences if "never" in s.tokens]
    assert never.tokens[0] == "A", "nothing holds these two"
    (army,) = [s for s in sentences if "U.S." in s.tokens]
    assert "brother" not in army.tokens
    (hired,) = [s for s in sentences if "Yahoo" in s.tokens]
    assert {"Ann", "10:30", "sharp"} <= set(hired.tokens), "wrapped lines are one sentence, a time of day no speaker"
    (closed,) = [s for s in sentences if "Bank" in s.tokens]
    assert "Iowa" in closed.tokens, "a blank line ends a sentence, but not inside an entity"


def test_header_lines_can_be_dropped(tmp_path):
    """Ids, dates, headlines and speakers; what is annotated there goes with them and is counted."""
    made = conversation()
    made.write(tmp_path)
    lost = Lost()
    sentences = read_documents(["CONV"], find_documents([tmp_path]), False, lost)
    said = made.plain[made.plain.index("“") : made.plain.index("Møller")] + made.plain[made.plain.index("I agree") :]
    said = html.unescape(said[: said.index("Núñez.") + len("Núñez.")])
    assert "".join(word for s in sentences for word in s.tokens) == "".join(said.split())
    kept = [value for id, value in made.texts.items() if id not in ("h1", "s1", "s2")]
    assert sorted(m for s in sentences for m in spoken(s)) == sorted(kept)
    assert ("PER-SOC", "I", "Núñez") in relations(sentences) and len(relations(sentences)) == 3
    assert lost.mentions == []
    assert lost.counts["mentions dropped with header lines"] == 3
    assert lost.counts["relations dropped with header lines"] == 1


def test_header_lines_are_told_from_the_body(tmp_path):
    example().write(tmp_path)
    found = find_documents([tmp_path])
    whole, body = (read_documents(["DOC1"], found, header, Lost()) for header in (True, False))
    assert [s.tokens for s in whole[4:]] == [s.tokens for s in body], "id, type, date, headline"
    document = read_document(found["DOC1"], Lost())
    header = "".join(document.text[start:end] for start, end in document.header)
    assert header.split() == ["DOC1", "NEWS", "STORY", "2003-03-04", "AT&T", "names", "chief"]
    (tmp_path / "DOC1.sgm").write_text("<DOC><DOCID> D </DOCID>\nAll of it is body.\n</DOC>")
    (tmp_path / "DOC1.apf.xml").write_text("<source_file/>")
    assert [s.tokens[0] for s in read_documents(["DOC1"], found, False, Lost())] == ["All"]


def test_a_symmetric_relation_annotated_both_ways_is_one_when_scored(tmp_path):
    made = example()
    made.relation("PER-SOC", "m5", "m7")  # "wife", "Bill Clinton" is there already
    made.write(tmp_path)
    sentences = read_documents(["DOC1"], find_documents([tmp_path]), True, Lost())
    both = {("PER-SOC", "wife", "BillClinton"), ("PER-SOC", "BillClinton", "wife")}
    assert both <= relations(sentences), "as annotated"
    declared = load_config()["datasets"]["ace05"]
    figures = score(sentences, sentences, Labels.from_json(declared))
    assert figures["directed"]["rel"]["gold"] - figures["symmetric"]["rel"]["gold"] == 1


def test_disc_relations_are_dropped(tmp_path):
    made = example("ace04")
    made.relation("DISC", "m3", "m5")
    made.write(tmp_path)
    lost = Lost()
    assert "DISC" not in {kind for kind, _, _ in read_document(find_documents([tmp_path])["DOC1"], lost).relations}
    assert lost.counts["DISC relations dropped"] == 1


def test_a_mention_that_differs_from_its_annotation_is_counted_and_named(tmp_path):
    made = example()
    made.mention("bad", "PER", "Hillary", annotated="Hilary")
    made.write(tmp_path)
    lost = Lost()
    read_documents(["DOC1"], find_documents([tmp_path]), True, lost)
    assert lost.mentions == ["DOC1: bad: 'Hilary' in the annotation, 'Hillary' in the text"]
    assert lost.notes()[0].endswith("exact characters: 1.")


def test_other_annotators_are_passed_over(tmp_path):
    for folder in ("adj", "fp1", "timex2norm"):
        example().write(tmp_path / "English" / "nw" / folder)
    assert find_documents([tmp_path])["DOC1"].parent.name == "timex2norm"


def test_a_release_is_found_wherever_it_lies_and_through_links(tmp_path):
    """A mirror may lie below a folder that is called as an annotator's, and hold links; a circle of links ends."""
    example().write(tmp_path / "elsewhere" / "English" / "nw" / "timex2norm")
    release = tmp_path / "adj" / "mirror" / "ace05"
    release.mkdir(parents=True)
    (release / "LDC2006T06").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "English" / "again").symlink_to(tmp_path / "elsewhere")
    assert release_folders("ace05", [str(tmp_path / "adj" / "mirror")]) == [release]
    found = find_documents([release])
    assert len(read_documents(["DOC1"], found, True, Lost())) > 3


def test_a_relation_between_mentions_that_became_one_is_dropped(tmp_path):
    made = example()
    made.relation("PER-SOC", "m7", "m11")  # both "wife"
    made.write(tmp_path)
    lost = Lost()
    sentences = read_documents(["DOC1"], find_documents([tmp_path]), True, lost)
    assert all(r.head != r.tail for s in sentences for r in s.relations)
    assert lost.counts["relations of a mention to itself dropped"] == 1


def test_undeclared_types_are_dropped_and_counted(tmp_path):
    made = example()
    made.mention("t1", "TIM", "2003-03-04")
    made.relation("METONYMY", "m3", "m1")
    made.relation("PHYS", "m3", "t1")
    made.write(tmp_path)
    lost, labels = Lost(), Labels.from_json(load_config()["datasets"]["ace05"])
    sentences = read_documents(["DOC1"], find_documents([tmp_path]), True, lost, labels)
    expected = sorted(value for id, value in made.texts.items() if id not in ("m11", "t1"))
    assert sorted(m for s in sentences for m in spoken(s)) == expected
    assert {kind for kind, _, _ in relations(sentences)} == {"ORG-AFF", "PER-SOC", "PHYS"}
    assert lost.counts["mentions of undeclared types dropped"] == 1
    assert lost.counts["relations of undeclared types dropped"] == 2


def test_header_elements_within_header_elements_end_with_the_outer_one(tmp_path):
    source = "<DOC><TEXT><POSTER><DATE> today </DATE> Ann </POSTER> I agree .</TEXT></DOC>"
    (tmp_path / "DOC1.sgm").write_text(source)
    (tmp_path / "DOC1.apf.xml").write_text("<source_file/>")
    (sentence,) = read_documents(["DOC1"], find_documents([tmp_path]), False, Lost())
    assert sentence.tokens == ("I", "agree", ".")


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda f: (f / "DOC1.sgm").unlink(), r"DOC1\.sgm is missing; it belongs beside"),
        (lambda f: (f / "DOC1.sgm").write_bytes(b"<DOC>\xff"), r"DOC1\.sgm:1: not UTF-8 \(byte 5\); convert"),
        (lambda f: (f / "DOC1.sgm").write_text("<DOC>short"), r"mention m\d+: \d+\.\.\d+ lies outside the source"),
        (lambda f: (f / "DOC1.apf.xml").write_text("<source_file>"), r"DOC1\.apf\.xml: cannot be read as XML"),
        (
            lambda f: (f / "DOC1.apf.xml").write_text(
                '<f><entity><entity_mention ID="m"><head><charseq START="x"/></head></entity_mention></entity></f>'
            ),
            r"DOC1\.apf\.xml: mention m: START and END should be whole numbers",
        ),
    ],
)
def test_unreadable_documents_are_named(tmp_path, spoil, message):
    example().write(tmp_path)
    spoil(tmp_path)
    with pytest.raises(UserError, match=message):
        read_documents(["DOC1"], find_documents([tmp_path]), True, Lost())


def corpus(tmp_path: Path, names: dict[str, list[str]]) -> dict:
    """A declared ACE05 with a list of documents a split, in a mirror."""
    lists = tmp_path / "ace_splits" / "ace05"
    lists.mkdir(parents=True)
    for split, documents in names.items():
        (lists / split).write_text("\n".join(documents) + "\n")
    declared = load_config()["datasets"]["ace05"]
    return declared | {"files": {split: {"path": f"ace05/{split}"} for split in names}}


def test_prepare_reads_a_release(tmp_path, caplog):
    for name in ("A", "B", "C"):
        example(name=name).write(tmp_path / "ace05" / "English" / "nw" / "timex2norm")
    declared = corpus(tmp_path, {"train": ["A"], "dev": ["B"], "test": ["C"]})
    with caplog.at_level("INFO", logger="sinet"):
        card = prepare("ace05", dataset(declared), [str(tmp_path)], tmp_path / "out")
    assert "Gold mentions that are not the annotation's exact characters: 0." in card["notes"]
    assert "ace05: Gold mentions that are not the annotation's exact characters: 0." in caplog.text
    assert "Mentions read: 60." in card["notes"], "20 in each of three documents"
    assert any("train, sentences: " in note and "published 10,051" in note for note in card["notes"])
    assert any(note.startswith("- train, table PER: ") for note in card["notes"])
    assert "- train, relations PHYS: 1, published 1,100 (-1,099)" in card["notes"]
    assert {s.document for s in read_sentences(tmp_path / "out" / "test.jsonl")} == {"C"}
    assert "Against published figures" in (tmp_path / "out" / "card.md").read_text()


def test_a_setting_drops_the_header_lines(tmp_path):
    example(name="A").write(tmp_path / "ace05")
    declared = corpus(tmp_path, {"train": ["A"], "dev": ["A"], "test": ["A"]})
    whole, body = (
        prepare("ace05", dataset(declared | {"header": header}), [str(tmp_path)], tmp_path / "out")
        for header in (True, False)
    )
    assert whole["splits"]["test"]["sentences"] - body["splits"]["test"]["sentences"] == 4, "id, type, date, headline"
    assert "Mentions dropped with header lines: 3." in body["notes"], "one in each of three splits"


def test_files_that_others_have_prepared_are_compared_with_the_published_figures(tmp_path):
    """The corpus need not be at hand then, and tokens stay as they are."""
    document = {
        "doc_key": "A",
        "sentences": [["-LRB-", "Ann", "left", "Iowa", "-RRB-"]],
        "ner": [[[1, 1, "PER"], [3, 3, "GPE"]]],
        "relations": [[[1, 1, 3, 3, "PHYS"]]],
    }
    (tmp_path / "ace05-by-others").mkdir()
    for split in ("train", "dev", "test"):
        (tmp_path / "ace05-by-others" / f"{split}.json").write_text(json.dumps(document))
    overlay = tmp_path / "own.yaml"
    overlay.write_text(
        """
mirrors: [MIRROR]
datasets:
  ace05-by-others:
    title: ACE05
    published: ace05
    licence: LDC2006T06
    format: dygie
    files: {train: {path: train.json}, dev: {path: dev.json}, test: {path: test.json}}
    entity_types: [GPE, PER]
    relation_types: [PHYS]
    published_counts: {train: {sentences: 1, relations: 2, table PER: 1}}
grid: [{datasets: [ace05-by-others], encoders: [minilm], models: [sinet], seeds: [0], recipe: short}]
""".replace("MIRROR", str(tmp_path))
    )
    config = load_config(overlay)
    assert resolve(config).datasets == ["ace05-by-others"]
    card = prepare("ace05-by-others", dataset(config["datasets"]["ace05-by-others"]), [str(tmp_path)], tmp_path / "out")
    assert [note for note in card["notes"] if note.startswith("- ")] == [
        "- train, sentences: 1, published 1 (+0)",
        "- train, relations: 1, published 2 (-1)",
        "- train, table PER: 1, published 1 (+0)",
    ]
    (sentence,) = read_sentences(tmp_path / "out" / "train.jsonl")
    assert sentence.tokens[0] == "-LRB-"
    wrong = config["datasets"]["ace05-by-others"] | {"published_counts": {"train": {"setences": 1}}}
    with pytest.raises(
        UserError, match=r"published_counts\.train: 'setences' is not a figure, did you mean 'sentences'"
    ):
        prepare("ace05-by-others", dataset(wrong), [str(tmp_path)], tmp_path / "out")


def test_a_missing_document_is_named_before_anything_is_written(tmp_path):
    example(name="A").write(tmp_path / "ace05")
    declared = corpus(tmp_path, {"train": ["A", "GONE"], "dev": ["A"], "test": ["A"]})
    with pytest.raises(UserError, match="the corpus lacks 1 of 2 documents of ace05's train split: GONE"):
        prepare("ace05", dataset(declared), [str(tmp_path)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_five_folds_hold_out_their_last_documents(tmp_path):
    names = {f"cv{i}": [f"D{i}{k}" for k in range(5)] for i in range(5)}
    (tmp_path / "ace_splits" / "ace04").mkdir(parents=True)
    for fold, documents in names.items():
        (tmp_path / "ace_splits" / "ace04" / fold).write_text("\n".join(documents))
        for name in documents:
            example("ace04", name).write(tmp_path / "ace04" / "English" / "bnews")
    declared = load_config()["datasets"]["ace04-1"]
    files = {
        split: [{"path": f["path"]} for f in (described if isinstance(described, list) else [described])]
        for split, described in declared["files"].items()
    }
    types = {"relation_types": [*declared["relation_types"], "ORG-AFF"]}
    prepare("ace04-1", dataset(declared | types | {"files": files}), [str(tmp_path)], tmp_path / "out")
    documents = {
        split: list(dict.fromkeys(s.document for s in read_sentences(tmp_path / "out" / f"{split}.jsonl")))
        for split in ("train", "dev", "test")
    }
    assert documents["test"] == names["cv1"] and documents["dev"] == ["D43", "D44"]
    assert documents["train"] == [d for i in (0, 2, 3, 4) for d in names[f"cv{i}"]][:18]


def test_the_table_checksum_follows_the_published_rule(tmp_path):
    """The README's figures for SciERC cannot be checked against it; the rule is checked by hand on one sentence."""
    sentence = read_sentences(write_one(tmp_path))[0]
    assert table_checksum([sentence], frozenset({"Both"})) == {"cells": 16, "A": 4, "B": 1, "Both": 4}


def write_one(folder: Path) -> Path:
    path = folder / "one.jsonl"
    path.write_text(
        '{"tokens": ["a", "b", "c", "d"], "entities": [{"type": "A", "start": 0, "end": 2}, '
        '{"type": "B", "start": 3, "end": 4}], "relations": [{"type": "Both", "head": 0, "tail": 1}]}'
    )
    return path


def test_the_lists_at_hand_are_the_declared_ones():
    from sinet.data.sources import obtain_file

    config = load_config()["datasets"]
    sizes = {
        split: len(obtain_file("ace_splits", data_file(file), [str(DATASETS)]).read_text().split())
        for split, file in config["ace05"]["files"].items()
    }
    assert sizes == {"train": 351, "dev": 80, "test": 80}
    folds = [config[f"ace04-{i}"]["files"]["test"] for i in range(5)]
    assert sum(len(obtain_file("ace_splits", data_file(f), [str(DATASETS)]).read_text().split()) for f in folds) == 348


def test_a_loop_of_links_holds_no_annotations(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    assert list(annotations(tmp_path)) == list(annotations(tmp_path / "loop")) == []
