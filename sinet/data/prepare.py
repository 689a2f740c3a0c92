"""Preparing a dataset: obtain its files, read them, check types and counts, write one format and a card."""

import json
from collections.abc import Sequence
from pathlib import Path

from sinet.data.card import card_markdown, check_counts, count, shared_sentences
from sinet.data.formats import READERS
from sinet.data.sentence import Labels, Sentence, check_types, write_sentences
from sinet.data.sources import obtain_file
from sinet.provenance import file_sha256

SPLITS = ("train", "dev", "test")


def prepare(name: str, declared: dict, mirrors: Sequence[str], out: Path) -> dict:
    """Write `{train,dev,test}.jsonl`, `labels.json`, `card.json` and `card.md` of a declared dataset into `out`.

    Returns:
        the card.

    Raises:
        UserError: a file that cannot be had or read, an undeclared type, or counts other than declared; nothing is
            written then.
    """
    labels = Labels.from_json(declared)
    splits: dict[str, list[Sentence]] = {}
    files = []
    for split in SPLITS:
        path = obtain_file(declared.get("folder", name), declared["files"][split], mirrors)
        sentences = READERS[declared["format"]](path)
        for i, sentence in enumerate(sentences):
            check_types(sentence, labels, f"{path}: sentence {i}")
        if expected := declared.get("counts", {}).get(split):
            check_counts(name, split, count(sentences, labels), expected)
        splits[split] = sentences[: declared.get("first", {}).get(split)]
        files.append({"split": split, "path": declared["files"][split]["path"], "sha256": file_sha256(path)})
    card = {
        "name": name,
        "title": declared["title"],
        "labels": labels.to_json(),
        "first": declared.get("first"),
        "splits": {split: count(sentences, labels) for split, sentences in splits.items()},
        "shared_sentences": shared_sentences(splits),
        "files": files,
    }
    out.mkdir(parents=True, exist_ok=True)
    for split, sentences in splits.items():
        write_sentences(out / f"{split}.jsonl", sentences)
    for file, record in (("labels.json", labels.to_json()), ("card.json", card)):
        (out / file).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / "card.md").write_text(card_markdown(card), encoding="utf-8")
    return card
