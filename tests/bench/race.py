"""Contestants side by side: alternating rounds, medians, ratios; a noisy machine hits all alike."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_NAMED = os.environ.get("BENCH_PEERS")
# Absolute: the contestants are run in folders of their own.
PEERS = str(Path(_NAMED).absolute()) if _NAMED else None
"""A virtual environment with the peers of ``peers.txt``; without it their rows are missing."""


def peer(program: str) -> str | None:
    """Return the path of a peer's program, if it is installed."""
    path = Path(PEERS, "bin", program) if PEERS else None
    return str(path) if path is not None and path.exists() else None


def race(
    contestants: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 5,
    before: Callable[[], None] = lambda: None,
    cpu: dict[str, float] | None = None,
) -> dict[str, float]:
    """Return each contestant's median seconds.

    Args:
        contestants: By name; the first one warms up first.
        rounds: Each lets everybody run once.
        before: Called before each run, outside the clock.
        cpu: Gets the median CPU seconds of the processes that each contestant ran; they say
            more than the clock where the machine has other things to do.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    work: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            before()
            spent, began = _children_s(), time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
            work[name].append(_children_s() - spent)
    if cpu is not None:
        cpu.update({name: statistics.median(found) for name, found in work.items()})
    return {name: statistics.median(found) for name, found in times.items()}


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(
    title: str,
    seconds: Mapping[str, float],
    *,
    base: str,
    notes: str = "",
    cpu: Mapping[str, float] | None = None,
) -> None:
    """Print seconds and ratios to *base*, and CPU seconds where they were measured."""
    print(f"\n{title}")
    width = max(len(name) for name in seconds)
    for name, value in seconds.items():
        ratio = value / seconds[base]
        work = f"  {cpu[name]:8.2f} CPU s" if cpu else ""
        print(f"  {name:<{width}}  {value:9.4f} s  {ratio:8.2f} x{work}")
    if notes:
        print(f"  {notes}")


def command(*argv: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
    """Run a program to its good end, quietly."""
    done = subprocess.run(
        argv,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        check=False,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}: exit code {done.returncode}\n{done.stderr[-2000:]}")


def peak_mib(argv: Sequence[str], *, cwd: Path) -> float:
    """Return the peak memory of a program in MiB."""
    script = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], capture_output=True)\n"
        "assert done.returncode == 0, done.stderr[-2000:]\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    said = subprocess.run(
        [sys.executable, "-c", script, *argv], cwd=cwd, capture_output=True, text=True, check=True
    )
    return int(said.stdout) / 1024
