"""A table and its files, from frames: tidy csv (one figure a line, with the value of each seed), Markdown and LaTeX to
read, JSON for the page. From the same records they are the same bytes."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sinet import markup
from sinet.files import write_sealed

_CAPTION_LETTERS = 2500
"""TeX's longest line, 5.7 m, holds some more."""
_PROSE, _PROSE_LETTERS = r">{\raggedright\arraybackslash}p{7cm}", 40
"""A column of prose, and about how many letters stand in a line of it."""
_PAGE_LINES = 50
"""Of a table's body, on a page."""


@dataclass(frozen=True)
class Cell:
    """A place for a figure: its value (the mean of several) and how it is printed.

    `value` is None where the text says why there is no figure; `tex` is the text as LaTeX where the two differ.
    """

    text: str
    value: float | None = None
    bold: bool = False
    tex: str | None = None

    def __str__(self) -> str:
        return self.text


NO_FIGURE = Cell("n/a")
Cells = dict[str | tuple[str, str], str | Cell]
"""A row of a table, by its columns: a name, or the two header lines of one."""


def number(value: float, digits: int = 2, sd: float | None = None, sign: bool = False, bold: bool = False) -> Cell:
    """A number, with a standard deviation or with its sign; nothing that rounds to zero has a sign."""
    rounded = round(value, digits) + 0.0
    text = f"{rounded:{'+' if sign and rounded else ''},.{digits}f}" + ("" if sd is None else f" ± {sd:.{digits}f}")
    tex = text.replace(",", "").replace("±", r"\pm")
    return Cell(text, value, bold, f"\\num{{{tex}}}")


def mean_sd(values: Sequence[float], digits: int = 2, bold: bool = False) -> Cell:
    """`mean ± standard deviation` over seeds; the mean alone for one seed."""
    return number(statistics.fmean(values), digits, statistics.stdev(values) if len(values) > 1 else None, bold=bold)


def interval(bounds: Sequence[float], digits: int = 2, sign: bool = False) -> str:
    return f"[{', '.join(number(bound, digits, sign=sign).text for bound in bounds)}]"


def shown(values: Sequence[float] | Cell, bold: bool = False) -> Cell:
    """The cell of the figures of some seeds, or of the reason why there are none."""
    return values if isinstance(values, Cell) else mean_sd(values, bold=bold)


def summary(values: Sequence[float], seeds: Sequence[object] = ()) -> dict:
    """The columns of a csv that hold the figures of some seeds."""
    return {
        "mean": round(statistics.fmean(values), 4) if values else None,
        "sd": round(statistics.stdev(values), 4) if len(values) > 1 else None,
        "n": len(values),
        "values": " ".join(f"{v:.4f}" for v in values),
        "seeds": " ".join(map(str, seeds)),
    }


def tidy_line(
    source: str,
    system: str,
    encoder: str,
    dataset: str,
    figure: str,
    values: Sequence[float] | Cell,
    seeds: Sequence[int] = (),
    recipe: str = "",
    split: str = "",
) -> dict:
    """A line of the csv: one figure of one system at one place; empty where a cell says why there is none. A published
    figure is of no recipe of ours, and its split is not always known; the recipes of what is timed stand in notes."""
    described = {"source": source, "recipe": recipe, "split": split}
    described |= {"system": system, "encoder": encoder, "dataset": dataset, "figure": figure}
    return described | summary([] if isinstance(values, Cell) else values, seeds)


@dataclass(frozen=True)
class Table:
    """A table ready to be written.

    `frame`: texts, and a `Cell` wherever a figure belongs, under two header lines. `tidy`: the csv. `notes`: lines of
    the caption. Columns named in `prose` break over lines in LaTeX.
    """

    name: str
    title: str
    frame: pd.DataFrame
    tidy: pd.DataFrame
    notes: Sequence[str]
    prose: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        name: str,
        title: str,
        made: Iterable[tuple[Mapping | None, list]],
        notes: Sequence[str],
        columns: Iterable = (),
    ) -> "Table":
        """A table of rows (None: of the csv alone), each with its lines of the csv; `columns` as of `frame`."""
        made = list(made)
        rows = [row for row, _ in made if row is not None]
        return cls(name, title, frame(rows, columns), pd.DataFrame([line for _, of in made for line in of]), notes)


def frame(rows: Sequence[Mapping], columns: Iterable = ()) -> pd.DataFrame:
    """Rows by column: the two header lines, or a name without a group above it; `columns` where there may be no row."""
    named = [
        {c if isinstance(c, tuple) else ("", c): cell for c, cell in row.items()}
        for row in rows or [dict.fromkeys(columns)]
    ]
    made = pd.DataFrame(named, dtype=object)[: len(rows)]
    made.columns = pd.MultiIndex.from_tuples(made.columns)
    return made


def write(table: Table, out: Path) -> None:
    """Write `NAME.csv`, `NAME.md`, `NAME.tex` and `NAME.json` into a folder."""
    table.tidy.map(markup.spreadsheet).to_csv(out / f"{table.name}.csv", index=False, lineterminator="\n")
    (out / f"{table.name}.md").write_text(markdown(table), encoding="utf-8")
    (out / f"{table.name}.tex").write_text(latex(table), encoding="utf-8")
    write_sealed(out / f"{table.name}.json", for_page(table.title, table.frame, table.notes), indent=None)


