"""`sinet init`: from files of one's own to a configuration that runs; data of which entities alone are annotated."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from sinet.cli import main
from sinet.data.prepare import prepare
from sinet.data.sentence import Entity, Relation, Sentence, read_sentences, sentence_line, write_sentences
from sinet.errors import UserError
from sinet.grid.config import load_config, read_config
from sinet.grid.init import divided, undirected
from sinet.grid.plan import resolve
from sinet.report.grid import NO_TYPES
from tests.conftest import CORPUS, DATASETS, copy_project, tiny_grid

SCIERC = (DATASETS / "scierc" / "scierc_dev.json").resolve()
DOCUMENTS = (DATASETS / "scierc_documents" / "dev.json").resolve()
TEN = CORPUS.resolve()


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty folder in which the commands are called."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys, *arguments: object) -> str:
    """The one line that `init` says in place of writing anything."""
    before = {path: path.read_bytes() for path in Path().rglob("*.*") if path.is_file()}
    assert main(["init", *map(str, arguments)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert {path: path.read_bytes() for path in Path().rglob("*.*") if path.is_file()} == before
    return line.split("sinet init: ", 1)[1]


def test_files_of_scierc_become_a_configuration_that_plans_one_run(here, capsys):
    sample = json.loads(SCIERC.read_text(encoding="utf-8"))
    Path("data").mkdir()
    for split, part in (("train", sample[:200]), ("valid", sample[200:230]), ("test", sample[230:])):
        Path(f"data/my_{split}.json").write_text(json.dumps(part), encoding="utf-8")
    assert main(["init", *map(str, Path("data").iterdir())]) == 0
    assert capsys.readouterr().out == (
        "mine.yaml: dataset mine (6 entity types, 7 relation types) and a grid of SINET; "
        "run it: make tables CONFIG=mine.yaml\n"
    )
    plan = resolve(load_config("mine.yaml"), offline=True)
    assert list(plan.runs) == ["mine/minilm/sinet/0"] and not plan.skipped
    assert plan.config.efficiency is plan.case_study is None and plan.spec("mine/minilm/sinet/0").recipe.epochs == 70
    declared = plan.config.datasets["mine"]
    counts = declared.declared()["counts"]
    assert sum(of["relations"]["Conjunction"] for of in counts.values()) == 59
    card = prepare("mine", declared, plan.config.mirrors, here / "prepared")  # which would refuse other counts
    assert [of["sentences"] for of in card["splits"].values()] == [200, 30, 45]
    text = Path("mine.yaml").read_text(encoding="utf-8")
    assert declared.symmetric is None and "    # symmetric: [Conjunction]\n" in text
    assert "#   'Conjunction': the head comes first in 53 of 59, and either type occurs as head and as tail" in text


def test_one_file_is_divided_by_document_and_nothing_is_written_over(here, capsys):
    assert main(["init", str(DOCUMENTS), "--out", "below/own.yaml", "--seed", "3"]) == 0
    said = capsys.readouterr().out.splitlines()[0]
    files = [Path(f"data/mirror/own/{split}.jsonl") for split in ("train", "dev", "test")]
    parts = [*map(read_sentences, files)]
    sizes = ", ".join(f"{file} {len(of)}" for file, of in zip(files, parts, strict=True))
    assert [path.name for path in here.iterdir() if path.is_file()] == []
    assert said == f"{DOCUMENTS}: 275 sentences divided by document, seed 3: {sizes}"
    assert sum(map(len, parts)) == 275 and all(27 <= len(of) <= 40 for of in parts[1:])
    documents = [{sentence.document for sentence in of} for of in parts]
    assert sum(map(len, documents)) == len(set().union(*documents)), "a document is in one split"
    config = read_config("below/own.yaml")
    prepare("own", config.datasets["own"], config.mirrors, here / "prepared")

    files[1].rename("data/mirror/own/dve.jsonl")
    assert main(["plan", "--config", "below/own.yaml"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    absent = "dev.jsonl is in none of the mirrors"
    searched = "data/mirror/own, data/mirror, ../shared/datasets"
    right = f"datasets.own.files: {absent} ({searched}), did you mean 'data/mirror/own/dve.jsonl'?"
    assert line.endswith(f"sinet plan: {right}")
    licensed = load_config("below/own.yaml")
    licensed["datasets"]["own"]["licence"] = "LDC1"
    assert resolve(licensed).skipped == {"own/minilm/sinet/0": f"licensed corpus absent: own (LDC1): {absent}"}
    Path("data/mirror/own/dve.jsonl").rename(files[1])

    again = "below/own.yaml: is there already; --force writes it anew, --out names another file"
    assert refused(capsys, DOCUMENTS, "--out", "below/own.yaml") == again
    Path("below/own.yaml").unlink()
    assert "data/mirror/own/train.jsonl: is there already" in refused(capsys, DOCUMENTS, "--out", "below/own.yaml")
    own = "data/mirror/own/train.jsonl: would be written over the data"
    assert own in refused(capsys, "data/mirror/own/train.jsonl", "--out", "below/own.yaml", "--force")
    assert main(["init", str(DOCUMENTS), "--out", "below/own.yaml", "--force"]) == 0
    assert read_sentences(Path("data/mirror/own/train.jsonl")) != parts[0], "another seed"


def test_every_split_has_a_unit_and_the_words_say_of_what():
    alone = [Sentence(str(i), ("a",)) for i in range(20)]
    splits, how = divided(alone, 0)
    assert how == "by sentence" and [len(of) for of in splits.values()] == [16, 2, 2]
    assert divided(alone, 0)[0] == splits != divided(alone, 1)[0]
    assert divided([replace(s, document=s.id) for s in alone], 0)[1] == "by sentence", "each is a document of its own"
    few = [replace(s, document="ab"[i % 2]) for i, s in enumerate(alone)]
    assert divided(few, 0)[1] == "by sentence (of only 2 documents)"
    uneven = [replace(s, document="abc"[(i > 0) + (i > 18)]) for i, s in enumerate(alone)]
    for seed in range(5):
        splits, how = divided(uneven, seed)
        assert how == "by document" and all(splits.values())
    with pytest.raises(UserError, match="2 sentences in the file, at least 3 are needed"):
        divided(alone[:2], 0)


def test_types_without_a_direction_are_suggested_by_evidence():
    a, b, c = (Entity(kind, i, i + 1) for i, kind in enumerate("XXY"))

    def related(*relations: Relation) -> Sentence:
        return Sentence("s", ("a", "b", "c"), (a, b, c), relations)

    forward, both = [related(Relation("near", 0, 1))] * 10, related(Relation("twin", 0, 1), Relation("twin", 1, 0))
    assert undirected([*forward, both]) == {
        "near": "the head comes first in 10 of 10, and either type occurs as head and as tail",
        "twin": "2 of 2 are annotated both ways round",
    }
    assert undirected(forward[1:]) == {}, "too few"
    assert undirected([*forward, *[related(Relation("near", 1, 0))] * 3]) == {}, "the tail comes first too often"
    assert undirected([related(Relation("of", 0, 2))] * 10) == {}, "head and tail are of different types"


def test_what_cannot_be_declared_is_one_line(here, capsys):
    sentences = read_sentences(TEN)
    for name in ("train", "dev", "test", "other_test", "words"):
        write_sentences(Path(f"{name}.jsonl"), sentences)
    neither = "words.jsonl: is called neither train, dev nor test; name each file so"
    assert neither in refused(capsys, "train.jsonl", "words.jsonl")
    assert "train.jsonl, dev.jsonl: no file is called test" in refused(capsys, "train.jsonl", "dev.jsonl")
    assert "other_test.jsonl: is called test, as test.jsonl is" in refused(
        capsys, "train.jsonl", "test.jsonl", "other_test.jsonl"
    )
    other = f"{SCIERC}: SpERT's JSON array, but train.jsonl: JSON lines, one sentence a line"
    assert other in refused(capsys, "train.jsonl", SCIERC)
    assert "--name scierc: is a dataset of config/datasets.yaml" in refused(capsys, "words.jsonl", "--name", "scierc")
    assert "datasets.a b: 'a b' is not valid" in refused(capsys, "words.jsonl", "--name", "a b")
    assert refused(capsys, "absent.jsonl") == "absent.jsonl: No such file or directory"
    assert "`sinet convert . --out DIR`" in refused(capsys, ".")
    Path("broken.jsonl").write_text(sentence_line(sentences[0]) + '{"tokens": []}\n', encoding="utf-8")
    assert refused(capsys, "broken.jsonl") == "broken.jsonl:2: tokens: should be a list of at least one word"
    Path("empty.jsonl").touch()
    assert refused(capsys, "empty.jsonl") == "empty.jsonl: the file holds no sentence"
    Path("bare.jsonl").write_text('{"tokens": ["a"]}\n' * 3, encoding="utf-8")
    assert refused(capsys, "bare.jsonl") == "bare.jsonl: no sentence has an entity, so there is nothing to learn"
    write_sentences(Path("turned.jsonl"), [Sentence("s", ("a",), (Entity("\u202eX", 0, 1),))] * 3)
    assert "entity_types[0]" in refused(capsys, "turned.jsonl")
    Path("export.jsonl").write_text('{"text": "a b", "entities": [], "relations": []}\n', encoding="utf-8")
    assert "looks like doccano" in (said := refused(capsys, "export.jsonl")) and "`sinet convert FILE" in said


@pytest.mark.parametrize("seen, epochs", [(14_000, 100), (8 * 30, 30), (8, 8)])
def test_few_sentences_are_seen_a_hundred_times_at_most_and_many_eight_times_at_least(here, monkeypatch, seen, epochs):
    base = load_config()
    base["recipes"]["equal"]["defaults"]["steps"] = seen // base["recipe_defaults"]["batch_size"]
    monkeypatch.setattr("sinet.grid.init.load_config", lambda: base)
    write_sentences(Path("ten.jsonl"), read_sentences(TEN))
    assert main(["init", "ten.jsonl"]) == 0
    recipe = resolve(load_config("mine.yaml"), offline=True).spec("mine/minilm/sinet/0").recipe
    assert (recipe.epochs, recipe.steps, recipe.evaluate_every, recipe.selection) == (epochs, None, 1, "dev_rel_plus")


def test_without_a_dev_file_a_share_is_held_out_and_a_repeated_name_is_seen(here):
    for name in ("train", "test"):
        write_sentences(Path(f"{name}.jsonl"), read_sentences(TEN))
    assert main(["init", "train.jsonl", "test.jsonl"]) == 0
    config = read_config("mine.yaml")
    card = prepare("mine", config.datasets["mine"], config.mirrors, here / "prepared")
    assert [of["sentences"] for of in card["splits"].values()] == [9, 1, 10]


# -- entities alone ------------------------------------------------------------------------------------------------


def test_a_selection_by_relations_needs_some(here):
    write_sentences(Path("a.jsonl"), [s.with_labels(s.entities, ()) for s in read_sentences(TEN)])
    assert main(["init", "a.jsonl"]) == 0
    config = load_config("mine.yaml")
    config["grid"][0] |= {"models": ["sinet", "pure"]}
    assert len(resolve(config).runs) == 2
    config["grid"][0] |= {"recipe": "own"}
    why = "mine/minilm/pure: recipe own selects weights by dev_rel, and mine has no relation types"
    with pytest.raises(UserError, match=why):
        resolve(config)


def test_entities_alone_are_trained_on_scored_and_tabulated(tiny_mirror, tmp_path, warm):
    """From one file to tables and page, by SINET and a second system."""
    project = copy_project(tmp_path / "project")
    write_sentences(project / "words.jsonl", [s.with_labels(s.entities, ()) for s in read_sentences(TEN)])
    recipe = {"epochs": 2, "batch_size": 4}
    grid = tiny_grid(tmp_path / "mirror", tiny_mirror, {"sinet": recipe, "spert": recipe})
    block = {"datasets": ["mine"], "encoders": ["tiny"], "models": ["sinet", "spert"], "recipe": "tiny"}
    small = {key: grid[key] for key in ("encoders", "recipes")} | {"grid": [block]}
    small["mirrors"] = ["data/mirror/mine", tiny_mirror]
    (project / "tiny.yaml").write_text(yaml.safe_dump(small))

    def said(*command: str) -> str:
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        done = subprocess.run(command, cwd=project, env=warm, **output)
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout

    assert "no faults" in said("python", "-m", "sinet", "check", "words.jsonl")
    said("python", "-m", "sinet", "init", "words.jsonl")
    said("snakemake", "all", "report_page", "--cores", "all", "--configfile", "mine.yaml", "tiny.yaml")
    results = project / "results" / "mine"
    for title in ("SINET", "SpERT"):
        (row,) = [r for r in (results / "tables" / "main.md").read_text().splitlines() if r.startswith(f"| {title} (")]
        cells = [cell.strip() for cell in row.split("|")[4:-1]]
        assert cells[1:] == [NO_TYPES.text] * 2 and float(cells[0]) >= 0, row
    compared = (results / "tables" / "significance.md").read_text().splitlines()
    assert sum(row.count(f"| {NO_TYPES} ") for row in compared) == 4, "Rel and Rel+ of both systems"
    assert "Right: Ent on the dev split" in (results / "figures" / "mine" / "tiny" / "curves.md").read_text()
    page = (results / "report.html").read_text()
    assert page.count(f">{NO_TYPES}</td>") == 2 * 2 + 4 + 2 * 3
