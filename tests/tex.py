"""The tables' LaTeX, compiled."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path


def has_tex() -> bool:
    """Whether pdflatex is there with the package siunitx, which the tables need."""
    return (
        bool(shutil.which("kpsewhich"))
        and not subprocess.run(["kpsewhich", "siunitx.sty"], capture_output=True).returncode
    )


def compile_tables(tables: Sequence[Path], folder: Path) -> str | None:
    """Compile a document of the tables in a folder; gives what TeX says where it fails."""
    body = "\n".join(f"\\input{{{path.resolve()}}}" for path in tables)
    document = (
        f"\\documentclass{{article}}\\usepackage{{booktabs,graphicx,siunitx}}\\begin{{document}}{body}\\end{{document}}"
    )
    (folder / "t.tex").write_text(document)
    call = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "t.tex"]
    done = subprocess.run(call, cwd=folder, capture_output=True, text=True)
    return done.stdout[-2000:] if done.returncode else None
