"""Mirror folders: where files of datasets (`DATASET/file`) and encoders (`encoders/NAME/`) are looked for first."""

import os
from collections.abc import Sequence
from pathlib import Path

MIRRORS_VARIABLE = "SINET_MIRRORS"
HUB_OFFLINE = "HF_HUB_OFFLINE"
"""Environment variable: 1 keeps the hub's client from the network."""
DOWNLOADS = Path("data/mirror")
"""What is downloaded lands here and is a mirror from then on."""


def mirror_folders(mirrors: Sequence[str] = ()) -> list[Path]:
    """The folders to look into: those of the environment variable `SINET_MIRRORS` (`:`-separated), then `mirrors`."""
    extra = [folder for folder in os.environ.get(MIRRORS_VARIABLE, "").split(os.pathsep) if folder]
    return [Path(folder) for folder in dict.fromkeys((*extra, *mirrors))]
