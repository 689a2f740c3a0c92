"""Predictions made elsewhere stand in the tables as any row; what is wrong with them is said before anything runs."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from sinet.archive import with_archived
from sinet.cli import main
from sinet.data.convert import Account
from sinet.data.external import read_predictions
from sinet.data.sentence import Entity, Relation, Sentence, read_sentences, sentence_to_json, write_sentences
from sinet.errors import UserError
from sinet.evaluate.record import evaluate_external
from sinet.files import json_line, read_sealed
from sinet.grid.config import lay_over, load_config
from sinet.grid.plan import resolve
from sinet.report.grid import NONE
from tests.conftest import CORPUS, LABELS, snakemake, tiny_grid

GOLD = read_sentences(CORPUS)
MADE = {"title": "GPT-x", "maker": "Someone, by a prompt", "date": "2026-11-01"}


def written(path: Path, records: list[dict]) -> Path:
    path.write_text("".join(map(json_line, records)), encoding="utf-8")
    return path


def read(path: Path, account: Account | None = None) -> list[Sentence]:
    return read_predictions(path, GOLD, LABELS, account or Account())


def test_sentences_are_matched_by_id_or_by_their_words(tmp_path):
    records = [sentence_to_json(s) for s in GOLD]
    unnamed = [{key: value for key, value in r.items() if key != "id"} for r in records]
    for shuffled in (records[::-1], unnamed, unnamed[::-1]):
        assert read(written(tmp_path / "p.jsonl", shuffled)) == GOLD


def other_words(records: list[dict]) -> None:
    records[3]["tokens"][0] = "other"


def other_division(records: list[dict]) -> None:
    records[3]["tokens"][:2] = ["".join(records[3]["tokens"][:2])]
    records[3] |= {"entities": [], "relations": []}


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda records: records.pop(3), f"sentence '{GOLD[3].id}' .+ is missing; the file has 9 of .+ 10 sentences"),
        (lambda records: records.append({"id": "x", "tokens": ["more"]}), "sentence 'x' is not in the test split; 11"),
        (other_words, f"sentence '{GOLD[3].id}': other words than in the test split"),
        (other_division, f"sentence '{GOLD[3].id}': words divided otherwise"),
    ],
)
def test_what_does_not_match_is_named(tmp_path, change, said):
    records = [sentence_to_json(s) for s in GOLD]
    change(records)
    with pytest.raises(UserError, match=said):
        read(written(tmp_path / "p.jsonl", records))


def test_triples_of_strings_are_laid_on_the_words_of_the_split(tmp_path):
    gold = [Sentence("a", ("Ann", "lives", "in", "New", "York", ",", "U.S.")), Sentence("b", ("No", "co-author", "."))]
    records = [
        # the text as it was sent: words are divided otherwise than in the split
        {
            "text": "Ann lives in New York, U.S.",
            "triple_list": [["Ann", "used-for", "New York"], ["Ann", "in", "Rome"]],
        },
        {"text": "No co-author.", "triple_list": [["co", "is", "author"]]},
    ]
    account = Account()
    found = read_predictions(written(tmp_path / "p.jsonl", records), gold, LABELS, account)
    assert found[0].entities == (Entity("Entity", 0, 1), Entity("Entity", 3, 5))
    assert found[0].relations == (Relation("Used-for", 0, 1),), "its type as the dataset writes it"
    assert found[0].tokens == gold[0].tokens and found[1].entities == ()
    assert account.lost["strings that are not in the text"] == 1
    assert account.lost["mentions that end inside a word"] == 2


def test_without_labels_a_type_that_the_gold_lacks_is_counted_as_wrong_and_said(tmp_path, capsys):
    gold, predicted = tmp_path / "gold.jsonl", tmp_path / "predicted.jsonl"
    write_sentences(gold, GOLD)
    others = [Entity("Metod", e.start, e.end) if e.type == "Method" else e for s in GOLD for e in s.entities]
    entities = iter(others)
    write_sentences(predicted, [s.with_labels([next(entities) for _ in s.entities], s.relations) for s in GOLD])
    assert main(["score", "--gold", str(gold), "--predictions", str(predicted)]) == 0
    many = sum(e.type == "Metod" for e in others)
    said = capsys.readouterr()
    assert f"predicted.jsonl: unknown types, counted as wrong: 'Metod' ({many})\n" in said.err
    ent = json.loads(said.out)["symmetric"]["ent"]
    assert (ent["predicted"], ent["correct"]) == (len(others), len(others) - many)


@pytest.fixture
def config(tiny_mirror, tmp_path):
    """SINET and two files of predictions, of three seeds asked for."""
    config = load_config()
    lay_over(config, tiny_grid(tmp_path, tiny_mirror, {"sinet": {"epochs": 1}}))
    for seed in (0, 2):
        write_sentences(tmp_path / f"{seed}.jsonl", GOLD)
    files = {"ten": {str(seed): str(tmp_path / f"{seed}.jsonl") for seed in (0, 2)}}
    block = {"datasets": ["ten"], "encoders": ["tiny"], "models": ["sinet", "gpt"], "recipe": "tiny"}
    config["models"]["gpt"] = {**MADE, "predictions": files}
    return config | {"results": str(tmp_path / "results"), "grid": [block], "seeds": [0, 1, 2], "archive": None}


def test_a_model_given_by_predictions_stands_with_the_seeds_it_has_and_is_not_trained(config):
    plan, _ = with_archived(resolve(config))
    assert plan.external == ["ten/tiny/gpt/0", "ten/tiny/gpt/2"]
    assert {run.model for run in plan.specs()} == {"sinet"} == {*plan.systems_at("ten", "tiny")}
    assert type(plan).read(plan.write()).external == plan.external
    with pytest.raises(UserError, match="run 'ten/tiny/gpt/0' is given by predictions; nothing is trained"):
        plan.spec("ten/tiny/gpt/0")


@pytest.mark.parametrize(
    "change, said",
    [
        ("grid: [{seeds: [0, 1]}]", r"models.gpt.predictions.ten: no file of seed 1, which the grid asks for"),
        ("models: {gpt: {predictions: {ten: {'0': config.yml}}}}", r"ten.0: config.yml: No such file .* 'config.yaml'"),
        ("models: {gpt: {predictions: {tne: {'0': x}}}}", r"predictions: 'tne' is not declared, did you mean 'ten'\?"),
        ("models: {gpt: {predictions: {ten: {first: x}}}}", r"'first' is not valid, expected: a seed in quotes"),
        ("models: {gpt: {system: sinet}}", r"models.gpt: has a system; date belongs to a model that is given by"),
        ("models: {gpt: {published: GPT}}", r"models.gpt: is given by predictions; published belongs to a model that"),
        ("models: {gpt: {date: yesterday}}", r"date: 'yesterday' is not valid, expected: a date such as '2026-11-01'"),
        ("models: {new: {title: New}}", r"models.new: needs system, or predictions \+ maker \+ date"),
        ("case_study: {model: gpt}", r"case_study.model: gpt is given by predictions, which have no attention"),
    ],
)
def test_mistakes_are_said_before_any_job(config, change, said):
    changed = yaml.safe_load(change)
    if "grid" in changed:
        config["grid"][0]["models"] = {"gpt": changed.pop("grid")[0]}
    lay_over(config, changed)
    with pytest.raises(UserError, match=said):
        resolve(config)


def test_a_wrong_number_of_sentences_is_said_before_any_job(config, tmp_path):
    write_sentences(tmp_path / "2.jsonl", GOLD[:9])
    with pytest.raises(
        UserError, match=r"models.gpt.predictions.ten.2: .+2.jsonl: sentence .+ is missing; the file has 9"
    ):
        resolve(config)


def test_the_record_says_what_was_read(config, prepared, tmp_path):
    records = [{"text": " ".join(s.tokens), "triple_list": []} for s in GOLD]
    records[0]["triple_list"] = [[GOLD[0].tokens[0], "Flows", "nowhere in it"]]
    written(tmp_path / "0.jsonl", records)
    (tmp_path / "results" / "data").mkdir(parents=True)
    (tmp_path / "results" / "data" / "ten").symlink_to(prepared)
    plan = resolve(config)
    evaluate_external(plan, "ten/tiny/gpt/0")
    record = read_sealed(plan.file("ten/tiny/gpt/0", "record.json"))
    assert record["unknown_types"] == {"Entity": 1} and record["scores"]["symmetric"]["ent"]["predicted"] == 1
    assert record["lost"] == {
        "strings that are not in the text": 1,
        "relations without an entity as argument": 1,
    }


def test_an_external_row_stands_in_the_tables_of_the_workflow(finished):
    """Beside trained systems: the gold itself as a tool's predictions."""
    runs = finished / "results" / "quick" / "runs" / "scierc" / "minilm"
    gold = read_sentences(finished / "results" / "quick" / "data" / "scierc" / "test.jsonl")
    write_sentences(finished / "gpt.jsonl", gold)
    trained = (runs / "sinet" / "0" / "record.json").read_bytes()
    block = yaml.safe_load((finished / "config" / "quick.yaml").read_text())["grid"][0]
    more = {
        "models": {"gpt": {**MADE, "predictions": {"scierc": {"0": "gpt.jsonl"}}}},
        "grid": [block | {"models": [*block["models"], "gpt"]}],
    }
    (finished / "more.yaml").write_text(yaml.safe_dump(more))
    tables = finished / "results" / "quick" / "tables"
    done = snakemake(finished, "more.yaml", "--", str((tables / "main.md").relative_to(finished)))
    assert done.returncode == 0, done.stderr[-4000:]
    assert "rule external:" in done.stderr and "rule train:" not in done.stderr
    assert (runs / "sinet" / "0" / "record.json").read_bytes() == trained
    main_table = (tables / "main.md").read_text()
    (row,) = [line for line in main_table.splitlines() if "GPT-x (external)" in line]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:2] == ["GPT-x (external)", NONE] and cells[2].startswith("external, beside MiniLM, quick, n=1, test")
    assert row.count("100.00") == 3
    assert "External, not trained here: GPT-x on SciERC, first sentences, made by Someone, by a prompt" in main_table
    assert "2026-11-01: seed 0 from gpt.jsonl" in main_table
    (efficiency,) = [row for row in (tables / "efficiency.md").read_text().splitlines() if "GPT-x (ext" in row]
    assert "external" in efficiency and not any(c.isdigit() for c in efficiency)
    for name in ("types", "slices", "errors", "significance"):
        assert "GPT-x" in (tables / f"{name}.md").read_text(), name
    of = ["--plan", "results/quick/plan.json", "--dataset", "scierc", "--encoder", "minilm", "--out", "drawn"]
    drawn = subprocess.run(
        ["python", "-m", "sinet", "step", "plot-results", *of],
        cwd=finished,
        capture_output=True,
        text=True,
    )
    assert drawn.returncode == 0, drawn.stderr
