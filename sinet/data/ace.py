"""ACE 2004 and 2005 from their release folders (LDC2005T09, LDC2006T06), as the published systems read them.

A document is `NAME.sgm` and `NAME.apf.xml`. An entity is the head of a mention, of any mention type; mentions with
equal type and extent are one, and relations are re-pointed to it. Of a relation's arguments only the first and second
count; DISC relations, relations that lack an argument, those between mentions that became one (the published chain
keeps these), and repeated ones are dropped; so are undeclared types. A sentence never ends inside an entity or between
the two arguments of a relation, and a word never crosses the edge of a head. Sentences and words are spaCy's
(`sinet.data.text`), the published chain's CoreNLP 3.5.2's: they differ a little.

Offsets count the characters of the source without its tags; character references count as they stand in the file
(`&amp;` is five), line breaks as one.

Header lines are all that stands outside `<TEXT>` (document id, type, dates, headline) and, inside it, the names and
dates that open a turn or a post (`HEADER`). The published systems keep them as sentences.
"""

import bisect
import html
import itertools
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sinet.data.decode import read_text
from sinet.data.document import Document, document_sentences
from sinet.data.sentence import Labels, Sentence, controlled
from sinet.data.sources import annotations, source_of
from sinet.data.text import sentences
from sinet.errors import UserError, listed, quoted

TAG = re.compile(r"<[^>]*>")
REFERENCE = re.compile(r"&(?:#\d{1,7}|#x[0-9a-fA-F]{1,6}|\w{1,32});")
NAME = re.compile(r"</?\s*([\w-]+)")
HEADER = {
    *("DOCID", "DOCNO", "DOCTYPE", "DATETIME", "DATE_TIME", "DATE", "ENDTIME", "HEADER", "SLUG", "HEADLINE", "SUBJECT"),
    *("SPEAKER", "POSTER", "POSTDATE", "FOOTER", "TRAILER"),
}
"""Elements that are header lines wherever they stand."""
# a line break inside a sentence, as the published chain has it: text on both sides, and the next line does not begin
# with one character and a colon (the "Q:" and "A:" of an interview)
WRAPPED = re.compile(r"(\S)\n(\S[^:])")
DROPPED_TYPES = {"DISC"}
DEEPEST, LONGEST_HEAD = 50, 10_000
"""Elements within one another in an annotation (the releases have seven), and characters of a head."""
OTHER_ANNOTATORS = {"adj", "fp1", "fp2"}
"""Folders of ACE05 that hold other versions of the documents of `timex2norm`."""


@dataclass
class Lost:
    """What did not come through, counted over documents."""

    mentions: list[str] = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)

    def summary(self) -> str:
        """How many mentions are not the annotation's exact characters; 0 if all is well."""
        return f"Gold mentions that are not the annotation's exact characters: {len(self.mentions)}."

    def notes(self) -> list[str]:
        """For the card: the summary, the first such mentions by name, and everything that was counted."""
        lines = [self.summary()]
        lines += [f"- {mention}" for mention in self.mentions[:20]]
        lines += [f"{what[0].upper()}{what[1:]}: {n}." for what, n in sorted(self.counts.items())]
        return lines


