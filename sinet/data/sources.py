"""Where a dataset's files come from: the first mirror folder that has them, else their public URL.

A mirror is a folder laid out as `DATASET/file` (and `encoders/NAME/`). What is downloaded lands in `data/mirror`,
so it is a mirror from then on. Either way the SHA-256 is checked. A file that is published inside a tar archive names
it as `url` and itself as `member`; the archive is fetched once for all files of the dataset that it holds.
"""

import os
import shutil
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sinet.errors import UserError
from sinet.mirrors import DOWNLOADS, MIRRORS_VARIABLE, mirror_folders
from sinet.provenance import file_sha256
from sinet.schema import DataFile

RETRIES = 4


def find_file(dataset: str, path: str, mirrors: Sequence[str]) -> Path | None:
    """The file in the first mirror that has it, or None."""
    for mirror in mirror_folders(mirrors):
        if (candidate := mirror / dataset / path).is_file():
            return candidate
    return None


def release_folders(release: str, mirrors: Sequence[str]) -> list[Path]:
    """The folders of a licensed corpus in the mirrors: those that hold annotated documents."""
    folders = (mirror / release for mirror in mirror_folders(mirrors))
    return [folder for folder in folders if next(annotations(folder), None)]


def annotations(folder: Path) -> Iterator[Path]:
    """Every `*.apf.xml` below a folder; links are followed, no folder is read twice."""
    seen = {os.path.realpath(folder)}  # pathlib's `resolve` raises for a loop of links
    for place, below, files in os.walk(folder, followlinks=True):
        real = {name: os.path.realpath(Path(place) / name) for name in sorted(below)}
        below[:] = [name for name in real if real[name] not in seen]
        seen.update(real.values())
        yield from (Path(place) / name for name in sorted(files) if name.endswith(".apf.xml"))


def source_of(annotation: Path) -> Path:
    """The source text that belongs beside an annotation."""
    return annotation.with_name(annotation.name.removesuffix(".apf.xml") + ".sgm")


def obtain_file(dataset: str, declared: DataFile, mirrors: Sequence[str], others: Sequence[DataFile] = ()) -> Path:
    """A dataset's file, found or fetched, and checked.

    Args:
        others: files of the dataset that are fetched along when the same archive holds them.

    Raises:
        UserError: absent and not to be fetched (naming both ways to get it), or not the declared bytes.
    """
    found = find_file(dataset, declared.path, mirrors)
    if found is None:
        same_archive = [o for o in others if o.member and o.url == declared.url and o != declared]
        absent = [o for o in same_archive if find_file(dataset, o.path, mirrors) is None]
        _download(dataset, [declared, *absent], mirrors)
        found = DOWNLOADS / dataset / declared.path
    if declared.sha256 and (actual := file_sha256(found)) != declared.sha256:
        raise UserError(f"{found}: SHA-256 is {actual}, {dataset} declares {declared.sha256}; replace the file")
    return found


def _download(dataset: str, files: Sequence[DataFile], mirrors: Sequence[str]) -> None:
    """Fetch a file, or several of one archive, each into its place once it is the declared one."""
    path, url = files[0].path, files[0].url
    folders = ", ".join(f"{folder / dataset}/" for folder in mirror_folders(mirrors))
    by_hand = f"put {path} into one of {folders} (or name a folder in {MIRRORS_VARIABLE})"
    if not url:
        raise UserError(f"{dataset}: {path} is not available by itself from a public URL; {by_hand}")
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    reason: Any = None
    for attempt in range(RETRIES):
        if attempt:
            time.sleep(2**attempt)
        try:
            with tempfile.TemporaryDirectory(prefix=".part-", dir=DOWNLOADS) as folder:
                partial = [Path(folder) / str(n) for n in range(len(files))]
                _fetch(url, {file.member: target for file, target in zip(files, partial, strict=True)})
                reason = next(filter(None, map(_unlike, partial, files)), None)
                if reason is not None:  # whole, and not what is declared: it would be so again
                    break
                for file, arrived in zip(files, partial, strict=True):
                    target = DOWNLOADS / dataset / file.path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    arrived.replace(target)
            return
        except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
            reason = error
            answer = getattr(error, "response", None)
            if answer is not None and answer.status_code < 500:
                break
    raise UserError(f"{dataset}: cannot fetch {url} ({reason}); go online, or {by_hand}")


def _unlike(arrived: Path, declared: DataFile) -> str | None:
    """How a fetched file differs from its declaration."""
    if not arrived.exists():
        return f"the archive has no {declared.member}"
    if declared.sha256 and (actual := file_sha256(arrived)) != declared.sha256:
        return f"{declared.path}: SHA-256 is {actual}, declared {declared.sha256}"
    return None


def _fetch(url: str, targets: dict[str | None, Path]) -> None:
    """Download `url` into the target of None, or those members of the archive that it is into theirs.

    An `OSError` is raised when fewer bytes came than were announced."""
    import pooch  # slow to import, seldom needed

    whole = next(iter(targets.values())).with_name("whole")
    # a bar only for what takes more than some seconds; pooch replaces its total
    with tqdm(total=1, unit="B", unit_scale=True, desc=url.rsplit("/", 1)[-1], delay=3) as bar:
        pooch.HTTPDownloader(progressbar=bar, timeout=30)(url, str(whole), None)
    if None in targets:
        whole.replace(targets[None])
        return
    # pooch's own unpacking follows a member's path wherever it leads
    with tarfile.open(whole) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isfile() else None
            if content is not None and (target := targets.get(member.name.removeprefix("./"))):
                with open(target, "wb") as file:
                    shutil.copyfileobj(content, file)
