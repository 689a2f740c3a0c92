"""Triples from raw text with a trained run: sentences and words by `sinet.data.text`, spans with character offsets."""

import html
import itertools
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from sinet.data.sentence import Sentence
from sinet.data.text import Word, sentences
from sinet.errors import UserError
from sinet.files import write_atomically
from sinet.run import machine
from sinet.run.predict import CHUNK, load_run, predict

log = logging.getLogger("sinet")

PARAGRAPH = 1 << 16
"""Characters of a text file without a blank line that are read at once."""


@dataclass(frozen=True)
class Text:
    """A sentence of a text: which text, its words with their characters, and what was found."""

    document: str
    words: Sequence[Word]
    found: Sentence

    def as_json(self) -> dict:
        """The sentence with `offsets` (characters of each word in its text), entities by words and characters, and
        relations by positions in `entities`, each with its score."""
        entities = [
            {
                "type": e.type,
                "text": self.mention(e.start, e.end),
                "start": e.start,
                "end": e.end,
                "characters": [self.words[e.start].start, self.words[e.end - 1].end],
                "score": round(e.score, 4),
            }
            for e in self.found.entities
        ]
        return {
            "id": self.found.id,
            "document": self.document,
            "tokens": list(self.found.tokens),
            "offsets": [[word.start, word.end] for word in self.words],
            "entities": entities,
            "relations": [
                {"type": r.type, "head": r.head, "tail": r.tail, "score": round(r.score, 4)}
                for r in self.found.relations
            ],
        }

    def mention(self, start: int, end: int) -> str:
        """Words [start, end), apart where they are apart in the text."""
        words = self.words[start:end]
        parts = [words[0].text]
        for before, after in itertools.pairwise(words):
            parts += [" " * (after.start > before.end), after.text]
        return "".join(parts)

    def triples(self) -> list[tuple[str, str, str, float]]:
        """Subject, relation, object, each entity as `text [type]`, and the relation's score."""
        names = [f"{self.mention(e.start, e.end)} [{e.type}]" for e in self.found.entities]
        return [(names[r.head], r.type, names[r.tail], r.score) for r in self.found.relations]

    def readable(self) -> str:
        """The sentence with its entities in brackets, and a line for each triple."""
        opening = {i: [] for i in range(len(self.words))}
        closing = {i: [] for i in range(len(self.words))}
        for e in sorted(self.found.entities, key=lambda e: (e.start, -e.end)):
            opening[e.start].append("[")
            closing[e.end - 1].insert(0, f"]{e.type}")
        words = ["".join(opening[i]) + word.text + "".join(closing[i]) for i, word in enumerate(self.words)]
        lines = [f"  ⟨{head}, {kind}, {tail}⟩ {score:.2f}" for head, kind, tail, score in self.triples()]
        return "\n".join([" ".join(words), *(lines or ["  no triples"])])

    def drawing(self) -> str:
        """The sentence as an SVG: entities as labelled blocks, relations as arcs between them."""
        from spacy import displacy

        blocks, place = [], {}
        taken = {}
        for number, e in sorted(enumerate(self.found.entities), key=lambda item: (item[1].start, -item[1].end)):
            # of entities that share words the first is drawn, the longer of two that start together; arcs of the others
            # end at it
            if not any(i in taken for i in range(e.start, e.end)):
                taken |= dict.fromkeys(range(e.start, e.end), number)
        position = 0
        while position < len(self.words):
            if (number := taken.get(position)) is None:
                blocks.append({"text": self.words[position].text, "tag": ""})
                place[position] = len(blocks) - 1
                position += 1
                continue
            e = self.found.entities[number]
            blocks.append({"text": self.mention(e.start, e.end), "tag": e.type})
            place |= dict.fromkeys(range(e.start, e.end), len(blocks) - 1)
            position = e.end
        arcs = []
        for r in self.found.relations:
            head, tail = (place[self.found.entities[i].start] for i in (r.head, r.tail))
            if head != tail:
                low, high = sorted((head, tail))
                arcs.append({"start": low, "end": high, "label": r.type, "dir": "right" if head < tail else "left"})
        options = {"compact": True, "distance": 130, "word_spacing": 30, "font": "sans-serif"}
        return displacy.render(
            {"words": blocks, "arcs": arcs}, style="dep", manual=True, options=options, jupyter=False
        )


