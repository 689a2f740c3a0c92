"""Readers for the published file formats; each yields `Sentence`s in the order of the file."""

import json
from collections.abc import Callable
from pathlib import Path

from sinet.data.sentence import Sentence, parse_sentence, read_sentences
from sinet.errors import UserError


def read_spert(path: Path) -> list[Sentence]:
    """SpERT's form: one JSON array of sentences, `orig_id` naming the document where there is one."""
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: broken JSON: {error.msg} at column {error.colno}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 (byte {error.start}); convert the file to UTF-8") from None
    if not isinstance(records, list):
        raise UserError(f"{path}: should be a JSON array of sentences; for JSON lines declare `format: jsonl`")
    sentences = []
    for i, record in enumerate(records):
        if isinstance(record, dict) and isinstance(record.get("orig_id"), str):
            record = {"document": record["orig_id"]} | record
        sentences.append(parse_sentence(record, f"{path}: sentence {i}", default_id=f"{path.stem}-{i}"))
    return sentences


READERS: dict[str, Callable[[Path], list[Sentence]]] = {"jsonl": read_sentences, "spert": read_spert}
"""Format name in a dataset's declaration -> reader."""
