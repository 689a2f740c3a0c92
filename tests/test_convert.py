"""`sinet convert`: exports of annotation tools in their true form, into sentences and back."""

import json
import random

import pytest

from sinet.cli import main
from sinet.data.check import check_files
from sinet.data.formats import read
from sinet.data.sentence import Entity, Relation, Sentence, read_sentences, write_sentences
from sinet.errors import UserError
from sinet.provenance import ROOT

TEXT = "Dr. Kim sang in Busan-Seoul. She left\nKoreans in 1999."
PEOPLE = [("Person", 4, 7), ("Place", 16, 21), ("Place", 38, 43)]  # Kim, Busan, Korea
FIRST = "Dr. Kim sang in Busan - Seoul . She left Korea ns in 1999 ."

BRAT = """\
T1\tPerson 4 7\tKim
T2\tPlace 16 21\tBusan
T3\tPlace 38 43\tKorea
T4\tSinging 8 12;49 53\tsang 1999
R1\tleft Arg1:T1 Arg2:T3\t
R2\tdid Arg1:T1 Arg2:T4
E1\tSinging:T4 Agent:T1
A1\tNegated E1
#1\tAnnotatorNotes T1\tborn in Seoul
"""
DOCCANO = {
    "id": 7,
    "text": TEXT,
    "entities": [
        {"id": 40 + n, "label": kind, "start_offset": start, "end_offset": end}
        for n, (kind, start, end) in enumerate(PEOPLE)
    ],
    "relations": [{"id": 3, "from_id": 40, "to_id": 42, "type": "left"}],
    "Comments": [],
}


def labelled(id: str, kind: str, start: int, end: int) -> dict:
    value = {"start": start, "end": end, "text": TEXT[start:end], "labels": [kind]}
    return {"value": value, "id": id, "from_name": "label", "to_name": "text", "type": "labels", "origin": "manual"}


LEFT = {"from_id": "e2", "to_id": "e0", "type": "relation", "direction": "left", "labels": ["left"]}
STUDIO = {
    "id": 5,
    "annotations": [
        {"id": 1, "was_cancelled": True, "result": [labelled("x", "Wrong", 0, 3)]},
        {"id": 2, "was_cancelled": False, "result": [*(labelled(f"e{n}", *p) for n, p in enumerate(PEOPLE)), LEFT]},
    ],
    "data": {"text": TEXT},
    "predictions": [],
}
SPANS = [{"start": s, "end": e, "token_start": 0, "token_end": 0, "label": kind} for kind, s, e in PEOPLE]
PRODIGY = {
    "text": TEXT,
    "_input_hash": -1,
    "tokens": [{"text": "Dr.", "start": 0, "end": 3, "id": 0, "ws": True}],
    "spans": SPANS,
    "relations": [{"head": 1, "child": 9, "head_span": SPANS[0], "child_span": SPANS[2], "label": "left"}],
    "answer": "accept",
}
FORMS = {"doccano": DOCCANO, "label-studio": STUDIO, "prodigy": PRODIGY}


def example(folder, form):
    """A file of a tool's export with the text above, its three mentions and the relation between two sentences."""
    path = folder / f"x.{form}.json"
    if form == "brat":
        path = folder / "x.ann"
        path.write_text(BRAT)
        path.with_suffix(".txt").write_text(TEXT)
    elif form == "label-studio":
        path.write_text(json.dumps([STUDIO], indent=2))
    else:
        path.write_text(json.dumps(FORMS[form]) + "\n")
    return path


def converted(folder, source, *options) -> list[Sentence]:
    assert main(["convert", str(source), "--out", str(folder / "out"), *options]) == 0
    return read_sentences(folder / "out" / f"{source.stem}.jsonl")


