"""The report page: self-contained, complete, and usable in a real browser (headless Chromium driven by Selenium)."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from sinet.__main__ import main
from sinet.data.sentence import Relation, Sentence, read_sentences, write_sentences
from sinet.errors import UserError
from sinet.evaluate.errors import RELATION_KINDS, sentence_errors
from sinet.evaluate.metrics import facts, score
from sinet.files import read_sealed, write_sealed
from sinet.grid.config import load_config
from sinet.grid.plan import Plan
from sinet.report.report import _settings, write_report
from sinet.report.results import _ablation, _tuning, write_results
from sinet.report.summary import summary
from sinet.report.table import NO_FIGURE, Cell, Table, frame, number, write
from tests.browser import chromium, in_a_browser, texts
from tests.conftest import CORPUS, LABELS, tiny_plan

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 8 + (900).to_bytes(4) + (300).to_bytes(4)
ROWS = [
    ("B <x>", "measured", number(9.5, sd=0.4), Cell("[+0.10, +2.00]", 0.1)),
    ("A", "measured", number(1024), Cell("[-3.00, +9.00]", -3.0)),
    ("C", "published", Cell("n.r."), Cell("failed (n=2 of 3)")),
    ("D", "measured", number(27.3, bold=True), Cell("[-10.00, -1.00]", -10.0)),
]
TABLE = frame([dict(zip(("System", "Source", "Rel+", "Interval"), row, strict=True)) for row in ROWS])


RECIPE = load_config()["recipe_defaults"] | {
    **{
        "stages": {},
        "name": "short",
        "epochs": 2,
        "batch_size": 8,
        "encoder_lr": None,
        "head_lr": 0.001,
        "weight_decay": 0.01,
    },
    **{"warmup": 0.1, "clip": 1.0, "selection": "last", "precision": "auto"},
}


def worse(s: Sentence) -> Sentence:
    """A prediction without the first entity and its relations, the others pointing to the right."""
    others = [(r.type, *sorted((r.head - 1, r.tail - 1))) for r in s.relations if 0 not in (r.head, r.tail)]
    return s.with_labels(s.entities[1:], [Relation(*other) for other in others])


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> tuple[Path, dict]:
    """What a grid of two systems leaves, and its plan."""
    folder = tmp_path_factory.mktemp("grid")
    gold = [
        replace(s, tokens=(*s.tokens[:-1], "</script>")) if i == 1 else s for i, s in enumerate(read_sentences(CORPUS))
    ]
    gold = [replace(g, id=f"ten-{i}") for i, g in enumerate([*gold, *gold, *gold])]
    data = folder / "data" / "ten"
    data.mkdir(parents=True)
    write_sentences(data / "test.jsonl", gold)
    (data / "labels.json").write_text(json.dumps(LABELS.to_json()))
    (data / "card.md").write_text("# Ten\n\n| figure | test |\n|---|---:|\n| sentences | 30 |\n")
    for model, predicted in (("good", gold), ("bad", [worse(g) for g in gold])):
        run = folder / "runs" / "ten" / "tiny" / model / "0"
        run.mkdir(parents=True)
        write_sentences(run / "predictions.jsonl", predicted)
        record = {
            **{"dataset": "ten", "encoder": "tiny", "model": model, "seed": 0, "split": "test", "selection": "last"},
            **{"recipe": RECIPE, "settings": {"wide": 8}, "selected_epoch": 2, "dev": {"rel_plus": 12.3}},
            **{"scores": score(gold, predicted, LABELS), "seconds": {"train": 60}, "parameters": 1e6},
            **{"precision": "float32", "device": "cpu", "device_name": "A <fast> machine", "threads": 2},
            **{"git_commit": "a" * 40, "versions": {"python": "3.11"}, "test_sentences": len(gold)},
        }
        write_sealed(run / "record.json", record)
    (folder / "tables").mkdir()
    write(Table("scores", "Scores", TABLE, pd.DataFrame({"System": ["B"]}), ["A note."]), folder / "tables")
    (folder / "figures" / "ten" / "tiny").mkdir(parents=True)
    (folder / "figures" / "ten" / "tiny" / "curves.md").write_text(
        "A caption with | a table |.\n\n| | b |\n|---|---|\n| **gold** | c |\n"
    )
    (folder / "figures" / "ten" / "tiny" / "curves.png").write_bytes(PNG)
    (folder / "figures" / "ten" / "tiny" / "curves.pdf").write_bytes(b"%PDF")
    plan = {
        "runs": ["ten/tiny/good/0", "ten/tiny/bad/0"],
        "skipped": [["ace05/tiny/good/0", "no licence"]],
        "tables": ["scores"],
        "figures": ["ten/tiny/curves"],
        "datasets": {"ten": {"title": "Ten"}},
        "encoders": {"tiny": {"title": "Tiny"}},
        "models": {"good": {"title": "Good"}, "bad": {"title": "Bad"}},
        "remark": "Only a test.",
    }
    return folder, plan


@pytest.fixture(scope="module")
def page(results) -> Path:
    folder, plan = results
    write_report(folder, plan, folder / "report.html")
    return folder / "report.html"


def test_the_page_holds_everything_and_loads_nothing(page):
    text = page.read_text()
    markup = text.replace("http://www.w3.org", "")
    assert not re.search(r'(?:src|href)="(?!data:|#)', markup) and "http" not in markup and "@import" not in text
    for part in (
        "Only a test.",
        "A &lt;fast&gt; machine",
        "B &lt;x&gt;",
        "no licence",
        "A note.",
        "27.30",
        '<td class="number" data-value="0.001">0.001</td>',
        "frozen",
        "wide 8",
        'download="ten-tiny-curves.pdf"',
        "<h3>Learning curves: Ten, Tiny</h3>",
        "python 3.11",
    ):
        assert part in text
    assert text.count("</script>") == 2, "words of a sentence cannot end the script that holds them"


def test_thresholds_of_a_run_as_it_is_are_shown(results, tmp_path):
    folder, plan = results
    shutil.copytree(folder, copied := tmp_path / "grid")
    good, bad = (copied / "runs" / "ten" / "tiny" / model / "0" for model in ("good", "bad"))
    for run, of in ((good, "new"), (bad, "old")):
        write_sealed(run / "model.json", {"files": {"model.safetensors": "new"}})
        write_sealed(run / "thresholds.json", {"files": {"model.safetensors": of}})
        for name, data in (("png", PNG), ("pdf", b"%PDF"), ("md", b"A curve.")):
            (run / f"thresholds.{name}").write_bytes(data)
    write_report(copied, plan, copied / "report.html")
    text = (copied / "report.html").read_text()
    assert (
        text.count("<h3>Relation thresholds")
        == 1
        == text.count("<h3>Relation thresholds, Good, seed 0: Ten, Tiny</h3>")
    )
    assert "A curve." in text and 'download="thresholds-ten-tiny-good-0.pdf"' in text


def test_a_second_writing_gives_the_same_bytes(page, results, tmp_path):
    write_report(*results, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_sentences_carry_the_scorers_errors(page, results):
    folder, _ = results
    (split,) = json.loads(re.search(r'id="data">(.*?)</script>', page.read_text())[1])
    gold = read_sentences(folder / "data/ten/test.jsonl")
    for record, g in zip(split["sentences"], gold, strict=True):
        assert record[3][2] == [], "the first system is right everywhere"
        expected = [e.kind for e in sentence_errors(g, worse(g), LABELS.symmetric)]
        assert [split["kinds"][kind] for kind, _, _ in record[4][2]] == expected
        missed = [record[2][0][place] for kind, place, _ in record[4][2] if split["kinds"][kind] == "missing entity"]
        assert [[LABELS.entity_types[t], s, e] for t, s, e in missed] == [
            [x.gold[0], x.gold[1], x.gold[2]] for x in sentence_errors(g, worse(g), ()) if x.kind == "missing entity"
        ]


def test_a_fold_is_named_as_such(results, tmp_path):
    folder, plan = results
    shown = plan | {"datasets": {"all-3": {"title": "All", "fold_of": "all"}}}
    shutil.copytree(folder, tmp_path / "folds")
    for kind in ("data", "runs"):
        (tmp_path / "folds" / kind / "ten").rename(tmp_path / "folds" / kind / "all-3")
    for record in (tmp_path / "folds").rglob("record.json"):
        write_sealed(record, read_sealed(record) | {"dataset": "all-3"})
    shown["runs"] = [path.replace("ten/", "all-3/") for path in plan["runs"]]
    shown["figures"] = []
    write_report(tmp_path / "folds", shown, tmp_path / "folds.html")
    text = (tmp_path / "folds.html").read_text()
    assert '"title":"All, fold 3, Tiny"' in text and text.count("All, fold 3</td>") == 2


def test_before_any_run_it_says_what_is_missing(tmp_path, capsys):
    plan = tiny_plan(tmp_path, {"a/b/c/0": "r"}).write()
    assert main(["report", "--plan", str(plan), "--out", str(tmp_path / "r.html")]) == 2
    assert "runs/a/b/c/0/record.json: No such file" in capsys.readouterr().err
    assert main(["step", "summary", "--config", "config/open.yaml"]) == 2
    assert "run the grid first" in capsys.readouterr().err


def test_a_summary_shows_what_was_measured_cut_to_the_terminal(tmp_path):
    """Published rows are folded away, columns without a figure too; three paths say where to go on."""

    def row(system: str, source: str, *figures: float | None) -> list:
        texts = [[text, None, False, False] for text in (system, "BERT", source)]
        return [*texts, *([f"{figure}", figure, False, True] for figure in figures)]

    plan = tiny_plan(tmp_path, {"d/e/m/0": "r", "d/e/m/1": "r"})
    columns = ["System", "Encoder", "Source", "ACE05 Ent", "SciERC Ent", "SciERC Rel+"]
    rows = [row("SpERT", "published", 1.0, 2.0, 3.0), row("SINET (ours)", "measured, r", None, 70.5, 4.0)]
    (tmp_path / "tables").mkdir()
    write_sealed(tmp_path / "tables" / "main.json", {"title": "Main", "columns": columns, "rows": rows, "notes": []})
    assert summary(plan, "make report").splitlines() == [
        "                 SciERC",
        "System  Encoder  Ent   Rel+  Source",
        "SINET   BERT     70.5  4.0   measured, r",
        "",
        f"main table, with 1 published row: {tmp_path}/tables/main.md",
        f"tables: {tmp_path}/tables/",
        "report: make report",
        f"runs:   {tmp_path}/runs/ (0 of 2 finished)",
    ]
    assert "SINET   BERT     70.5  4.0..." in summary(plan, "make report", 29).splitlines()


LONGER = {"short": {"sinet": {"epochs": 3}}}


LINE = "source,recipe,split,system,encoder,dataset,figure,mean,sd,n,values,seeds\n"
MAIN = """\
published,,,SINET,SciBERT,SciERC,Ent,72.59,,1,72.59,
published,,,SINET,SciBERT,SciERC,Rel+,40.13,,1,40.13,
published,,,PFN,SciBERT,SciERC,Ent,66.8,,1,66.8,
"measured, short, n=3, test",short,test,SINET here,MiniLM,SciERC,Ent,64.2,0.5,3,63.7 64.2 64.7,0 1 2
"measured, short, n=3, test",short,test,SINET here,MiniLM,SciERC,Rel+,28.4,0.25,3,28.15 28.4 28.65,0 1 2
"measured, short, n=3, dev, directed",short,dev,SINET here,MiniLM,SciERC,Rel+,31.5,0.5,3,31.0 31.5 32.0,0 1 2
"measured, other, n=1, dev",other,dev,SINET here,MiniLM,SciERC,Rel+,11.0,,1,11.0,0
"measured, short, n=1, test",short,test,SINET here,MiniLM,CoNLL04,Ent,80.0,,1,80.0,0
"measured, short, n=1, dev",short,dev,SINET here,MiniLM,CoNLL04,Ent,99.0,,1,99.0,0
"""
SIGNIFICANCE = """\
dataset,encoder,recipe,system,other,figure,difference,t_low,t_high,p_holm,detectable
SciERC,MiniLM,short,SINET here,DyGIE++,Ent,-4.987,-7.77,-2.21,0.02,2.95
SciERC,MiniLM,short,SINET here,SpERT,Ent,1.1,-0.5,2.7,0.9,2.04
SciERC,MiniLM,short,SpERT,DyGIE++,Rel+,1.0,-0.1,2.1,0.05,6.12
CoNLL04,MiniLM,short,SINET here,SpERT,Ent,9.0,,,,
"""


def trials(epochs: int) -> str:
    """Three trials of the system of `finished`, the first without figures, and one of another."""
    drawn = [
        json.dumps({"encoder_lr": 5e-5, "epochs": n, "schedule": "linear", "settings.dropout": 0.1})
        for n in (1, epochs)
    ]
    rows = [
        ["m", "{}", None, None],
        ["m", drawn[0], 25.0, None],
        ["m", drawn[1], 25.5, "yes"],
        ["absent", drawn[0], 9.0, "yes"],
    ]
    made = pd.DataFrame(rows, columns=["model", "drawn", "dev_rel_plus", "chosen"])
    return made.assign(dataset="d", encoder="e").to_csv(index=False)


def finished(results: Path, config: str) -> tuple[Path, Plan]:
    """A grid of one run, as far as `make results` reads it."""
    plan = tiny_plan(results, {"d/e/m/0": "short"}, {"m": "SINET here"}, efficiency=None, case_study=None)
    plan.config.models["m"] = plan.config.models["m"].model_copy(update={"published": "SINET"})
    written = {"main": LINE + MAIN, "significance": SIGNIFICANCE}
    for name in plan.tables:
        path = results / "tables" / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(written.get(name, LINE))
    for name in (*plan.figures, "old"):
        path = results / "figures" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG)
    plan.write()
    record = {"seconds": {"train": 60}, "device_name": "A", "device": "cpu", "threads": 1, "precision": "float32"}
    trained = plan.spec("d/e/m/0").model_dump(include={"recipe", "settings"})
    plan.file("d/e/m/0", "").mkdir(parents=True)
    write_sealed(plan.file("d/e/m/0", "record.json"), record | trained | {"git_commit": "a" * 40})
    return Path(config), plan


def test_results_are_one_screen_of_scores_findings_and_what_it_took(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    grid = finished(Path("results/one"), "config/a.yaml")
    Path("trials.csv").write_text(trials(epochs=2))
    write_results([grid], Path("results/README.md"), Path("trials.csv"))
    text = Path("results/README.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    head = ["System", "Encoder", "n", "Ent", "Rel", "Rel+"]
    assert rows[0] == [*head, "dev Rel+", "published Ent", "published Rel+"], "no column that is empty for all"
    measured = ["SINET here", "MiniLM", "3", "64.20 ± 0.50", NO_FIGURE.text, "28.40 ± 0.25", "31.50 ± 0.50"]
    assert rows[2] == [*measured, "72.59", "40.13"]
    assert rows[6:9:2] == [
        ["Tuned on dev", "On", "Rel+ of its trials", "encoder_lr", "epochs", "schedule", "dropout", "threshold"],
        ["SINET here", "d, e", "25.50 25.00 diverged", "5e-05", "2", "linear", "0.1", "0.50"],
    ]
    assert len(rows) == 9, "what the plan has not stands in no table"
    assert rows[3] == head and rows[5] == ["SINET here", "MiniLM", "1", "80.00", *[NO_FIGURE.text] * 2]
    tested = "Significant (Holm over the grid, 0.05): 1 of 3 tested comparisons"
    assert f"{tested}: SINET here below DyGIE++ by 4.99 Ent " in text
    assert "(95 % 2.21 to 7.77). What differs by less than 2.0 to 3.0 Ent, 6.1 to 6.1 Rel+ would" in text
    assert "**CoNLL04, MiniLM, recipe short.** Too few seeds for a test." in text
    assert "1 runs; 1 minutes" in text and "A (cpu, 1 threads), float32, at commit aaaaaaaaaaaa" in text
    assert max(map(len, text.splitlines())) < 500 and len(text.splitlines()) < 60
    for file in (
        "main.csv",
        "significance.csv",
        *(f"{figure}.png" for figure in Plan.read(Path("results/one/plan.json")).figures),
    ):
        assert Path("results/shown/results-one", file).is_file()

    Path("trials.csv").write_text(trials(epochs=3))
    write_results([grid], Path("results/README.md"), Path("trials.csv"))
    assert "Tuned" not in Path("results/README.md").read_text(), "the runs were trained otherwise"


def test_what_was_drawn_for_a_frozen_encoder_is_not_shown_and_steps_are_no_epochs(tmp_path):
    (tmp_path / "trials.csv").write_text(trials(epochs=2))
    for training, shown in (({"epochs": 2, "encoder_lr": None}, True), ({"epochs": None, "steps": 9}, False)):
        recipes = {"short": {"sinet": training}}
        plan = tiny_plan(tmp_path, {"d/e/m/0": "short"}, efficiency=None, case_study=None, recipes=recipes)
        made = "".join(_tuning(pd.read_csv(tmp_path / "trials.csv"), plan))
        assert (" frozen " in made) == shown and bool(made) == shown


def test_results_are_checked_before_anything_is_removed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, other = finished(Path("results/one"), "config/a.yaml"), finished(Path("results/two"), "more/a.yaml")
    out = tmp_path / "results" / "README.md"
    write_results([one, other], out, Path())
    shown = {p.relative_to(out.parent / "shown").as_posix() for p in (out.parent / "shown").rglob("*.png")}
    of_plan = {f"results-{name}/{figure}.png" for name in ("one", "two") for figure in one[1].figures}
    assert shown == of_plan and len(shown) == 6, "what the plan names, and no more"
    assert '<img src="shown/results-one/d/e/significance.png"' in out.read_text()
    before = out.read_text()
    longer = tiny_plan(Path("results/one"), {"d/e/m/0": "short"}, efficiency=None, case_study=None, recipes=LONGER)
    with pytest.raises(UserError, match=r"one/runs/d/e/m/0/record.json: another recipe than now.*CONFIG=config/a.yaml"):
        write_results([(one[0], longer), other], out, Path())
    other[1].file("d/e/m/0", "record.json").unlink()
    with pytest.raises(UserError, match=r"two/runs/d/e/m/0/record.json is missing.*CONFIG=more/a.yaml"):
        write_results([one, other], out, Path())
    with pytest.raises(UserError, match="two grids of one results folder: results/one"):
        write_results([one, one], out, Path())
    assert out.read_text() == before and len(list((out.parent / "shown").rglob("*.png"))) == 6


@pytest.fixture(scope="module")
def browser(page, tmp_path_factory) -> Iterator[object]:
    """Chromium with the page open."""
    with chromium(page, tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def fresh(browser):
    browser.refresh()
    return browser


@in_a_browser
def test_it_renders_without_complaint(fresh):
    assert texts(fresh, "h2") == ["Tables", "Figures", "Sentences", "Datasets", "Runs", "Plan"]
    assert len(texts(fresh, "#list .sentence")) == 20
    assert fresh.get_log("browser") == []


@in_a_browser
def test_tables_sort_up_down_and_back(fresh):
    def column() -> list[str]:
        return texts(fresh, "#table-scores tbody td:first-child")

    def press(nth: int = 3) -> None:
        fresh.find_element("css selector", f"#table-scores th:nth-child({nth}) button").click()

    assert column() == ["B <x>", "A", "D", "C"], "measured rows before published ones"
    press()
    assert column() == ["B <x>", "D", "A", "C"], "by number, bold or not, and what has none last"
    press()
    assert column() == ["A", "D", "B <x>", "C"]
    press()
    assert column() == ["B <x>", "A", "D", "C"]
    press(4)
    assert column() == ["D", "A", "B <x>", "C"], "intervals by their low end"


@in_a_browser
def test_cells_without_a_figure_are_grey(fresh):
    assert texts(fresh, "#table-scores td.none") == ["n.r.", "failed (n=2 of 3)"]


@pytest.fixture
def narrow(fresh):
    """The page on a telephone."""
    fresh.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 420, "height": 900, "deviceScaleFactor": 1, "mobile": True}
    )
    yield fresh
    fresh.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def wider_than_the_window(browser) -> bool:
    return browser.execute_script("return document.documentElement.scrollWidth > innerWidth")


@in_a_browser
def test_nothing_is_wider_than_a_desktop(fresh):
    assert fresh.execute_script("return innerWidth") == 1400 and not wider_than_the_window(fresh)


@in_a_browser
def test_a_telephone_has_all_of_it(narrow):
    assert narrow.execute_script("return innerWidth") == 420 and not wider_than_the_window(narrow)
    narrow.find_element("css selector", 'nav a[href="#plan"]').click()
    assert narrow.execute_script("return document.querySelector('nav').getBoundingClientRect().top") == 0
    (box,) = narrow.find_elements("css selector", "#runs .scroll")
    (first, second) = (box.find_element("css selector", f"tbody td:nth-child({n})") for n in (1, 2))
    before = [cell.rect["x"] for cell in (first, second)]
    narrow.execute_script("arguments[0].scrollLeft = 150", box)
    assert [cell.rect["x"] - x for cell, x in zip((first, second), before, strict=True)] == [0, -150]


@in_a_browser
def test_a_dark_page_is_dark_and_its_figures_white(fresh):
    def colours(scheme: str) -> list[str]:
        fresh.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        selectors = "body", "#table-scores td", "nav", "select", "figure .scroll"
        found = (fresh.find_element("css selector", selector) for selector in selectors)
        return [element.value_of_css_property("background-color") for element in found]

    def brightness(colour: str) -> int:
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    light, dark = colours("light"), colours("dark")
    assert all(brightness(colour) > 700 for colour in light)
    assert all(brightness(colour) < 150 for colour in dark[:-1]) and dark[-1] == light[-1] == "rgba(255, 255, 255, 1)"


@in_a_browser
def test_filters_and_search_find_what_they_should(fresh, results):
    from selenium.webdriver.support.ui import Select, WebDriverWait

    gold = read_sentences(results[0] / "data/ten/test.jsonl")
    kinds = [{e.kind for e in sentence_errors(g, worse(g), LABELS.symmetric)} for g in gold]

    def counted() -> str:
        return fresh.find_element("id", "count").text

    assert counted() == "30 of 30 sentences"
    kind, system = (Select(fresh.find_element("id", name)) for name in ("kind", "system"))
    (wrong,) = [o.text for o in kind.options if o.text.startswith("wrong direction")]
    kind.select_by_visible_text(wrong)
    expected = sum("wrong direction" in k for k in kinds)
    assert 0 < expected < 30 and counted() == f"{expected} of 30 sentences"
    assert any("wrong direction" in t for t in texts(fresh, "#list .sentence .mark.wrong"))
    system.select_by_visible_text("Good, seed 0")
    assert counted() == "0 of 30 sentences"
    kind.select_by_visible_text("no error at all")
    assert counted() == "30 of 30 sentences"
    assert set(texts(fresh, "#list td:first-child")) == {"Gold", "Good, seed 0"}
    word = max(gold[6].tokens, key=len)
    fresh.find_element("id", "query").send_keys(word.upper())
    hits = sum(word.lower() in " ".join(g.tokens).lower() for g in gold)
    WebDriverWait(fresh, 5).until(lambda _: counted() == f"{hits} of 30 sentences")
    assert {t.lower() for t in texts(fresh, "#list mark")} >= {word.lower()}
    fresh.find_element("css selector", "#filters button[type=reset]").click()
    WebDriverWait(fresh, 5).until(lambda _: counted() == "30 of 30 sentences")


@in_a_browser
def test_triples_are_drawn_from_head_to_tail_and_wrong_ones_dashed(fresh, results):
    from selenium.webdriver.support.ui import Select

    drawn = """
      const lines = card => [...card.querySelectorAll(".text")].map(line => {
        const { left } = line.getBoundingClientRect();
        const words = [...line.querySelectorAll(".word")].map(w => w.getBoundingClientRect());
        const word = x => words.findIndex(w => w.left - 1 <= x + left && x + left <= w.right + 1);
        return [...line.querySelectorAll(".triple")].map(triple => {
          const [head, , , tail] = triple.querySelector("path").getAttribute("d").match(/[\\d.]+/g).map(Number);
          return [triple.textContent, word(head), word(tail), triple.getAttribute("class")];
        });
      });
      return [...document.querySelectorAll("#list .sentence")].map(lines)"""
    Select(fresh.find_element("id", "system")).select_by_visible_text("Bad, seed 0")
    gold = read_sentences(results[0] / "data/ten/test.jsonl")
    cards = fresh.execute_script(drawn)
    assert len(cards) == 20 and any(lines[1] for lines in cards)
    for g, lines in zip(gold, cards, strict=False):
        errors = sentence_errors(g, worse(g), LABELS.symmetric)
        spurious = {e.predicted for e in errors if e.kind in RELATION_KINDS}
        for sentence, found, wrong in zip((g, worse(g)), lines, (set(), spurious), strict=True):
            assert len(found) == len(set(sentence.relations))
            spans = [(e.start, e.end) for e in sentence.entities]
            places = []
            for r in sentence.relations:
                claims = facts(sentence.with_labels(sentence.entities, [r]), "rel_plus", LABELS.symmetric)
                drawing = "triple wrong" if claims & wrong else "triple"
                places.append((r.type, spans[r.head], spans[r.tail], drawing))
            assert all(
                any((t, c) == (of, drawing) and h[0] <= x < h[1] and a[0] <= y < a[1] for of, h, a, drawing in places)
                for t, x, y, c in found
            )
    assert {c for lines in cards for *_, c in lines[1]} == {"triple", "triple wrong"}
    assert not all(line for lines in cards for line in lines), "some hold no triple"
    fresh.execute_script("for (const line of document.querySelectorAll('#list .text')) line.draw = () => line.remove()")
    fresh.find_element("id", "more").click()
    all_cards = fresh.execute_script(drawn)
    assert len(all_cards) == 30 and all_cards[:20] == cards, "nothing is drawn twice"
    fresh.find_element("id", "arcs").click()
    assert fresh.execute_script(drawn)[0] == [[]], "one line that wraps, and nothing drawn"


@in_a_browser
def test_the_keyboard_is_enough(fresh):
    from selenium.webdriver.common.keys import Keys

    fresh.find_element("tag name", "body").send_keys("/")
    assert fresh.switch_to.active_element.get_attribute("id") == "query"
    button = fresh.find_element("css selector", "#table-scores th:first-child button")
    button.send_keys(Keys.ENTER)
    assert texts(fresh, "#table-scores tbody td:first-child") == ["A", "B <x>", "C", "D"]
    more = fresh.find_element("id", "more")
    more.send_keys(Keys.ENTER)
    assert len(texts(fresh, "#list .sentence")) == 30 and not more.is_displayed()


def test_settings_by_type_are_counted_in_the_plan():
    said = _settings({"max_heads": 20, "names": {"PER": "person", "LOC": "place"}})
    assert said == "max_heads 20, names for 2 types" and _settings({}) == "as declared by the system"


def test_the_ablation_has_its_figures_on_dev_beside():
    lines = [
        {
            "source": "measured",
            "recipe": "short",
            "split": split,
            "system": setting,
            "encoder": "MiniLM",
            "dataset": "SciERC",
        }
        | {"figure": figure, "n": 1, "values": f"{value}"}
        for setting, split, figure, value in (
            ("Base", "test", "Rel+", 25.0),
            ("Base", "dev", "Ent", 60.0),
            ("Base", "dev", "Rel+", 27.0),
            ("Base+TAP", "test", "Rel+", 26.0),
            ("Base+TAP", "dev", "Rel+", 28.0),
            ("Base+TAP+CTAM", "test", "Rel+", 24.0),
        )
    ]
    (table,) = _ablation(pd.DataFrame(lines))
    _, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines())
    assert [(row[0], *row[-2:]) for row in rows] == [
        *(("Base", "25.00", "27.00"), ("Base+TAP", "26.00", "28.00")),
        ("Base+TAP+CTAM", "24.00", NO_FIGURE.text),
    ]
