"""Triples from raw text with a trained run: sentences and words by `sinet.data.text`, spans with character offsets.

A sentence longer than a model reads is read in windows, each from the middle of the one before it, so that every
mention of up to half a window lies whole in one. A mention is decided by the window to whose middle it lies nearest,
and so is a pair of mentions.
"""

import functools
import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sinet import machine
from sinet.contract import Extractor
from sinet.data.decode import decoded, utf8_lines
from sinet.data.sentence import Entity, Labels, Relation, Sentence, in_documents, parse_sentence
from sinet.data.text import Word, foreign, sentences
from sinet.errors import UserError
from sinet.files import json_line, write_atomically, write_lines
from sinet.infer import draw
from sinet.infer.finished import run_labels
from sinet.infer.predict import Thresholds, chunks, load_run, predict, what_determines

log = logging.getLogger("sinet")

CHUNK = 512
"""Sentences predicted at once; results and progress show after each."""
PARAGRAPH = 1 << 16
"""Characters of a text file without a blank line that are taken for one paragraph."""


@dataclass(frozen=True)
class ExtractedEntity:
    """A mention in a text: its type, its words apart as they are there (one that is hyphenated across lines, joined),
    its characters [start, end) in the text that was given, and its score."""

    type: str
    text: str
    characters: tuple[int, int]
    score: float | None

    def __str__(self) -> str:
        return f"{self.text} [{self.type}]"


@dataclass(frozen=True)
class ExtractedRelation:
    """A relation between two mentions of a sentence, and its score."""

    type: str
    head: ExtractedEntity
    tail: ExtractedEntity
    score: float | None

    def __repr__(self) -> str:
        score = "" if self.score is None else f" {self.score:.2f}"
        return f"⟨{self.head}, {self.type}, {self.tail}⟩{score}"


@dataclass(frozen=True, repr=False)
class ExtractedSentence:
    """A sentence of a text: which text (`document`), its `words` with their characters, and what was `found` by words;
    `entities` and `relations` by characters."""

    document: str
    words: Sequence[Word]
    found: Sentence

    @functools.cached_property
    def entities(self) -> list[ExtractedEntity]:
        """Its entities."""
        return [
            ExtractedEntity(
                e.type,
                self._mention(e.start, e.end),
                (self.words[e.start].start, self.words[e.end - 1].end),
                None if e.score is None else round(e.score, 4),
            )
            for e in self.found.entities
        ]

    @functools.cached_property
    def relations(self) -> list[ExtractedRelation]:
        """Its relations; head and tail are of its `entities`."""
        return [
            ExtractedRelation(
                r.type, self.entities[r.head], self.entities[r.tail], None if r.score is None else round(r.score, 4)
            )
            for r in self.found.relations
        ]

    def __repr__(self) -> str:
        text, entities = self._mention(0, len(self.words)), ", ".join(map(str, self.entities))
        return f"ExtractedSentence({text!r}, entities=[{entities}], relations={self.relations})"

    def as_json(self) -> dict:
        """The sentence with `offsets` (characters of each word in its text), entities by words and characters, and
        relations by positions in `entities`, each with its score."""
        return {
            "id": self.found.id,
            "document": self.document,
            "tokens": list(self.found.tokens),
            "offsets": [[word.start, word.end] for word in self.words],
            "entities": [
                {"type": e.type, "text": e.text, "start": at.start, "end": at.end}
                | {"characters": list(e.characters), "score": e.score}
                for e, at in zip(self.entities, self.found.entities, strict=True)
            ],
            "relations": [
                {"type": r.type, "head": at.head, "tail": at.tail, "score": r.score}
                for r, at in zip(self.relations, self.found.relations, strict=True)
            ],
        }

    def _mention(self, start: int, end: int) -> str:
        """Words [start, end), apart where they are apart in the text."""
        words = self.words[start:end]
        parts = [words[0].text]
        for before, after in itertools.pairwise(words):
            parts += [" " * (after.start > before.end), after.text]
        return "".join(parts)

    def readable(self) -> str:
        """The sentence with its entities in brackets, and a line for each triple."""
        opening: list[list[str]] = [[] for _ in self.words]
        closing: list[list[str]] = [[] for _ in self.words]
        for e in sorted(self.found.entities, key=lambda e: (e.start, -e.end)):
            opening[e.start].append("[")
            closing[e.end - 1].insert(0, f"]{e.type}")
        words = ["".join(opening[i]) + word.text + "".join(closing[i]) for i, word in enumerate(self.words)]
        return "\n".join([" ".join(words), *([f"  {r!r}" for r in self.relations] or ["  no triples"])])

    def drawing(self, labels: Labels) -> str:
        """The sentence as an SVG, spaced as in the text."""
        return draw.drawing(self.found, labels, _apart([(word.start, word.end) for word in self.words]))


