"""Sentences written in the forms of annotation tools, as `sinet.data.convert` reads them: words joined by blanks, a
sentence a line, so that `sinet convert --tokenized` gives the same sentences again."""

import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sinet.data.convert import Account, Annotated, Arc, Span
from sinet.data.sentence import Sentence, sentence_line
from sinet.errors import UserError, nearest, quoted, shown
from sinet.files import json_line, write_text


def write(path: Path, form: str, sentences: Sequence[Sentence], out: Path, account: Account) -> Path:
    """Write the sentences of `path` into the folder `out` in a form of `WRITERS` or as our own JSON lines; returns the
    file, or brat's folder, that holds them.

    Raises:
        UserError: the file is the one that was read, or a name or type that the form cannot hold.
    """
    stem = path.absolute().stem
    files = {f"{stem}.jsonl": "".join(map(sentence_line, sentences))}
    if form != "jsonl":
        files = dict(WRITERS[form](stem, _documents(sentences, account)))
    for name in files:
        if (out / name).resolve() == path.resolve():
            raise UserError(f"{path}: the result would replace it; give another folder as --out")
    for name, text in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        write_text(out / name, text)
    return out / stem if form == "brat" else out / next(iter(files))


def checked_target(name: str) -> None:
    """Raise `UserError` for a name of no form that is written."""
    if name != "jsonl" and name not in WRITERS:
        raise UserError(f"--to {shown(name)}: {nearest(name, ['jsonl', *WRITERS])}")


def _documents(sentences: Sequence[Sentence], account: Account) -> Iterator[Annotated]:
    """The documents of sentences, each with mentions and relations numbered from 1; a sentence of none is one."""
    for name, group in itertools.groupby(sentences, lambda s: s.id if s.document is None else s.document):
        text = ""
        spans: list[Span] = []
        arcs: list[Arc] = []
        for sentence in group:
            begins: list[int] = []
            text += "\n" * bool(text)
            for word in sentence.tokens:
                text += " " * bool(begins)
                begins.append(len(text))
                text += word
            first = len(spans) + 1
            for n, entity in enumerate(sentence.entities, first):
                start, end = begins[entity.start], begins[entity.end - 1] + len(sentence.tokens[entity.end - 1])
                spans.append(Span(n, entity.type, start, end, sentence.id, text[start:end]))
            arcs += [Arc(r.type, first + r.head, first + r.tail, sentence.id) for r in sentence.relations]
            for start, end, _ in sentence.coreference:
                account.lose(sentence.id, "mentions of coreference", quoted(" ".join(sentence.tokens[start:end])))
            scores = [(item.type, item.score) for of in (sentence.entities, sentence.relations) for item in of]
            for kind, score in scores:
                if score is not None:
                    account.lose(sentence.id, "scores", f"{score:g} of {kind}")
        yield Annotated(name, text, spans, arcs, name, tokenized=True)


def brat(stem: str, documents: Iterator[Annotated]) -> Iterator[tuple[str, str]]:
    """A folder with two files a document."""
    named = set()
    for document in documents:
        name = document.name
        if "/" in name or "\\" in name or name.startswith(".") or name in named:
            raise UserError(f"{quoted(name)}: brat has a file a document, and this names none of its own; rename it")
        named.add(name)
        for kind in [*(s.type for s in document.spans), *(a.type for a in document.arcs)]:
            if re.search(r"\s", kind):
                raise UserError(f"{quoted(name)}: type {quoted(kind)} holds a blank, which brat's cannot; rename it")
        lines = [f"T{s.id}\t{s.type} {s.start} {s.end}\t{s.text}" for s in document.spans]
        lines += [f"R{n}\t{a.type} Arg1:T{a.head} Arg2:T{a.tail}" for n, a in enumerate(document.arcs, 1)]
        yield f"{stem}/{name}.txt", document.text
        yield f"{stem}/{name}.ann", "".join(line + "\n" for line in lines)


def doccano(stem: str, documents: Iterator[Annotated]) -> Iterator[tuple[str, str]]:
    """JSONL of entities and relations."""
    lines = []
    for document in documents:
        entities = [{"id": s.id, "label": s.type, "start_offset": s.start, "end_offset": s.end} for s in document.spans]
        relations = [
            {"id": n, "from_id": a.head, "to_id": a.tail, "type": a.type} for n, a in enumerate(document.arcs, 1)
        ]
        record = {"id": document.name, "text": document.text, "entities": entities, "relations": relations}
        lines.append(json_line(record))
    yield f"{stem}.jsonl", "".join(lines)


def label_studio(stem: str, documents: Iterator[Annotated]) -> Iterator[tuple[str, str]]:
    """JSON for a labelling interface whose text is called `text` and whose labels are called `label`."""
    named = {"from_name": "label", "to_name": "text", "type": "labels"}
    tasks = []
    for document in documents:
        result = [
            named | {"id": f"T{s.id}", "value": {"start": s.start, "end": s.end, "text": s.text, "labels": [s.type]}}
            for s in document.spans
        ]
        result += [
            {
                "type": "relation",
                "from_id": f"T{a.head}",
                "to_id": f"T{a.tail}",
                "direction": "right",
                "labels": [a.type],
            }
            for a in document.arcs
        ]
        tasks.append({"data": {"id": document.name, "text": document.text}, "annotations": [{"result": result}]})
    yield f"{stem}.json", json.dumps(tasks, ensure_ascii=False, indent=1) + "\n"


def prodigy(stem: str, documents: Iterator[Annotated]) -> Iterator[tuple[str, str]]:
    """JSONL as rel.manual has it."""

    def record(document: Annotated) -> dict:
        words = list(re.finditer(r"[^ \n]+", document.text))
        starts = {word.start(): n for n, word in enumerate(words)}
        ends = {word.end(): n for n, word in enumerate(words)}
        spans = [
            {"start": s.start, "end": s.end, "token_start": starts[s.start], "token_end": ends[s.end], "label": s.type}
            for s in document.spans
        ]
        arcs = []
        for arc in document.arcs:
            head, child = spans[arc.head - 1], spans[arc.tail - 1]
            places = {"head": head["token_end"], "child": child["token_end"]}
            arcs.append(places | {"head_span": head, "child_span": child, "label": arc.type})
        tokens = [
            {
                "text": word.group(),
                "start": word.start(),
                "end": word.end(),
                "id": n,
                "ws": document.text[word.end() : word.end() + 1] == " ",
            }
            for n, word in enumerate(words)
        ]
        made = {"text": document.text, "tokens": tokens, "spans": spans, "relations": arcs}
        return made | {"meta": {"id": document.name}, "answer": "accept"}

    yield f"{stem}.jsonl", "".join(json_line(record(document)) for document in documents)


WRITERS: dict[str, Callable[[str, Iterator[Annotated]], Iterator[tuple[str, str]]]] = {
    "brat": brat,
    "doccano": doccano,
    "label-studio": label_studio,
    "prodigy": prodigy,
}
"""Form -> its writer, which gives names and contents of files."""
