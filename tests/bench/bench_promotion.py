"""Promoting across two emulated clouds: where the time goes, and what is sent to whom."""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import bench_calls

SIZE = int(os.environ.get("BENCH_BYTES", "100_000_000"))
MOST = 20
"""Requests to both clouds together, where nothing is copied."""

_STAGES = """
[stages.dev]
[stages.staging]
gates = []
[stages.prod]
targets = ["aws", "gcp"]
gates = []
"""
_ENDPOINT = """
[endpoints.churn]
model = "churn"
stage = "prod"
target = "gcp"
"""
PHASES = {"copying": "copy", "checking": "hash again", "gates": "gates", "churn": "deploy"}
"""A word of a step's title, to the phase; the first that fits."""


class Phases:
    """Progress that measures: what no step is under way for is planning, registries and ledger."""

    def __init__(self, sent: Callable[[], int]) -> None:
        self.seconds: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self._sent = sent
        self._inside = False

    @contextmanager
    def task(self, title: str, *, total: float | None = None, unit: str = "") -> Iterator[Any]:
        if self._inside:
            yield self  # a step of a step, which counts already
            return
        phase = next((name for word, name in PHASES.items() if word in title), title)
        began, sent = time.perf_counter(), self._sent()
        self._inside = True
        try:
            yield self
        finally:
            self._inside = False
            self.seconds[phase] += time.perf_counter() - began  # type: ignore[assignment]
            self.requests[phase] += self._sent() - sent

    def advance(self, amount: float) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def say(self, text: str) -> None:
        pass


def run() -> None:
    """Promote what is new, then what is there, without and with an endpoint."""
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        aws = stack.enter_context(bench_calls.aws())
        gcp = stack.enter_context(bench_calls.google())
        clouds = (aws, gcp)
        targets = [
            cloud.config.replace('home = "cloud"', "").replace("targets.cloud", f"targets.{name}")
            for cloud, name in zip(clouds, ("aws", "gcp"), strict=True)
        ]
        text = 'home = "aws"\n' + "".join(targets) + _STAGES
        (root / "cloudreg.toml").write_text(text)
        for number in (1, 2):
            build = root / f"build{number}"
            build.mkdir()
            (build / "weights.bin").write_bytes(os.urandom(SIZE))
            _register(root, number, clouds)
        print(f"\na promotion from SageMaker to Vertex AI, {SIZE / 1e6:g} MB, both emulated")
        _row("the digest is new there", _measured(root, clouds, _promotion(1)))
        _measured(root, clouds, _promotion(2))
        sent = _row("the digest is there", _measured(root, clouds, _promotion(1)))
        print(f"  wanted where nothing is copied: under {MOST} requests; {sent} were sent")
        (root / "cloudreg.toml").write_text(text + _ENDPOINT)
        _row("the digest is there, a new endpoint", _measured(root, clouds, _apply))
        _row("the digest is there, an endpoint follows", _measured(root, clouds, _promotion(2)))
        _measured(root, clouds, lambda ws: ws.down())


def _apply(ws: Any) -> object:
    return ws.apply()


def _promotion(number: int) -> Callable[[Any], object]:
    return lambda ws: ws.promote(f"churn:{number}", to="prod")


def _register(root: Path, number: int, clouds: tuple[Any, ...]) -> None:
    from cloudreg.manifest import Lineage

    def work(ws: Any) -> None:
        ws.register("churn", root / f"build{number}", lineage=Lineage())
        ws.promote(f"churn:{number}", to="staging")

    _measured(root, clouds, work)


def _measured(
    root: Path, clouds: tuple[Any, ...], verb: Callable[[Any], object]
) -> tuple[float, Phases, list[Counter[str]]]:
    """Do *verb* as the only one of its process: nothing is known before it."""
    from cloudreg import Workspace

    for cloud in clouds:
        cloud.sent.clear()
    phases = Phases(lambda: sum(cloud.sent.total() for cloud in clouds))
    with Workspace.load(root, actor="ada", timeout_s=600.0, progress=phases) as ws:
        began = time.perf_counter()
        verb(ws)
        took = time.perf_counter() - began
    return took, phases, [Counter(cloud.sent) for cloud in clouds]


def _row(title: str, found: tuple[float, Phases, list[Counter[str]]]) -> int:
    took, phases, sent = found
    total = sum(each.total() for each in sent)
    print(f"  {title:<42} {took:7.2f} s  {total:4d} requests")
    named = sum(phases.seconds.values())
    requests = sum(phases.requests.values())
    rows = [(n, s, phases.requests[n]) for n, s in phases.seconds.items()]
    rows.append(("plan, registries, ledger", took - named, total - requests))
    for name, seconds, count in rows:
        print(f"    {name:<40} {seconds:7.2f} s  {count:4d}")
    for cloud, each in zip(("SageMaker", "Vertex AI"), sent, strict=True):
        names = ", ".join(f"{name} {count}" for name, count in each.most_common())
        print(f"    {cloud}: {names}")
    return total


if __name__ == "__main__":
    run()
