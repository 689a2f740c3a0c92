"""Encoders of a hub -> files in a mirror folder: once, where there is a network, for trainings where there is none."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from string import ascii_lowercase

from sinet.encoders.encoder import MOST_UNKNOWN
from sinet.encoders.located import COMMIT, locate_encoder
from sinet.encoders.pretrained import load_encoder
from sinet.files import link_or_copy, write_json
from sinet.mirrors import DOWNLOADS
from sinet.schema import EncoderSpec

log = logging.getLogger("sinet")


def fetch_encoder(declared: EncoderSpec, mirrors: Sequence[str], out: Path) -> None:
    """Lay an encoder's files where a machine without a network finds them, and write into `out` what they are.

    What no mirror has is fetched from the hub into `data/mirror/encoders/NAME/`, a mirror from then on.

    Raises:
        UserError: it is not to be had, or its files are not what is declared.
    """
    located = locate_encoder(declared, mirrors)
    encoder = load_encoder(declared, located)  # what its files contradict is refused now, not when a training starts
    if encoder.unknown_share(ascii_lowercase) > MOST_UNKNOWN:
        log.warning("encoder %r: most letters from a to z are [UNK]; text in them cannot be read", declared.name)
    target = DOWNLOADS / "encoders" / declared.name
    if located.revision and located.folder and located.folder.resolve() != target.resolve():
        partial = target.with_name(f".{target.name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for path in sorted(located.folder.iterdir()):
            if path.is_file():
                link_or_copy(path.resolve(), partial / path.name)
        commit = {"hub": declared.hub, "revision": declared.revision, "commit": located.revision}
        write_json(partial / COMMIT, commit | {"sha256": located.sha256})
        shutil.rmtree(target, ignore_errors=True)
        partial.replace(target)
    write_json(out, {"encoder": declared.name} | located.record())
