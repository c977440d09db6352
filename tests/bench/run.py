"""Run the benchmarks, or those that are named: ``python tests/bench/run.py startup register``."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import race  # found through the path above

ALL = (
    "startup",
    "vertex_startup",
    "register",
    "upload",
    "gcs_upload",
    "replicate",
    "promotion",
    "calls",
    "status",
    "emulator",
    "vertex_emulator",
    "ledger",
    "server",
    "weight",
)


def main(names: list[str]) -> int:
    """Run them one after another; the machine shall do nothing else meanwhile."""
    unknown = sorted(set(names) - set(ALL))
    if unknown:
        print(f"no benchmark {unknown[0]!r}; there are {', '.join(ALL)}", file=sys.stderr)
        return 64
    if race.PEERS is None:
        print("peers are not measured: make bench-peers installs them")
    for name in names or ALL:
        import_module(f"bench_{name}").run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