class Predictor:
    """A trained run, ready for text: `sinet.load(folder)`.

    Torch keeps the threads and settings that the process gave it but for `machine.remember_few_kernels`;
    `python -m sinet predict` sets its own, so that its figures are the same at every call.
    """

    def __init__(self, folder: Path | str, thresholds: Thresholds = None) -> None:
        """Of a finished run's folder, which needs nothing outside itself. `thresholds` of relations: one for all
        types, or a file that `sinet thresholds` wrote for the run; default, the system's own.

        Raises:
            UserError: the folder is no finished run, or the thresholds are not its.
        """
        machine.remember_few_kernels()
        self.device = machine.available_device()
        self.model, self.made = load_run(Path(folder), self.device, thresholds)
        self.labels: Labels = self.model.labels
        self.precision = machine.usable_precision(self.made["precision"], self.device)

    def predict(
        self, texts: str | Iterable[str], lines: bool = False, language: str = "en", pdf: bool = False
    ) -> list[ExtractedSentence]:
        """The sentences of one text or some, in their order, with entities and relations; sentences of all texts are
        predicted in batches, and each names its text by its position (`document`: "0", ...).

        Args:
            texts: one text or some.
            lines: whether a line break ends a sentence.
            language: spaCy's code of the language.
            pdf: whether words that are hyphenated across lines are joined and headings set apart.

        Raises:
            UserError: what is no text, one that holds halves of characters, as wrongly decoded bytes become, or a
                language without rules.
        """
        texts = [texts] if isinstance(texts, str) or not isinstance(texts, Iterable) else list(texts)
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise UserError(f"text {i}: should be a text, is {text!r:.40}")
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise UserError(f"text {i}: not Unicode at character {error.start}; give it in UTF-8") from None
        return list(self.stream(((str(i), 0, text) for i, text in enumerate(texts)), lines, language, pdf))

    def stream(
        self,
        parts: Iterable[tuple[str, int, str]],
        lines: bool = False,
        language: str = "en",
        pdf: bool = False,
        skip: int = 0,
    ) -> Iterator[ExtractedSentence]:
        """The same for parts of documents (document, offset of its first character, text), a chunk at a time, or with a
        model that reads beyond a sentence whole documents, without the first `skip` sentences."""
        split = (
            (document, [Word(w.text, w.start + offset, w.end + offset) for w in words])
            for document, offset, text in parts
            for words in sentences(text, lines, language, pdf)
        )
        numbered = (
            (document, words, Sentence(str(n), tuple(w.text for w in words), document=document))
            for n, (document, words) in enumerate(split)
        )
        settings, done = self.model.settings, 0
        whole = settings.whole_documents or any(getattr(settings, window) for window in settings.windows)
        for chunk in chunks(numbered, CHUNK, (lambda item: item[0]) if whole else None):
            first, done = max(0, skip - done), done + len(chunk)
            if done <= skip:
                continue
            if done - len(chunk) <= skip and foreign([word.text for _, words, _ in chunk for word in words], language):
                why = "the text has hardly a frequent word of --language %s; little is found in another than the run's"
                log.warning(why, language)
            read = [windows(self.model, sentence) for _, _, sentence in chunk]
            given = [
                replace(sentence, tokens=sentence.tokens[start:end], offset=sentence.offset + start)
                for sentence, parts in zip(in_documents(sentence for _, _, sentence in chunk), read, strict=True)
                for start, end in parts
            ]
            found = iter(predict(self.model, given, self.device, self.precision))
            made = (
                ExtractedSentence(document, words, joined(sentence, places, list(itertools.islice(found, len(places)))))
                for (document, words, sentence), places in zip(chunk, read, strict=True)
            )
            yield from itertools.islice(made, first, None)


