"""What an installation weighs: the core and each extra, each in an environment of its own.

All wheels are fetched beforehand, so that the time is that of installing and not of a network.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

from race import command

ROOT = Path(__file__).parents[2]
CORE_MB = 45
CORE_DISTRIBUTIONS = 25
TOOLS = {"pip", "setuptools"}
"""What an empty environment has already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """What one installation added to an empty environment.

    Attributes:
        size_mb: Bytes on the disk, byte code included, in millions.
        distributions: How many, cloudreg among them.
        install_s: Seconds that pip took.
        largest: The heaviest, with their sizes in MB.
    """

    size_mb: float
    distributions: int
    install_s: float
    largest: tuple[tuple[str, float], ...]


APART = "sagemaker-sdk"
"""Wants protobuf below 7, which the pinned versions are not: ``make sdk`` installs it, 1 GB."""


def run() -> None:
    """Weigh the core and every extra but the developers' own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [name for name in project["optional-dependencies"] if name not in ("dev", APART)]
    with tempfile.TemporaryDirectory() as name:
        wheels = Path(name, "wheels")
        pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
        constraints = ("-c", str(ROOT / "constraints.txt"))
        command(*pip, "wheel", "--no-deps", "-w", str(wheels), str(ROOT))
        (own,) = wheels.glob("cloudreg-*.whl")
        print("\ninstalled size, distributions and time, from wheels on this disk")
        print(f"  {'':<10} {'MB':>7} {'dists':>5} {'time s':>7}  the heaviest, in MB")
        for extra in ("", *extras):
            wanted = f"{own}[{extra}]" if extra else str(own)
            command(*pip, "download", *constraints, "-d", str(wheels), wanted)
            found = _weigh(Path(name, f"with-{extra}"), wheels, wanted)
            heavy = ", ".join(f"{dist} {size:.1f}" for dist, size in found.largest)
            print(f"  {extra or 'core':<10} {found.size_mb:7.1f} {found.distributions:5d}"
                  f" {found.install_s:7.1f}  {heavy}", flush=True)  # fmt: skip
            if not extra:
                core = found
    print(f"  the core: {core.size_mb:.1f} MB, wanted under {CORE_MB}; "
          f"{core.distributions} distributions, wanted under {CORE_DISTRIBUTIONS}")  # fmt: skip


def _weigh(folder: Path, wheels: Path, wanted: str) -> Weight:
    command(sys.executable, "-m", "venv", str(folder))
    python = str(folder / "bin" / "python")
    before = _bytes(folder)
    began = time.perf_counter()
    command(
        *(python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"),
        *("--no-index", "--find-links", str(wheels), "-c", str(ROOT / "constraints.txt"), wanted),
    )
    install_s = time.perf_counter() - began
    script = (
        "from importlib.metadata import distributions\n"
        "for d in distributions():\n"
        "    sizes = [f.locate() for f in d.files or ()]\n"
        "    print(d.name, sum(p.stat().st_size for p in sizes if p.is_file()))\n"
    )
    said = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True)
    sizes = dict(line.split() for line in said.stdout.splitlines())
    ours = {name: int(size) / 1e6 for name, size in sizes.items() if name not in TOOLS}
    largest = sorted(ours.items(), key=lambda item: -item[1])[:4]
    return Weight(
        size_mb=(_bytes(folder) - before) / 1e6,
        distributions=len(ours),
        install_s=install_s,
        largest=tuple(largest),
    )


def _bytes(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        total += sum(os.lstat(Path(parent, name)).st_size for name in names)
    return total


if __name__ == "__main__":
    run()