def find_documents(folders: Sequence[Path]) -> dict[str, Path]:
    """Document name -> its `.apf.xml`, anywhere below the folders; ACE05's other annotators are passed over."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(annotations(folder)):
            if not OTHER_ANNOTATORS & set(path.relative_to(folder).parts):
                found.setdefault(path.name.removesuffix(".apf.xml"), path)
    return found


def read_documents(
    names: Sequence[str],
    found: dict[str, Path],
    header: bool,
    lost: Lost,
    labels: Labels | None = None,
    where: str = "the split",
) -> list[Sentence]:
    """The sentences of the named documents, in the order of the names.

    Args:
        header: keep header lines as sentences; else they are not read, and mentions and relations in them are counted.
        labels: the types that are kept, others are counted; None for all.
        where: what messages call the list of names.

    Raises:
        UserError: naming documents that are in the list and not in the corpus, or that cannot be read.
    """
    missing = [name for name in names if name not in found]
    if missing:
        raise UserError(f"the corpus lacks {len(missing)} of {len(names)} documents of {where}: {listed(missing)}")
    if unfit := next(filter(None, map(controlled, names)), None):
        raise UserError(f"{where}: the document name {unfit}")
    made = []
    for name in names:
        document = read_document(found[name], lost)
        document = document if header else without_header(document, lost)
        document = document if labels is None else of_types(document, labels, lost)
        made += document_sentences(document, sentences(WRAPPED.sub(r"\1 \2", document.text), lines=True)).sentences
    return made


# -- one document --------------------------------------------------------------------------------------------------


def read_document(apf: Path, lost: Lost) -> Document:
    """A document from its annotation and the `.sgm` beside it.

    Raises:
        UserError: a file that is missing, not UTF-8 or not XML, or an offset outside the source.
    """
    name = apf.name.removesuffix(".apf.xml")
    source = _source(source_of(apf))
    stripped = _without_tags(source)
    text, place = _without_references(stripped)
    root = _parsed(apf)

    distinct: dict[tuple[str, int, int], int] = {}
    position: dict[str, int] = {}
    for entity in root.iter("entity"):
        for mention in entity.iter("entity_mention"):
            head = mention.find("head/charseq")
            if head is None:
                raise UserError(f"{apf}: mention {mention.get('ID')} has no head/charseq")
            try:
                start, end = int(head.get("START", "")), int(head.get("END", "")) + 1
            except ValueError:
                raise UserError(f"{apf}: mention {mention.get('ID')}: START and END should be whole numbers") from None
            if not 0 <= start < end <= len(stripped):
                raise UserError(f"{apf}: mention {mention.get('ID')}: {start}..{end - 1} lies outside the source")
            if end - start > LONGEST_HEAD:
                raise UserError(
                    f"{apf}: mention {mention.get('ID')}: a head of {end - start:,} characters; "
                    f"{LONGEST_HEAD:,} at most"
                )
            begin, stop = place[start], place[end]
            while begin < stop and text[begin].isspace():
                begin += 1
            while begin < stop and text[stop - 1].isspace():
                stop -= 1
            annotated = " ".join((head.text or "").split())
            if not annotated or " ".join(text[begin:stop].split()) != annotated:
                shown = " ".join(text[begin:stop].split())
                lost.mentions.append(
                    f"{name}: {mention.get('ID')}: {quoted(annotated)} in the annotation, {quoted(shown)} in the text"
                )
                if begin == stop:
                    continue
            if (kind := (entity.get("TYPE", ""), begin, stop)) in distinct:
                lost.counts["duplicate mentions merged"] += 1
            position[mention.get("ID", "")] = distinct.setdefault(kind, len(distinct))

    relations: dict[tuple[str, int, int], None] = {}
    for relation in root.iter("relation"):
        for mention in relation.iter("relation_mention"):
            if relation.get("TYPE") in DROPPED_TYPES:
                lost.counts[f"{relation.get('TYPE')} relations dropped"] += 1
                continue
            arguments = _arguments(mention)
            if not {1, 2} <= arguments.keys() or not {arguments[1], arguments[2]} <= position.keys():
                lost.counts["relations dropped for want of an entity as argument"] += 1
                continue
            triple = relation.get("TYPE", ""), position[arguments[1]], position[arguments[2]]
            if triple[1] == triple[2]:
                lost.counts["relations of a mention to itself dropped"] += 1
                continue
            if triple in relations:
                lost.counts["repeated relations dropped"] += 1
            relations[triple] = None
    header = tuple((place[start], place[end]) for start, end in _header(source))
    lost.counts["mentions read"] += len(distinct)
    return Document(name, text, tuple(distinct), tuple(relations), header)


def _parsed(apf: Path) -> ElementTree.Element:
    """The root of an annotation; its elements are counted while it is read, so that no deep one is built."""
    depth, root = 0, ElementTree.Element("empty")
    try:
        for event, element in ElementTree.iterparse(apf, ("start", "end")):
            root = element if depth == 0 and event == "start" else root
            depth += 1 if event == "start" else -1
            if depth > DEEPEST:
                raise UserError(f"{apf}: cannot be read as XML: more than {DEEPEST} elements within one another")
    except (ElementTree.ParseError, LookupError, ValueError, OSError) as error:
        raise UserError(f"{apf}: cannot be read as XML: {error}") from None
    return root


def _tags(source: str) -> Iterator[re.Match]:
    """The tags of a source; behind the last `>` there are none to look for."""
    return TAG.finditer(source, 0, source.rfind(">") + 1)


def _without_tags(source: str) -> str:
    end = source.rfind(">") + 1
    return TAG.sub("", source[:end]) + source[end:]


def _source(path: Path) -> str:
    if not path.exists():
        raise UserError(f"{path} is missing; it belongs beside the annotation")
    return read_text(path).replace("\r\n", "\n")


def _header(source: str) -> list[tuple[int, int]]:
    """The characters [start, end) of header lines, counted without tags."""
    removed = 0
    found: list[tuple[int, int]] = []
    opened: list[str] = []
    within = not re.search("<TEXT", source, re.IGNORECASE)  # text that is body unless an element says otherwise
    begin = None if within else 0
    for tag in _tags(source):
        at = tag.start() - removed
        removed += len(tag.group())
        name = NAME.match(tag.group())
        kind, closes = (name.group(1).upper() if name else ""), tag.group().startswith("</")
        if kind == "TEXT":
            within, opened = not closes, []
        elif kind in HEADER and not closes and kind not in opened:
            opened.append(kind)
        elif kind in opened and closes:
            del opened[opened.index(kind) :]
        inside = bool(opened) or not within
        if inside and begin is None:
            begin = at
        elif not inside and begin is not None:
            found.append((begin, at))
            begin = None
    return [*found, *([] if begin is None else [(begin, len(source) - removed)])]


def _without_references(source: str) -> tuple[str, list[int]]:
    """The text with character references replaced by what they stand for, and the new place of every old offset."""
    parts: list[str] = []
    place: list[int] = []
    done = length = 0
    for match in REFERENCE.finditer(source):
        plain = html.unescape(match.group())
        if plain == match.group():  # no known reference: it stands for itself
            continue
        before = source[done : match.start()]
        parts += [before, plain]
        place += range(length, length + len(before))
        length += len(before)
        place += [length] + [length + len(plain)] * (len(match.group()) - 1)
        length += len(plain)
        done = match.end()
    parts.append(source[done:])
    place += range(length, length + len(source) - done + 1)
    return "".join(parts), place


def _arguments(mention: ElementTree.Element) -> dict[int, str]:
    """Argument number -> mention id, in either release's form."""
    found = {}
    for argument in mention.iter("relation_mention_argument"):
        if (role := argument.get("ROLE", "")) in ("Arg-1", "Arg-2"):
            found[int(role[-1])] = argument.get("REFID", "")
    for argument in mention.iter("rel_mention_arg"):
        if (number := argument.get("ARGNUM", "")) in ("1", "2"):
            found[int(number)] = argument.get("ENTITYMENTIONID", "")
    return found


