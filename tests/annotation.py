"""Documents of ACE in the form of the releases: a source and its annotation."""

import html
import re
from pathlib import Path
from xml.sax.saxutils import escape


def news(headline: str, body: str) -> str:
    """The source of a newswire document, its `{name}` still to be filled in."""
    return f"""<DOC>
<DOCID> {{name}} </DOCID>
<DOCTYPE SOURCE="newswire"> NEWS STORY </DOCTYPE>
<DATETIME> 2003-03-04 </DATETIME>
<BODY>
<HEADLINE>
{headline}
</HEADLINE>
<TEXT>
{body}
</TEXT>
</BODY>
</DOC>
"""


class Annotation:
    """A document of a release, `ace04` or `ace05`, whose annotation is built by naming words or characters of the
    source without its tags."""

    def __init__(self, name: str, release: str, source: str) -> None:
        self.name, self.release = name, release
        self.source = source.format(name=name)
        self.plain = re.sub(r"<[^>]*>", "", self.source.replace("\r\n", "\n"))
        self.entities, self.relations, self.texts = [], [], {}

    def mention(self, id: str, kind: str, text: str, nth: int = 0, annotated: str | None = None) -> None:
        start = -1
        for _ in range(nth + 1):
            start = self.plain.index(text, start + 1)
        self.mention_at(id, kind, start, start + len(text), annotated=annotated or text)

    def mention_at(
        self,
        id: str,
        kind: str,
        start: int,
        end: int,
        extent: tuple[int, int] | None = None,
        annotated: str | None = None,
    ) -> None:
        """A mention by the characters [start, end) of its head; `extent`: those of all of it."""
        plain = html.unescape(annotated or self.plain[start:end])
        self.texts[id] = (kind, "".join(plain.split()))
        place = f'<charseq START="{start}" END="{end - 1}">{escape(plain)}</charseq>'
        first, last = extent or (0, len(self.plain))
        whole = f'<charseq START="{first}" END="{last - 1}">{escape(html.unescape(self.plain[first:last]))}</charseq>'
        self.entities.append(
            f'<entity ID="E{id}" TYPE="{kind}" SUBTYPE="x" CLASS="SPC">'
            f'<entity_mention ID="{id}" TYPE="NAM" LDCTYPE="NAM"><extent>{whole}</extent>'
            f"<head>{place}</head></entity_mention></entity>"
        )

    def relation(self, kind: str, first: str | None, second: str | None) -> None:
        arguments = [(1, first), (2, second)]
        if self.release == "ace05":
            body = "".join(
                f'<relation_mention_argument REFID="{a}" ROLE="Arg-{n}"/>' for n, a in arguments if a is not None
            )
            body += '<relation_mention_argument REFID="T1" ROLE="Time-Within"/>'
        else:
            body = "".join(f'<rel_mention_arg ENTITYMENTIONID="{a}" ARGNUM="{n}"/>' for n, a in arguments if a)
        self.relations.append(
            f'<relation ID="R{len(self.relations)}" TYPE="{kind}" SUBTYPE="x"><relation_mention ID="M">{body}'
            "</relation_mention></relation>"
        )

    def write(self, folder: Path, encoding: str = "utf-8") -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.name}.sgm").write_bytes(self.source.encode(encoding))
        path = folder / f"{self.name}.apf.xml"
        body = "\n".join([*self.entities, *self.relations])
        path.write_text(
            f'<?xml version="1.0"?>\n<!DOCTYPE source_file SYSTEM "apf.v5.1.1.dtd">\n'
            f'<source_file URI="x"><document DOCID="{self.name}">\n{body}\n</document></source_file>',
            encoding=encoding,
            newline="\r\n" if "\r\n" in self.source else "\n",
        )
        return path
