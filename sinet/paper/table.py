"""A table and its three files: tidy csv (one figure a line, per-seed values kept), Markdown and LaTeX for reading.

Rebuilt from the same records they are the same bytes: no date, no order that depends on a directory listing.
"""

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sinet import markup

NO_FIGURE = "n/a"
_CAPTION_LETTERS = 2500
"""TeX's longest line, 5.7 m, holds some more."""
_PROSE, _PROSE_LETTERS = r">{\raggedright\arraybackslash}p{7cm}", 40
"""A column of prose, and about how many letters stand in a line of it."""
_PAGE_LINES = 50
"""Of a table's body, on a page."""
_NUMBER = re.compile(r"[+-]?[\d,]+(\.\d+)?( ± [\d,]+(\.\d+)?)?")


class Bold(str):
    """A text of a table's frame that is printed bold."""


@dataclass(frozen=True)
class Table:
    """A table ready to be written: a frame of texts (two header lines), a tidy frame, and its caption lines.

    Columns named in `prose` break over lines in LaTeX.
    """

    name: str
    title: str
    frame: pd.DataFrame
    tidy: pd.DataFrame
    notes: tuple[str, ...]
    prose: tuple[str, ...] = ()


def write(table: Table, out: Path) -> None:
    """Write `NAME.csv`, `NAME.md` and `NAME.tex` into a folder."""
    table.tidy.map(markup.spreadsheet).to_csv(out / f"{table.name}.csv", index=False, lineterminator="\n")
    (out / f"{table.name}.md").write_text(markdown(table), encoding="utf-8")
    (out / f"{table.name}.tex").write_text(latex(table), encoding="utf-8")


def mean_sd(values: Sequence[float], digits: int = 2) -> str:
    """`mean ± standard deviation` over seeds; the mean alone for one seed."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def signed(value: float, digits: int = 2) -> str:
    """A difference with its sign; nothing that rounds to zero has one."""
    text = f"{value:+.{digits}f}"
    return text if float(text) else f"{0:.{digits}f}"


def tidy_line(
    source: str,
    system: str,
    encoder: str,
    dataset: str,
    figure: str,
    values: Sequence[float] | str,
    seeds: Sequence[int] = (),
) -> dict:
    """A line of the csv: one figure of one system at one place, with the values it is the mean of; empty where a text
    says why there are none."""
    values = () if isinstance(values, str) else values
    return {
        "source": source,
        "system": system,
        "encoder": encoder,
        "dataset": dataset,
        "figure": figure,
        "mean": round(statistics.fmean(values), 4) if values else None,
        "sd": round(statistics.stdev(values), 4) if len(values) > 1 else None,
        "n": len(values),
        "values": " ".join(f"{v:.4f}" for v in values),
        "seeds": " ".join(map(str, seeds)),
    }


def frame(rows: Sequence[dict[tuple[str, str], str]], columns: Sequence[tuple[str, str]] = ()) -> pd.DataFrame:
    """A frame of texts under two header lines; `columns` are needed where there may be no row."""
    # as objects: pandas' own texts forget which are bold
    made = pd.DataFrame(list(rows), columns=None if rows else pd.MultiIndex.from_tuples(columns), dtype=object)
    made.columns = pd.MultiIndex.from_tuples(made.columns)
    return made


def markdown(table: Table) -> str:
    """The table as Markdown, its two header lines in one."""
    flat = table.frame.map(
        lambda text: f"**{markup.markdown(text)}**" if isinstance(text, Bold) else markup.markdown(text)
    )
    flat.columns = [markup.markdown(" ".join(part for part in column if part)) for column in flat.columns]
    body = flat.to_markdown(index=False, disable_numparse=True)
    notes = "".join(f"- {markup.markdown(note)}\n" for note in table.notes)
    return f"# {markup.markdown(table.title)}\n\n{body}\n\n{notes}"


def latex(table: Table) -> str:
    r"""`table*` floats for `\input`; needs the packages booktabs, graphicx and siunitx (version 3).

    A table too long for a page becomes several, each with the header; what is the same in all rows is said in the
    caption instead of in a column, as width costs legibility. Notes too long for a caption, which TeX lays out in one
    line first, stand behind the float.
    """
    texts, common = _without_common_columns(table.frame)
    cells = texts.map(_cell)
    cells.columns = pd.MultiIndex.from_tuples([tuple(map(markup.latex, c)) for c in texts.columns])
    breaking = [c for c in texts.columns if c[-1] in table.prose and texts[c].str.len().max() > _PROSE_LETTERS]
    formats = "".join(_PROSE if c in breaking else _column_format(texts[c]) for c in texts.columns)
    heights = [max((-(-len(text) // _PROSE_LETTERS) for text in row), default=1) for row in texts[breaking].to_numpy()]
    parts = _pages(heights)
    floats = []
    for number, rows in enumerate(parts, 1):
        style = cells.iloc[rows].style.hide(axis="index")
        tabular = style.to_latex(hrules=True, multicol_align="c", column_format=formats)
        title = table.title if len(parts) == 1 else f"{table.title}, part {number} of {len(parts)}"
        caption = [f"{title}.", *common, *table.notes] if number == 1 else [f"{title}."]
        notes = ""
        if len(" ".join(caption)) > _CAPTION_LETTERS:
            caption = [f"{title}."]
            notes = f"\\noindent{{\\footnotesize {markup.latex(' '.join([*common, *table.notes]))}\\par}}\n"
        label = table.name if number == 1 else f"{table.name}-{number}"
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


def _without_common_columns(frame_: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The frame without the columns that describe all its rows alike, and these as text."""
    same = [c for c in frame_.columns if not c[0] and len(frame_) > 1 and frame_[c].nunique() == 1]
    same = [c for c in same if not _NUMBER.fullmatch(frame_[c].iloc[0])]
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


def _column_format(column: pd.Series) -> str:
    return "r" if any(_NUMBER.fullmatch(text) for text in column) else "l"


def _cell(text: str) -> str:
    if _NUMBER.fullmatch(text):
        number = text.replace(",", "").replace("±", r"\pm")
        shown = f"\\num{{{number}}}"
    else:
        shown = markup.latex(text)
    return f"\\textbf{{{shown}}}" if isinstance(text, Bold) else shown
