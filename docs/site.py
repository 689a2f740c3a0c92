"""The site of `make docs` (hooks of mkdocs.yml): texts of the repository by their paths in it, so that a link means the
same here and there; and the keys of the configuration, from the schema."""

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from sinet.cli.grid import configuration_schema

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("docs", "baselines", "results")
SHOWN = "results/shown"
KEYS = "<!-- keys -->"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The theme's files, the Markdown of the repository's front page and of FOLDERS, the figures and the style."""
    made = Files([file for file in files if file.src_dir != config.docs_dir])
    pages = [*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).glob("*.md"))]
    for path in [*pages, *(ROOT / SHOWN).rglob("*.png"), ROOT / "docs" / "site.css"]:
        made.append(File(path.relative_to(ROOT).as_posix(), str(ROOT), config.site_dir, config.use_directory_urls))
    return made


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The keys of the configuration in the place of KEYS."""
    return markdown.replace(KEYS, "\n\n".join(_sections(configuration_schema())))


def _sections(schema: dict[str, Any]) -> list[str]:
    """A heading and a table of keys for the configuration and each object in it; those of a recipe that only repeat
    `TrainingRecipe` are left to it."""
    of_training = schema["$defs"]["TrainingRecipe"]["properties"]
    sections = []
    for name, model in {"config.yaml": schema, **schema["$defs"]}.items():
        keys = model.get("properties", {})
        repeated = keys.keys() & of_training.keys() if name != "TrainingRecipe" else ()
        rows = [
            f"| {_name(key, model)} | {_kind(value)} | {_described(value)} |"
            for key, value in keys.items()
            if key not in repeated
        ]
        sections += [f"## {name}", model.get("description", "")]
        if rows:
            sections.append("\n".join(["| key | value | meaning |", "|---|---|---|", *rows]))
        if repeated:
            sections.append("Every key of [TrainingRecipe](#trainingrecipe), none of them needed.")
    return sections


def _name(key: str, model: dict[str, Any]) -> str:
    return f"**`{key}`**" if key in model.get("required", ()) else f"`{key}`"


def _described(value: dict[str, Any]) -> str:
    text = " ".join(value.get("description", "").split()).replace("|", r"\|")
    return f"{text} Default `{json.dumps(value['default'])}`." if value.get("default") not in (None, {}, []) else text


def _kind(value: dict[str, Any]) -> str:
    """What a key may hold, in words, with its bounds."""
    if "$ref" in value:
        name = value["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{re.sub(r'[^a-z]+', '-', name.lower())})"
    if "anyOf" in value:
        return " or ".join(_kind(one) for one in value["anyOf"])
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if value.get("type") == "array":
        return f"list of {_kind(value.get('items', {}))}"
    if value.get("type") == "object":
        of = value.get("additionalProperties") or next(iter(value.get("patternProperties", {}).values()), None)
        return f"name: {_kind(of)}" if isinstance(of, dict) else "mapping"
    words = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
    bounds = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"))
    limits = " and ".join(f"{sign} {value[bound]:,}" for bound, sign in bounds if bound in value)
    return " ".join(filter(None, (words.get(value.get("type", ""), value.get("type", "any")), limits)))