def refused(folder, capsys, source, *options) -> str:
    assert main(["convert", str(source), "--out", str(folder / "out"), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert not (folder / "out").exists()
    return line


def lines(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.mark.parametrize("form", ["brat", *FORMS])
def test_an_export_becomes_sentences_of_exact_words(form, tmp_path, capsys):
    """The relation joins two sentences, the edge of a mention divides a word."""
    (sentence,) = converted(tmp_path, example(tmp_path, form))
    assert " ".join(sentence.tokens) == FIRST
    assert sentence.entities == (Entity("Person", 1, 2), Entity("Place", 4, 5), Entity("Place", 10, 11))
    assert sentence.relations == (Relation("left", 0, 2),)
    assert sentence.document == {"brat": "x", "doccano": "7", "label-studio": "5"}.get(form, "x.prodigy-0")
    out, err = capsys.readouterr()
    assert "the sentence from 'She' at 29: sentences joined to others for a mention or relation\n" in err
    assert "'Koreans' at 38: words divided at the edge of a mention\n" in err
    assert f"({form}) -> " in out and "1 document, 1 sentence, 3 entities, 1 relation; lost: " in out
    assert out.endswith(
        "; changed: sentences joined to others for a mention or relation (1), "
        "words divided at the edge of a mention (1)\n"
    )


def test_without_the_relation_sentences_stay_divided(tmp_path):
    source = lines(tmp_path / "x.jsonl", DOCCANO | {"relations": []})
    assert [s.id for s in converted(tmp_path, source)] == ["7-0", "7-1"]
    assert [len(s.tokens) for s in converted(tmp_path, source, "--lines")] == [8, 2, 5]
    assert [s.tokens[0] for s in converted(tmp_path, source, "--tokenized")] == ["Dr.", "Korea"]


def test_words_follow_the_rules_of_a_language(tmp_path, capsys):
    source = lines(tmp_path / "x.jsonl", {"id": 1, "text": "L'usine ferme.", "label": [[8, 13, "Event"]]})
    asked = [], ["--language", "fr"]
    words = [converted(tmp_path, source, *options)[0].tokens for options in asked]
    assert words == [("L'usine", "ferme", "."), ("L'", "usine", "ferme", ".")]
    capsys.readouterr()
    assert main(["convert", str(source), "--out", str(tmp_path / "o"), "--language", "qq"]) == 2
    assert "--language 'qq': spaCy has no rules for it" in capsys.readouterr().err


def test_what_brat_has_besides_is_counted_and_listed(tmp_path, capsys):
    source = example(tmp_path, "brat")
    converted(tmp_path, source)
    out, err = capsys.readouterr()
    for lost in ("discontinuous mentions", "events", "attributes", "notes"):
        assert f"{lost} (1)" in out
    assert "relations without an entity as argument (1)" in out
    assert f"{source}:4: 'sang 1999': discontinuous mentions" in err
    assert f"{source}:6: did of T4: relations without an entity as argument" in err
    converted(tmp_path, source, "--limit", "2")
    assert "... and 5 more; --limit shows them" in capsys.readouterr().err


def test_a_folder_of_brat_is_one_file_of_documents(tmp_path, capsys):
    folder = tmp_path / "corpus"
    (folder / "a").mkdir(parents=True)
    for name in ("a/one", "two"):
        (folder / f"{name}.txt").write_text("Kim sang.\r\nTwice.")
        (folder / f"{name}.ann").write_text("T1\tPerson 0 3\tKim\r\nT2\tEnd 11 16\tTwice\r\n")
    found = converted(tmp_path, folder)
    assert {s.document for s in found} == {"a/one", "two"} and sum(len(s.entities) for s in found) == 4
    (folder / "two.txt").unlink()
    assert main(["convert", str(folder), "--out", str(tmp_path)]) == 2
    assert f"{folder}/two.txt is missing" in capsys.readouterr().err


def test_mentions_are_exact_or_reported(tmp_path, capsys):
    source = tmp_path / "x.ann"
    source.with_suffix(".txt").write_text("Kim  sang.")
    source.write_text("T1\tPerson 0 4\tKim \nT2\tPerson 1 4\tKim\nT3\tPerson 3 5\t  \nT4\tPerson 0 3\tKim\n")
    (sentence,) = converted(tmp_path, source)
    assert sentence.entities == (Entity("Person", 0, 1),)
    out, err = capsys.readouterr()
    assert "lost: mentions whose characters are others in the text (1), empty mentions (1); changed: " in out
    assert "mentions without the blanks at their edges (1), repeated mentions merged (1)" in out
    assert f"{source}:2: 'Kim', there 'im ': mentions whose characters are others in the text" in err


def test_a_repeated_relation_is_one(tmp_path, capsys):
    twice = lines(tmp_path / "x.jsonl", DOCCANO | {"relations": DOCCANO["relations"] * 2})
    assert len(converted(tmp_path, twice)[0].relations) == 1
    assert "repeated relations merged (1)" in capsys.readouterr().out


def test_doccano_of_sequence_labelling(tmp_path):
    (first, second) = converted(
        tmp_path, lines(tmp_path / "x.jsonl", {"id": 1, "text": "Kim sang. Lee left.", "label": [[10, 13, "Person"]]})
    )
    assert first.entities == () and second.entities == (Entity("Person", 0, 1),)


def test_a_second_annotator_and_other_results_of_label_studio_are_counted(tmp_path, capsys):
    done = STUDIO["annotations"][1]
    unlabelled = LEFT | {"labels": []}
    more = [LEFT | {"direction": "bi", "labels": ["knows"]}, unlabelled, {"type": "choices", "value": {}}]
    bare = labelled("e9", "", 0, 3)
    bare["value"]["labels"] = []
    task = STUDIO | {"annotations": [done | {"result": [*done["result"], *more, bare]}, done]}
    (sentence,) = converted(tmp_path, lines(tmp_path / "x.json", task))
    assert sentence.relations == (Relation("left", 0, 2), Relation("knows", 2, 0), Relation("knows", 0, 2))
    out = capsys.readouterr().out
    for lost in ("annotations beside a task's first", "relations without a label", "mentions without a label"):
        assert f"{lost} (1)" in out
    assert "results that are neither labels nor relations (1)" in out


def test_answers_of_prodigy_that_are_not_accepted_are_counted(tmp_path, capsys):
    loose = {key: value for key, value in SPANS[1].items() if key != "label"}
    relation = {"label": "in", "head_span": SPANS[0], "child_span": loose}
    given = PRODIGY | {"spans": [SPANS[0], loose], "relations": [relation]}
    found = converted(tmp_path, lines(tmp_path / "x.jsonl", PRODIGY | {"answer": "reject"}, given))
    assert [len(s.entities) for s in found] == [1, 0] and found[0].document == "x-1"
    out = capsys.readouterr().out
    assert "texts whose answer is not accept (1), mentions without a label (1)" in out
    assert "relations without an entity as argument (1)" in out


@pytest.mark.parametrize("array", [True, False])
def test_triples_of_strings_are_found_in_the_text(array, tmp_path, capsys):
    text = "Kim left Seoul , and Seoul left Kimberley ."
    webnlg = {"text": text, "triple_list": [["Kim", "left", "Seoul"], ["Kim", "met", "Lee"]]}
    source = lines(tmp_path / "x.json", *[webnlg] * 2)
    if array:
        source.write_text(json.dumps([webnlg] * 2))
    found = converted(tmp_path, source)
    assert found[0].entities == (Entity("Entity", 0, 1), Entity("Entity", 2, 3))
    assert found[0].relations == (Relation("left", 0, 1),) and found[1].relations == found[0].relations
    out, err = capsys.readouterr()
    assert (
        "(triples)" in out
        and "strings that are not in the text (2), relations without an entity as argument (2)" in out
    )
    assert "triple_list[0]: 'Seoul' stands at 9, 21: ambiguous strings, taken at their first place" in err
    assert "'Kim' stands" not in err, "Kimberley is another word"
    assert "triple_list[1]: 'Lee': strings that are not in the text" in err


def test_triples_of_nyt_have_types(tmp_path):
    record = {
        "articleId": "a",
        "sentText": "Kim left Seoul .\r\n",
        "relationMentions": [{"em1Text": "Kim", "em2Text": "Seoul", "label": "/people/person/left"}],
        "entityMentions": [
            {"start": 0, "label": "PERSON", "text": "Kim"},
            {"start": 1, "label": "PLACE", "text": "Seoul"},
        ],
    }
    (sentence,) = converted(tmp_path, lines(tmp_path / "x.json", record))
    assert sentence.entities == (Entity("PERSON", 0, 1), Entity("PLACE", 2, 3))
    assert sentence.relations == (Relation("/people/person/left", 0, 1),)


def test_crossre_counts_words_inclusively(tmp_path, capsys):
    record = {
        "doc_key": "news-train-1",
        "sentence": ["Dr.", "Lee-Kim", "left", "New", "Seoul", "."],
        "ner": [[0, 1, "person"], [3, 4, "location"]],
        "relations": [[0, 1, 3, 4, "physical", "left", False, False], [2, 2, 3, 4, "role", "", False, False]],
    }
    (sentence,) = converted(tmp_path, lines(tmp_path / "x.json", record))
    assert sentence.document == "news-train-1" and list(sentence.tokens) == record["sentence"]
    assert sentence.entities == (Entity("person", 0, 2), Entity("location", 3, 5))
    assert sentence.relations == (Relation("physical", 0, 1),)
    out = capsys.readouterr().out
    assert "(crossre)" in out and "lost: relations without an entity as argument (1)\n" in out


def test_offsets_of_javascript_are_understood_by_the_text_they_name(tmp_path, capsys):
    """Older releases of Label Studio count an emoji as two."""
    text, name = "\U0001f600 Kim sang", {"text": "sang", "labels": ["Verb"]}
    results = [{"id": "a", "type": "labels", "value": name | {"start": 7, "end": 11}}]
    results.append({"id": "b", "type": "labels", "value": name | {"start": 6, "end": 10, "labels": ["Right"]}})
    task = {"id": 1, "data": {"content": text}, "completions": [{"result": results}]}
    (sentence,) = converted(tmp_path, lines(tmp_path / "x.json", task))
    assert sentence.entities == (Entity("Verb", 2, 3), Entity("Right", 2, 3))
    assert "mentions whose offsets count units of UTF-16 (1)\n" in capsys.readouterr().out


def test_columns_keep_their_words_and_sentences(tmp_path, capsys):
    source = tmp_path / "x.conll"
    source.write_text(
        "-DOCSTART- -X- O\n\nDr.-Kim NNP B-Person\nLee NNP I-Person\nPark NNP B-Person\nsang. V O\n\n"
        "Seoul NNP I-Place\nMr.\u00a0Oh NNP S-Person\nKim NNP I-Person\n\n-DOCSTART-\n\nPark NNP B-Person\n\n"
        "Oh NNP I-Person\n"
    )
    first, second, third, fourth = converted(tmp_path, source)
    assert first.tokens == ("Dr.-Kim", "Lee", "Park", "sang.")
    assert first.entities == (Entity("Person", 0, 2), Entity("Person", 2, 3))
    assert second.tokens == ("Seoul", "Mr.\u00a0Oh", "Kim")
    assert second.entities == (Entity("Place", 0, 1), Entity("Person", 1, 2), Entity("Person", 2, 3))
    assert third.entities == fourth.entities == (Entity("Person", 0, 1),)
    assert [s.document for s in (first, second, third, fourth)] == ["x-0", "x-0", "x-1", "x-1"]
    out, err = capsys.readouterr()
    assert "(conll)" in out and f"{source}:8: 'Seoul': mentions that begin without B" in err


@pytest.mark.parametrize("form", ["brat", *FORMS])
def test_check_names_the_command(form, tmp_path):
    source = example(tmp_path, form)
    faults = check_files([source], None, None).faults
    assert len(faults) == 1 and "`sinet convert FILE --out DIR` reads it" in faults[0]


def test_check_names_the_command_for_columns_and_triples_alone(tmp_path):
    columns = tmp_path / "x.conll"
    columns.write_text("Kim B-Person\nsang O\n")
    other = lines(tmp_path / "y.json", {"token": ["Kim"], "subj_start": 0})
    named = [("convert FILE" in fault) for path in (columns, other) for fault in check_files([path], None, None).faults]
    assert named == [True, False]
    triples = lines(tmp_path / "z.json", {"text": "Kim sang", "triple_list": []})
    assert "convert FILE" in check_files([triples], None, None).faults[0]


@pytest.mark.parametrize(
    "form, change, message",
    [
        ("doccano", {"text": 5}, ":1: text: should be a text, is 5"),
        ("doccano", {"entities": 5}, ":1: entities: should be a list, is 5"),
        ("doccano", {"entities": [5]}, ":1: entities[0]: should be an object with 'start_offset', is 5"),
        ("doccano", {"relations": [{"from_id": True}]}, ":1: relations[0]: from_id: should be a whole number, is True"),
        (
            "doccano",
            {"label": ["good"]},
            ":1: label[0]: should be [start, end, type] with whole numbers and a text",
        ),
        (
            "doccano",
            {"entities": [{"id": 1, "label": "A", "start_offset": 3, "end_offset": 99}]},
            ":1: entities[0]: [3, 99) is not within the text's 54 characters; offsets count characters from 0",
        ),
        ("label-studio", {"data": {"a": "x", "b": "y"}}, ":1: data: text: should be a text, is None"),
        ("label-studio", {"annotations": [5]}, ":1: annotations[0]: should be an object with 'result', is 5"),
        (
            "label-studio",
            {"annotations": [{"result": [LEFT | {"labels": [None]}]}]},
            ":1: annotations[0]: result[0]: labels: should be texts, are [None]",
        ),
        ("prodigy", {"relations": [{"head": 1}]}, ":1: relations[0]: head_span: should be an object, is None"),
        ("triples", {"triple_list": [["a", "b"]]}, ":1: triple_list[0]: should be [head, relation, tail], three texts"),
        ("crossre", {"sentence": [1]}, ":1: sentence: should be a list of words, is [1]"),
        (
            "crossre",
            {"sentence": ["a"], "ner": [5]},
            ":1: ner[0]: should be [start, end, type] with whole numbers and a",
        ),
        ("crossre", {"sentence": ["a"], "ner": [[0, 1, "A"]]}, ":1: ner[0]: [0, 1] is no span of the 1 words"),
        ("crossre", {"sentence": ["a"], "relations": [[0]]}, ":1: relations[0]: should be [start, end, start, end"),
        ("triples", {"spo_list": []}, ":1: triple_list: should be a list, is None"),
    ],
)
def test_mistakes_are_one_line(form, change, message, tmp_path, capsys):
    source = lines(tmp_path / "x.json", FORMS.get(form, {"text": TEXT}) | change)
    assert f"{source}{message}" in refused(tmp_path, capsys, source, "--form", form)


def test_broken_files_and_wrong_calls_are_one_line(tmp_path, capsys):
    source = tmp_path / "x.ann"
    source.with_suffix(".txt").write_text(TEXT)
    source.write_text("T1\tPerson 4 7\tKim\nT2 Person 4 7 Kim\n")
    assert f"{source}:2: 'T2 Person 4 7 Kim' is no line of brat's; right is T1<tab>" in refused(
        tmp_path, capsys, source
    )
    columns = tmp_path / "x.conll"
    columns.write_text("Kim B-Person\nsang\n")
    line = refused(tmp_path, capsys, columns, "--form", "conll")
    assert f"{columns}:2: 'sang' should be a word, blanks or a tab, and last its tag" in line
    broken = tmp_path / "y.json"
    broken.write_text('[{"text": "a"},\n{]')
    assert f"{broken}:2: broken JSON" in refused(tmp_path, capsys, broken, "--form", "doccano")
    unknown = lines(tmp_path / "z.json", {"utterance": "Kim sang"})
    assert f"{unknown}: of no known form; --form names it, one of brat, doccano, label" in refused(
        tmp_path, capsys, unknown
    )
    assert "--form 'brad': did you mean 'brat'?" in refused(tmp_path, capsys, source, "--form", "brad")
    assert "--to 'xml': known: brat, doccano, jsonl, " in refused(tmp_path, capsys, source, "--to", "xml")
    (tmp_path / "empty").mkdir()
    assert "the folder holds no .ann" in refused(tmp_path, capsys, tmp_path / "empty")
    assert main(["convert", str(source), str(columns), "--out", str(tmp_path / "out")]) == 2
    assert "would be written under the same name" in capsys.readouterr().err


def test_an_input_is_not_replaced(tmp_path, capsys):
    source = lines(tmp_path / "x.jsonl", DOCCANO)
    held = source.read_bytes()
    assert main(["convert", str(source), "--out", str(tmp_path)]) == 2
    assert "the result would replace it" in capsys.readouterr().err and source.read_bytes() == held


SCIERC = ROOT.parent / "shared" / "datasets" / "scierc" / "scierc_test.json"


@pytest.mark.parametrize("form", ["brat", *FORMS])
def test_sentences_come_back_from_a_tool(form, tmp_path, capsys):
    """Random mentions and relations, nested and overlapping, over random words, grouped into documents."""
    rng = random.Random(0)
    given = read(SCIERC, None)[:50] if SCIERC.is_file() else []
    for n in range(50):
        words = ["".join(rng.choices("aé.-,$(\U0001f600\u00a0x", k=rng.randint(1, 5))) + "y" for _ in range(9)]
        spans = [(rng.choice("AB"), *sorted(rng.sample(range(10), 2))) for _ in range(5)]
        entities = tuple(Entity(*span) for span in dict.fromkeys(spans))
        pairs = {(rng.choice("RS"), rng.randrange(len(entities)), rng.randrange(len(entities))) for _ in range(5)}
        relations = tuple(Relation(*pair) for pair in sorted(pairs))
        given.append(Sentence(f"d{n // 5}-{n % 5}", tuple(words), entities, relations, f"d{n // 5}"))
    source = tmp_path / "x.jsonl"
    write_sentences(source, given)
    assert main(["convert", str(source), "--to", form, "--out", str(tmp_path / form)]) == 0
    (made,) = [path for path in (tmp_path / form).iterdir() if path.stem == "x"]
    assert "lost: nothing\n" in capsys.readouterr().out
    back = converted(tmp_path, made, "--tokenized")
    assert capsys.readouterr().out.endswith("lost: nothing\n")

    def contents(sentences):
        return sorted((s.document or s.id, s.tokens, s.entities, s.relations) for s in sentences)

    assert {s.id for s in given[-50:]} <= {s.id for s in back}
    assert sorted(map(str, contents(back))) == sorted(map(str, contents(given)))
    for sentence in converted(tmp_path, made):  # words by `predict`'s rules: the same characters
        for entity in sentence.entities:
            text = "".join("".join(sentence.tokens[entity.start : entity.end]).split())
            assert text in {"".join("".join(s.tokens[e.start : e.end]).split()) for s in given for e in s.entities}


def test_what_is_written_is_the_tools_form(tmp_path):
    """As each tool's documentation gives it; word numbers of a Prodigy relation are those of the spans' last words."""
    source = tmp_path / "x.jsonl"
    entities, relations = (Entity("Person", 0, 2), Entity("Place", 3, 4)), (Relation("left", 0, 1),)
    write_sentences(source, [Sentence("a", ("Dr.", "Kim", "left", "Seoul"), entities, relations, "d")])
    for form in ("brat", *FORMS):
        assert main(["convert", str(source), "--to", form, "--out", str(tmp_path / form)]) == 0
    text, kim, seoul = "Dr. Kim left Seoul", {"start": 0, "end": 7}, {"start": 13, "end": 18}
    assert (tmp_path / "brat/x/d.txt").read_text() == text
    written = (tmp_path / "brat/x/d.ann").read_text()
    assert written == "T1\tPerson 0 7\tDr. Kim\nT2\tPlace 13 18\tSeoul\nR1\tleft Arg1:T1 Arg2:T2\n"
    assert json.loads((tmp_path / "doccano/x.jsonl").read_text()) == {
        "id": "d",
        "text": text,
        "entities": [
            {"id": 1, "label": "Person", "start_offset": 0, "end_offset": 7},
            {"id": 2, "label": "Place", "start_offset": 13, "end_offset": 18},
        ],
        "relations": [{"id": 1, "from_id": 1, "to_id": 2, "type": "left"}],
    }
    named = {"from_name": "label", "to_name": "text", "type": "labels"}
    result = [
        named | {"id": "T1", "value": kim | {"text": "Dr. Kim", "labels": ["Person"]}},
        named | {"id": "T2", "value": seoul | {"text": "Seoul", "labels": ["Place"]}},
        {"type": "relation", "from_id": "T1", "to_id": "T2", "direction": "right", "labels": ["left"]},
    ]
    tasks = [{"data": {"id": "d", "text": text}, "annotations": [{"result": result}]}]
    assert json.loads((tmp_path / "label-studio/x.json").read_text()) == tasks
    head = kim | {"token_start": 0, "token_end": 1, "label": "Person"}
    child = seoul | {"token_start": 3, "token_end": 3, "label": "Place"}
    record = json.loads((tmp_path / "prodigy/x.jsonl").read_text())
    assert record["spans"] == [head, child] and record["answer"] == "accept"
    assert record["relations"] == [{"head": 1, "child": 3, "head_span": head, "child_span": child, "label": "left"}]
    assert record["tokens"][1] == {"text": "Kim", "start": 4, "end": 7, "id": 1, "ws": True}
    assert record["tokens"][3]["ws"] is False


def test_what_tools_cannot_hold_is_said(tmp_path, capsys):
    source = tmp_path / "x.jsonl"
    scored = Sentence("a", ("Kim",), (Entity("Person", 0, 1, 0.5),), (), "d", ((0, 1, 0),))
    write_sentences(source, [scored])
    assert main(["convert", str(source), "--to", "doccano", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "lost: mentions of coreference (1), scores (1)\n" in said.out
    assert "a: 'Kim': mentions of coreference\n" in said.err and "a: 0.5 of Person: scores\n" in said.err
    for wrong, message in (
        (Sentence("a/b", ("Kim",)), "'a/b': brat has a file a document"),
        (Sentence("a", ("Kim",), (Entity("a person", 0, 1),)), "'a': type 'a person' holds a blank"),
    ):
        write_sentences(source, [wrong])
        assert main(["convert", str(source), "--to", "brat", "--out", str(tmp_path / "brat")]) == 2
        assert message in capsys.readouterr().err and not (tmp_path / "brat").exists()


def test_a_docbin_has_words_mentions_and_relations(tmp_path, capsys):
    """Sentences as marked, blank tokens left out, relations by the first tokens of their arguments."""
    from spacy.tokens import Doc, DocBin, Span
    from spacy.vocab import Vocab

    if not Doc.has_extension("rel"):
        Doc.set_extension("rel", default={})
    words = ["Kim", "left", "\n", "New", "York", ".", "She", "sang"]
    doc = Doc(Vocab(), words=words, sent_starts=[True, *5 * [False], True, False])
    doc.ents = [Span(doc, 0, 1, "Person"), Span(doc, 3, 5, "Place")]
    doc.spans["sc"] = [Span(doc, 4, 5, "County")]
    doc._.rel = {(0, 3): {"left": 1.0, "loves": 0.0}, (3, 0): {"left": 0.0}, (6, 0): {"is": 1.0}}
    DocBin(docs=[doc], store_user_data=True).to_disk(tmp_path / "a.spacy")
    assert main(["convert", str(tmp_path / "a.spacy"), "--out", str(tmp_path / "out")]) == 0
    first, second = read_sentences(tmp_path / "out" / "a.jsonl")
    assert first.tokens == ("Kim", "left", "New", "York", ".") and second.tokens == ("She", "sang")
    assert first.entities == (Entity("Person", 0, 1), Entity("Place", 2, 4), Entity("County", 3, 4))
    assert first.relations == (Relation("left", 0, 1),)
    assert "lost: relations without an entity as argument (1)" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"as spaCy's DocBin is; `sinet convert FILE --out DIR`"):
        read(tmp_path / "a.spacy", None)
    (tmp_path / "b.spacy").write_bytes(b"none")
    assert main(["convert", str(tmp_path / "b.spacy"), "--out", str(tmp_path / "out")]) == 2
    (tmp_path / "hub" / "train").mkdir(parents=True)
    (tmp_path / "hub" / "train" / "dataset_info.json").write_text("{}")
    assert main(["convert", str(tmp_path / "hub"), "--out", str(tmp_path / "out")]) == 2
    assert "a dataset of Hugging Face's; datasets.load_from_disk" in capsys.readouterr().err
