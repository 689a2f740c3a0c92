"""Where a dataset's files come from: the first mirror folder that has them, else their public URL.

A mirror is a folder laid out as `DATASET/file` (and `encoders/NAME/`). What is downloaded lands in `data/mirror`,
so it is a mirror from then on. Either way the SHA-256 is checked.
"""

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from sinet.errors import UserError
from sinet.mirrors import DOWNLOADS, MIRRORS_VARIABLE, mirror_folders
from sinet.provenance import file_sha256

RETRIES = 4


def as_list(files: dict | list[dict]) -> list[dict]:
    """The files of a split, declared as one or as several."""
    return files if isinstance(files, list) else [files]


def find_file(dataset: str, path: str, mirrors: Sequence[str]) -> Path | None:
    """The file in the first mirror that has it, or None."""
    for mirror in mirror_folders(mirrors):
        if (candidate := mirror / dataset / path).is_file():
            return candidate
    return None


def release_folders(release: str, mirrors: Sequence[str]) -> list[Path]:
    """The folders of a licensed corpus in the mirrors: those that hold annotated documents."""
    folders = (mirror / release for mirror in mirror_folders(mirrors))
    return [folder for folder in folders if next(folder.rglob("*.apf.xml"), None)]


def obtain_file(dataset: str, declared: dict, mirrors: Sequence[str]) -> Path:
    """A dataset's file, found or fetched, and checked.

    Args:
        declared: `path` below the dataset's folder, and optionally `url` and `sha256`.

    Raises:
        UserError: absent and not to be fetched (naming both ways to get it), or not the declared bytes.
    """
    found = find_file(dataset, declared["path"], mirrors)
    if found is None:
        found = _download(dataset, declared, mirrors)
    expected = declared.get("sha256")
    if expected and (actual := file_sha256(found)) != expected:
        raise UserError(f"{found}: SHA-256 is {actual}, {dataset} declares {expected}; replace the file")
    return found


def _download(dataset: str, declared: dict, mirrors: Sequence[str]) -> Path:
    target = DOWNLOADS / dataset / declared["path"]
    folders = ", ".join(f"{folder / dataset}/" for folder in mirror_folders(mirrors))
    by_hand = f"put {declared['path']} into one of {folders}(or name a folder in {MIRRORS_VARIABLE})"
    if not declared.get("url"):
        raise UserError(f"{dataset}: {declared['path']} is not to be had by itself from a public URL; {by_hand}")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(target.suffix + ".part")
    for attempt in range(RETRIES):
        if attempt:
            time.sleep(2**attempt)
        try:
            _fetch(declared["url"], partial)
            if declared.get("sha256") and (actual := file_sha256(partial)) != declared["sha256"]:
                reason = f"SHA-256 is {actual}, {dataset} declares {declared['sha256']}"
                continue
            partial.replace(target)
            return target
        except urllib.error.HTTPError as error:
            reason = error
            if error.code < 500:
                break
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
        finally:
            partial.unlink(missing_ok=True)
    raise UserError(f"{dataset}: cannot fetch {declared['url']} ({reason}); go online, or {by_hand}")


def _fetch(url: str, target: Path) -> None:
    """Download `url`, raising an `OSError` when fewer bytes came than were announced."""
    with urllib.request.urlopen(url, timeout=30) as response, open(target, "wb") as file:
        while block := response.read(1 << 20):
            file.write(block)
        announced = response.headers.get("Content-Length")
        if announced and file.tell() != int(announced):
            raise ConnectionError(f"{file.tell()} of {announced} bytes came")