def for_page(title: str, frame_: pd.DataFrame, notes: Sequence[str]) -> dict:
    """What the page draws: `title`, `columns`, `notes`, and `rows` of `[text, value or None, bold, is a figure]`."""

    def cell(c: str | Cell) -> list:
        return [c.text, c.value, c.bold, True] if isinstance(c, Cell) else [c, None, False, False]

    rows = [[cell(c) for c in row] for row in frame_.itertuples(index=False, name=None)]
    return {"title": title, "columns": _heads(frame_), "rows": rows, "notes": list(notes)}


def _heads(frame_: pd.DataFrame) -> list[str]:
    """The two header lines in one."""
    return [" ".join(filter(None, column)) for column in frame_.columns]


def markdown(table: Table) -> str:
    """The table as Markdown."""

    def shown(cell: str | Cell) -> str:
        text = markup.markdown(str(cell))
        return f"**{text}**" if isinstance(cell, Cell) and cell.bold else text

    heads = [markup.markdown(head) for head in _heads(table.frame)]
    body = table.frame.map(shown).to_markdown(index=False, headers=heads, disable_numparse=True)
    notes = "".join(f"- {markup.markdown(note)}\n" for note in table.notes)
    return f"# {markup.markdown(table.title)}\n\n{body}\n\n{notes}"


def latex(table: Table) -> str:
    r"""`table*` floats for `\input`; needs the packages booktabs, graphicx and siunitx (version 3).

    A table too long for a page becomes several, each with the header; what is the same in all rows is said in the
    caption instead of in a column, as width costs legibility. Notes too long for a caption, which TeX lays out in one
    line first, stand behind the float.
    """
    cells, common = _without_common_columns(table.frame)
    breaking = [c for c in cells.columns if c[-1] in table.prose and cells[c].str.len().max() > _PROSE_LETTERS]
    kinds = ["r" if any(isinstance(c, Cell) and c.value is not None for c in cells[name]) else "l" for name in cells]
    formats = "".join(_PROSE if c in breaking else kind for c, kind in zip(cells.columns, kinds, strict=True))
    heights = [max((-(-len(text) // _PROSE_LETTERS) for text in row), default=1) for row in cells[breaking].to_numpy()]
    parts = _pages(heights)
    floats = []
    for number_, rows in enumerate(parts, 1):
        style = cells.iloc[rows].style.hide(axis="index").format(_tex).format_index(markup.latex, axis="columns")
        tabular = style.to_latex(hrules=True, multicol_align="c", column_format=formats)
        title = table.title if len(parts) == 1 else f"{table.title}, part {number_} of {len(parts)}"
        caption = [f"{title}.", *common, *table.notes] if number_ == 1 else [f"{title}."]
        notes = ""
        if len(" ".join(caption)) > _CAPTION_LETTERS:
            caption = [f"{title}."]
            notes = f"\\noindent{{\\footnotesize {markup.latex(' '.join([*common, *table.notes]))}\\par}}\n"
        label = table.name if number_ == 1 else f"{table.name}-{number_}"
        floats.append(
            "\\begin{table*}[tp]\n\\centering\n"
            "\\sisetup{text-series-to-math=true, separate-uncertainty=true, retain-explicit-plus=true, "
            "group-separator={,}, group-minimum-digits=4, group-digits=integer}\n"
            "\\sbox0{\\resizebox{\\textwidth}{!}{%\n"
            + tabular.rstrip()
            + "}}\n"  # as wide as the page, unless it would be too tall for its caption
            "\\ifdim\\dimexpr\\ht0+\\dp0\\relax>0.7\\textheight\\resizebox{!}{0.7\\textheight}{\\usebox0}"
            "\\else\\usebox0\\fi\n\\caption{" + markup.latex(" ".join(caption)) + "}\n\\label{tab:" + label + "}\n"
            "\\end{table*}\n" + notes
        )
    return "% needs booktabs, graphicx and siunitx 3\n" + "".join(floats)


def _tex(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return markup.latex(cell)
    text = cell.tex or markup.latex(cell.text)
    return f"\\textbf{{{text}}}" if cell.bold else text


def _without_common_columns(frame_: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The frame without the texts that describe all its rows alike, and these as text."""
    same = [c for c in frame_ if not c[0] and len(frame_) > 1 and frame_[c].map(type).eq(str).all()]
    same = [c for c in same if frame_[c].nunique() == 1]
    return frame_.drop(columns=same), [f"{c[-1]}: {frame_[c].iloc[0] or 'none'}." for c in same]


def _pages(heights: Sequence[int]) -> list[slice]:
    """Rows of so many lines each, divided over pages."""
    starts, filled = [0], 0
    for row, lines in enumerate(heights):
        if filled and filled + lines > _PAGE_LINES:
            starts.append(row)
            filled = 0
        filled += lines
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(heights)], strict=True)]
