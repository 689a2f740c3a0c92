"""Where a dataset's files come from: the first mirror folder that has them, else their public URL.

A mirror is a folder laid out as `DATASET/file` (and `encoders/NAME/`). What is downloaded lands in `data/mirror`,
so it is a mirror from then on. Either way the SHA-256 is checked.
"""

import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from sinet.errors import UserError
from sinet.provenance import file_sha256

DOWNLOADS = Path("data/mirror")
MIRRORS_VARIABLE = "SINET_MIRRORS"
RETRIES = 4


def mirror_folders(mirrors: Sequence[str]) -> list[Path]:
    """The folders to look into, those of the environment variable `SINET_MIRRORS` (`:`-separated) first."""
    extra = [folder for folder in os.environ.get(MIRRORS_VARIABLE, "").split(os.pathsep) if folder]
    return [Path(folder) for folder in (*extra, *mirrors)]


def find_file(dataset: str, path: str, mirrors: Sequence[str]) -> Path | None:
    """The file in the first mirror that has it, or None."""
    for mirror in mirror_folders(mirrors):
        if (candidate := mirror / dataset / path).is_file():
            return candidate
    return None


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
        raise UserError(f"{dataset}: {declared['path']} has no public URL (licensed); {by_hand}")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(target.suffix + ".part")
    for attempt in range(RETRIES):
        try:
            with urllib.request.urlopen(declared["url"], timeout=30) as response, open(partial, "wb") as file:
                while block := response.read(1 << 20):
                    file.write(block)
            if declared.get("sha256") and (actual := file_sha256(partial)) != declared["sha256"]:
                raise UserError(
                    f"{declared['url']}: SHA-256 is {actual}, {dataset} declares {declared['sha256']}; {by_hand}"
                )
            partial.replace(target)
            return target
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                break
            if attempt + 1 < RETRIES:
                time.sleep(2**attempt)
        finally:
            partial.unlink(missing_ok=True)
    raise UserError(f"{dataset}: cannot fetch {declared['url']} ({reason}); go online, or {by_hand}")
