"""Write envs/requirements.lock and environment.yaml: the exact versions here of envs/requirements.in and all it needs.

torch's own CUDA packages are left out: the release pins them itself, and a CPU build has none.
"""

import importlib.metadata
import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FOLDER = Path(__file__).resolve().parent
CONDA = """\
# conda env create --file envs/environment.yaml: the interpreter from conda, every package from the same pins.
name: sinet
channels: [conda-forge, nodefaults]
dependencies:
  - python=3.11
  - git
  - make
  - pip
  - pip:
"""
CUDA = re.compile(r"^(nvidia-|cuda-|triton$)")


def closure(wanted: list[Requirement]) -> dict[str, str]:
    """Canonical name -> installed version, of the requirements and everything they need here."""
    found: dict[str, str] = {}
    waiting, seen = list(wanted), set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        asked = name, frozenset(requirement.extras)  # an extra may be asked for after the package itself
        if asked in seen or CUDA.match(name):
            continue
        seen.add(asked)
        distribution = importlib.metadata.distribution(name)
        found[name] = distribution.version.split("+")[0]
        for needed in map(Requirement, distribution.requires or []):
            extras = [{"extra": extra} for extra in requirement.extras] or [{"extra": ""}]
            if needed.marker is None or any(needed.marker.evaluate(extra) for extra in extras):
                waiting.append(needed)
    return found


def main() -> None:
    lines = (FOLDER / "requirements.in").read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(line.split("#")[0]) for line in lines if line.split("#")[0].strip()]
    pins = closure(wanted)
    for requirement in wanted:
        if not requirement.specifier.contains(pins[canonicalize_name(requirement.name)]):
            raise SystemExit(f"{requirement} is asked for, {pins[canonicalize_name(requirement.name)]} is installed")
    header = "# Made by envs/lock.py (make lock) from envs/requirements.in; Python 3.11.\n"
    body = "".join(f"{name}=={version}\n" for name, version in sorted(pins.items()))
    (FOLDER / "requirements.lock").write_text(header + body, encoding="utf-8")
    listed = "".join(f"      - {line}\n" for line in body.splitlines())
    (FOLDER / "environment.yaml").write_text(f"{header}{CONDA}{listed}", encoding="utf-8")


if __name__ == "__main__":
    main()