# -- what is read of a document ------------------------------------------------------------------------------------


def without_header(document: Document, lost: Lost) -> Document:
    """The document with blanks for its header lines, without what is annotated in them."""
    parts, done = [], 0
    for start, end in document.header:
        parts += [document.text[done:start], "\n" * (end - start)]
        done = end
    text = "".join([*parts, document.text[done:]])
    ends = [end for _, end in document.header]
    kept = []
    for _, start, end in document.mentions:
        near = bisect.bisect_right(ends, start)  # the first header that ends behind the mention's start
        kept.append(near == len(ends) or document.header[near][0] >= end)
    return replace(_reduced(document, kept, document.relations, "dropped with header lines", lost), text=text)


def of_types(document: Document, labels: Labels, lost: Lost) -> Document:
    """The document without mentions and relations of undeclared types."""
    kept = [kind in labels.entity_types for kind, _, _ in document.mentions]
    relations = [relation for relation in document.relations if relation[0] in labels.relation_types]
    return _reduced(document, kept, relations, "of undeclared types dropped", lost)


def _reduced(document: Document, kept: list[bool], relations: Sequence[tuple], why: str, lost: Lost) -> Document:
    """The document with the mentions that are kept, and those of the relations that are between them; what goes is
    counted."""
    number = {i: n for n, i in enumerate(itertools.compress(range(len(kept)), kept))}
    relations = [(kind, number[head], number[tail]) for kind, head, tail in relations if {head, tail} <= number.keys()]
    for what, gone in (("mentions", len(kept) - len(number)), ("relations", len(document.relations) - len(relations))):
        lost.counts[f"{what} {why}"] += gone
    return replace(document, mentions=tuple(itertools.compress(document.mentions, kept)), relations=tuple(relations))
