"""Text is text: what a title, a remark, a type or a word holds is shown as it is, and does nothing."""

import csv
import io
import re
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from markdown_it import MarkdownIt

from sinet import markup
from sinet.markup import spreadsheet
from sinet.report.report import MARKDOWN
from sinet.report.style import save, use_style
from sinet.report.table import Cell, Table, frame, latex, markdown, write
from tests.tex import compile_tables, has_tex

GITHUB = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
"""As a reader who would run what he is given."""
TEXTS = [
    "![x](http://127.0.0.1/pixel.png)",
    "[a](javascript:alert(1)) [b][c] [c]: http://127.0.0.1/ [CLS]",
    "<img src=http://127.0.0.1/x> <!-- a --> <b>b</b> <http://127.0.0.1/> p < 0.05 > 0",
    "**bold** *slanted* __bold__ _slanted_ snake_case_name ~~struck~~ ~ `code` ``c`` SINET* a*b*c",
    "&lt;b&gt; &#42; AT&T & co",
    "a | b \\| c \\ \\* end \\",
    "# heading",
    "- item",
    "+ item",
    "1. item",
    "2) item",
    "> quoted",
    "---",
    "***",
    "___",
    "```",
    "~~~",
    "=SUM(1;2)",
    "$x_1$ costs $5 and $6",
    "two\nlines\n\n# and a heading\r\n\ttabbed",
    "    indented",
    "Ärger mit ⟨his, PER-SOC, buddies⟩ ± 1",
    "-0.50",
    "+1.20 ± 0.30",
]


class Shown(HTMLParser):
    """Text and tags of a page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def one_line(text):
    return " ".join(text.split())


@pytest.mark.parametrize("reader", [GITHUB, MARKDOWN], ids=["github", "report"])
@pytest.mark.parametrize("text", TEXTS)
def test_markdown_shows_the_text_and_nothing_else(text, reader):
    for made, tags in ((markup.markdown(text), ["p"]), (f"- {markup.markdown(text)}", ["ul", "li"])):
        shown = Shown(reader.render(made))
        assert one_line(shown.text) == one_line(text) and shown.tags == tags


@pytest.mark.parametrize("text", TEXTS)
def test_a_table_shows_the_text_of_cells_headers_title_and_notes(text):
    table = Table("t", text, frame([{text: text, "F1": Cell(text, bold=True)}]), pd.DataFrame(), (text,))
    shown = Shown(GITHUB.render(markdown(table)))
    assert shown.text.count(one_line(text)) == 5 if len(one_line(text)) > 3 else one_line(text) in shown.text
    assert set(shown.tags) == {"h1", "table", "thead", "tr", "th", "tbody", "td", "strong", "ul", "li"}


@pytest.mark.skipif(not has_tex(), reason="no pdflatex")
def test_a_table_of_all_of_them_compiles(tmp_path):
    (tmp_path / "made").mkdir()
    rows = [{"System": text, ("a_$b", "F1"): Cell(text, bold=True)} for text in TEXTS]
    for name, made in (("t", rows), ("one", rows[:1])):
        (tmp_path / f"{name}.tex").write_text(latex(Table(name, TEXTS[2], frame(made), pd.DataFrame(), tuple(TEXTS))))
    assert compile_tables(sorted(tmp_path.glob("*.tex")), tmp_path / "made") is None


def test_no_cell_of_a_csv_is_a_formula(tmp_path):
    formulas = ["=1+1", "+cmd|' /C calc'!A0", "-1+2", "@SUM(1)", "\tx"]
    others = ["-0.5", "-0.5000 +1.2e-05 3", "SINET", "a=b", 1.5]
    tidy = pd.DataFrame({"system": [*formulas, *others, None]})
    write(Table("t", "T", frame([{"a": "b"}]), tidy, ()), tmp_path)
    read = [row["system"] for row in csv.DictReader(io.StringIO((tmp_path / "t.csv").read_text()))]
    assert read == [*(f"'{text}" for text in formulas), *map(str, others), ""]


def test_a_dollar_in_a_figure_is_a_dollar(tmp_path):
    use_style()
    figure, axis = plt.subplots()
    axis.set_title(r"$\frac{$ costs $5_")  # mathematics that matplotlib cannot parse
    save(figure, tmp_path / "f", "A caption with ![x](http://127.0.0.1/).", below="\n| a |\n|---|\n| b |\n")
    shown = Shown(GITHUB.render((tmp_path / "f.md").read_text()))
    assert shown.tags == ["p", "table", "thead", "tr", "th", "tbody", "tr", "td"]
    assert "![x](http://127.0.0.1/)." in shown.text


def test_the_report_renders_neither_links_nor_images():
    made = MARKDOWN.render(
        "![x](http://127.0.0.1/a.png) [y](http://127.0.0.1/) <http://127.0.0.1/>\n\n[z]\n\n[z]: http://a"
    )
    assert not re.search("<(img|a) ", made)


def test_whatever_some_spreadsheet_takes_for_a_formula_is_text():
    for begun in ("=", "+", "-", "@", "\t=", "\r=", "\n=", "\uff1d", "\uff0b", "\uff0d", "\uff20"):
        assert spreadsheet(f"{begun}cmd()") == f"'{begun}cmd()"