class Loaded:
    """A trained run, ready for text: `sinet.load(folder)`."""

    def __init__(self, folder: Path | str) -> None:
        """Raises `UserError` when the folder is no finished run; it needs nothing outside itself."""
        self.device = machine.use_device()
        self.model, made = load_run(Path(folder), self.device)
        self.precision = machine.usable_precision(made["precision"], self.device)

    def predict(self, texts: Iterable[str]) -> list[Text]:
        """The sentences of some texts, in their order, with entities and relations."""
        return list(self.stream((str(i), 0, text) for i, text in enumerate(texts)))

    def stream(self, parts: Iterable[tuple[str, int, str]]) -> Iterator[Text]:
        """The same for parts of documents (document, offset of its first character, text), a chunk at a time."""
        split = (
            (document, [Word(w.text, w.start + offset, w.end + offset) for w in words])
            for document, offset, text in parts
            for words in sentences(text)
        )
        numbered = (
            (document, words, Sentence(str(n), tuple(w.text for w in words)))
            for n, (document, words) in enumerate(split)
        )
        while chunk := list(itertools.islice(numbered, CHUNK)):
            given = [sentence for _, _, sentence in chunk]
            if unread := self.model.encoder.truncated_words(given):
                log.warning("%d words lie beyond what the encoder reads; nothing is found there", unread)
            found = predict(self.model, given, self.device, self.precision)
            for (document, words, _), prediction in zip(chunk, found, strict=True):
                yield Text(document, words, prediction)


def paragraphs(path: Path) -> Iterator[tuple[str, int, str]]:
    """The paragraphs of a UTF-8 text file (name, offset, text), without reading the whole file at once."""
    held, offset, length = [], 0, 0
    try:
        with open(path, encoding="utf-8-sig", newline="") as lines:
            for line in lines:
                if held and (not line.strip() or length > PARAGRAPH):
                    yield path.name, offset, "".join(held)
                    offset, length, held = offset + length, 0, []
                held.append(line)
                length += len(line)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 (byte {error.start}); convert the file to UTF-8") from None
    if held:
        yield path.name, offset, "".join(held)


def extract_file(run: Path, source: Path, out: Path, page: Path | None) -> None:
    """Predict a text file into JSON lines, one sentence a line, and optionally draw it as a page."""
    loaded = Loaded(run)
    drawings = []

    def write(partial: Path) -> None:
        with (
            open(partial, "w", encoding="utf-8") as file,
            tqdm(total=source.stat().st_size, unit="B", unit_scale=True, desc="predict", mininterval=2) as bar,
        ):

            def counted() -> Iterator[tuple[str, int, str]]:
                for part in paragraphs(source):
                    bar.update(len(part[2].encode()))
                    yield part

            for text in loaded.stream(counted()):
                file.write(json.dumps(text.as_json(), ensure_ascii=False) + "\n")
                if page is not None:
                    drawings.append(text.drawing())

    write_atomically(out, write)
    if page is not None:
        write_page(page, drawings, source.name)


def write_page(path: Path, drawings: Sequence[str], title: str) -> None:
    """A self-contained HTML page of drawn sentences."""
    body = "\n".join(f'<figure style="overflow-x: auto; margin: 1em 0">{drawing}</figure>' for drawing in drawings)
    text = f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title></head>'
    path.write_text(f"{text}\n<body><h1>{html.escape(title)}</h1>\n{body}\n</body></html>\n", encoding="utf-8")