def windows(model: Extractor, sentence: Sentence) -> list[tuple[int, int]]:
    """The words [start, end) of each window in which a model reads a sentence; one where it reads all at once."""
    found, start = [], 0
    while True:
        # no word has less than a piece: what lies beyond is not cut again and again
        rest = replace(sentence, tokens=sentence.tokens[start : start + model.encoder.max_pieces])
        end = start + len(rest.tokens) - model.truncated_words([rest])
        found.append((start, end))
        if end == len(sentence.tokens):
            return found
        start += max(1, (end - start) // 2)


def joined(sentence: Sentence, windows: Sequence[tuple[int, int]], predicted: Sequence[Sentence]) -> Sentence:
    """The sentence with what was predicted in its windows."""
    if len(windows) == 1:
        return predicted[0]

    def decides(window: tuple[int, int], *mentions: tuple[str, int, int]) -> bool:
        start, end = min(m[1] for m in mentions), max(m[2] for m in mentions)
        whole = [w for w in windows if w[0] <= start and end <= w[1]]
        return window == min(whole, key=lambda w: abs(sum(w) - start - end))

    place: dict[tuple[str, int, int], int] = {}
    entities: list[Entity] = []
    relations: list[Relation] = []
    read = [
        (
            window,
            [replace(e, start=e.start + window[0], end=e.end + window[0]) for e in found.entities],
            found.relations,
        )
        for window, found in zip(windows, predicted, strict=True)
    ]
    for window, here, _ in read:
        for e in here:
            if decides(window, mention := (e.type, e.start, e.end)):
                place[mention] = len(entities)
                entities.append(e)
    for window, here, related in read:
        for r in related:
            pair = [(e.type, e.start, e.end) for e in (here[r.head], here[r.tail])]
            if decides(window, *pair) and all(mention in place for mention in pair):
                relations.append(replace(r, head=place[pair[0]], tail=place[pair[1]]))
    return sentence.with_labels(entities, relations)


def paragraphs(path: Path) -> Iterator[tuple[str, int, str]]:
    """The paragraphs of a UTF-8 text file (name, offset, text), without reading the whole file at once."""
    held: list[str] = []
    offset = length = 0
    for _, line in utf8_lines(path):
        if held and (not line.strip() or length > PARAGRAPH):
            text = "".join(held)
            stop = len(text) if not line.strip() else _end_within(text, len(text))
            yield path.name, offset, text[:stop]
            offset, length, held = offset + stop, length - stop, [text[stop:]] if stop < length else []
        while len(line) > PARAGRAPH:
            stop = _end_within(line, PARAGRAPH)
            yield path.name, offset, "".join([*held, line[:stop]])
            offset, length, held, line = offset + length + stop, 0, [], line[stop:]
        held.append(line)
        length += len(line)
    if held:
        yield path.name, offset, "".join(held)


def _end_within(text: str, most: int) -> int:
    """Where to divide a long text: behind the last sentence's end within `most` characters, else behind the last line
    or blank."""
    ends = (text.rfind(mark + blank, 0, most) for mark in ".?!" for blank in " \r\n")
    if (last := max(ends)) >= 0:
        return last + 2
    return 1 + text.rfind("\n", 0, most) or 1 + text.rfind(" ", 0, most) or most


def texts(path: Path) -> Iterator[tuple[str, int, str]]:
    """The texts of a JSON-lines file of `{"text": ..., "id": ...}` (id, by default the line's number; 0; text)."""
    for number, line in utf8_lines(path):
        if line.strip():
            record = decoded(line, f"{path}:{number}")
            if not isinstance(record, dict) or not isinstance(record.get("text"), str):
                raise UserError(f'{path}:{number}: text: should be an object {{"text": "..."}}, is {record!r:.60}')
            name = record.get("id")
            yield str(number if name is None else name), 0, record["text"]


def holds_texts(path: Path) -> bool:
    """Whether a JSON-lines file holds raw texts rather than sentences of words, by its first record."""
    for number, line in utf8_lines(path):
        if line.strip():
            record = decoded(line, f"{path}:{number}")
            return isinstance(record, dict) and "text" in record and "tokens" not in record
    return False


def extract_file(
    run: Path,
    source: Path,
    out: Path | None,
    page: Path | None = None,
    lines: bool = False,
    language: str = "en",
    thresholds: Thresholds = None,
    pdf: bool = False,
) -> None:
    """Predict raw text (`.txt`, or JSON lines of texts) into JSON lines, one sentence a line, and draw it if asked;
    without `out` print it to read. `lines`, `language`, `pdf`: as `Predictor.predict`.
    """
    machine.use_device()
    predictor = Predictor(run, thresholds)
    parts_of = paragraphs if source.suffix == ".txt" else texts
    for _ in parts_of(source):
        pass  # a fault is told now, not after hours
    size, read, found = source.stat().st_size, 0, 0

    def counted() -> Iterator[tuple[str, int, str]]:
        nonlocal read
        for part in parts_of(source):
            yield part
            read += len(part[2].encode())

    def made(done: int) -> Iterator[ExtractedSentence]:
        nonlocal found
        found = done
        with tqdm(total=size, unit="B", unit_scale=True, desc="predict", mininterval=2) as bar:
            for text in predictor.stream(counted(), lines, language, pdf, done):
                found += 1
                bar.update(min(read, size) - bar.n)  # at most a chunk ahead of what is predicted
                yield text
            bar.update(size - bar.n)

    if out is None:
        for text in made(0):
            print(text.readable())
    else:
        determined = what_determines(predictor.model, predictor.made, source, lines, language, pdf)
        write_lines(out, determined, CHUNK, lambda done: (json_line(text.as_json()) for text in made(done)))
    if not found:
        log.warning("%s: no words in it", source)
    if out is not None and page is not None:
        draw_file(run, out, page, source.name)


def draw_file(run: Path, predictions: Path, page: Path, title: str) -> None:
    """Draw predicted sentences (JSON lines) as a page, spaced as in the text where it is known."""
    labels = run_labels(run)

    def write(partial: Path) -> None:
        with draw.page(partial, title, labels) as add:
            for number, line in utf8_lines(predictions):
                record: Any = decoded(line, f"{predictions}:{number}")
                sentence = parse_sentence(record, f"{predictions}:{number}", str(number))
                add(draw.drawing(sentence, labels, _apart(record["offsets"]) if "offsets" in record else None))

    write_atomically(page, write)


def _apart(offsets: Sequence[Sequence[int]]) -> list[bool]:
    """Whether each word (start, end) stands apart from the one before it."""
    return [True, *(after[0] > before[1] for before, after in itertools.pairwise(offsets))]
