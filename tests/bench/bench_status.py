"""Status and drift of many models on two clouds: all at once, beside one model after the other."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from bench_calls import Cloud, aws, google

MODELS = int(os.environ.get("BENCH_MODELS", "100"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
STAGES = """
[stages.dev]
targets = ["aws", "gcp"]
[stages.staging]
targets = ["aws", "gcp"]
gates = []
[stages.prod]
targets = ["aws", "gcp"]
gates = []
"""


def run() -> None:
    """Print requests and seconds."""
    with ExitStack() as stack:
        clouds = {"aws": stack.enter_context(aws()), "gcp": stack.enter_context(google())}
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sections = [
            cloud.config.split("\n", 2)[2].replace("[targets.cloud]", f"[targets.{name}]")
            for name, cloud in clouds.items()
        ]
        (root / "cloudreg.toml").write_text("\n".join(['home = "aws"', *sections, STAGES]))
        fill(root)
        print(f"\n{MODELS} models in 3 stages on 2 clouds: medians of {ROUNDS}")
        print(f"  {'':28}{'requests':>10}{'a model':>10}{'seconds':>10}{'ratio':>8}")
        for verb in ("status", "drift"):
            measure(verb, root, clouds)


def fill(root: Path) -> None:
    """Register the models, and bring each to every stage."""
    from cloudreg import Workspace
    from cloudreg.manifest import Lineage

    def make(number: int) -> None:
        folder = root / f"build-{number}"
        folder.mkdir()
        (folder / "weights.txt").write_text(f"weights of {number}")
        with Workspace.load(root) as ws:
            version = ws.register(f"model-{number}", folder, lineage=Lineage())
            for stage in ("staging", "prod"):
                ws.promote(version, to=stage)

    make(0)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(make, range(1, MODELS)))


def measure(verb: str, root: Path, clouds: dict[str, Cloud]) -> None:
    """Print one verb, all at once and one by one."""
    from cloudreg import Workspace

    def together() -> None:
        with Workspace.load(root) as ws:
            rows = ws.status() if verb == "status" else ws.drifts()
            assert len(rows) == (3 * MODELS if verb == "status" else MODELS)

    def one_by_one() -> None:
        with Workspace.load(root) as ws:
            for number in range(MODELS):
                look: Callable[[str], object] = ws.status if verb == "status" else ws.drift
                look(f"model-{number}")

    found: dict[str, list[tuple[float, int]]] = {"all at once": [], "one by one": []}
    for _ in range(ROUNDS):
        for name, act in (("all at once", together), ("one by one", one_by_one)):
            for cloud in clouds.values():
                cloud.sent.clear()
            began = time.perf_counter()
            act()
            took = time.perf_counter() - began
            found[name].append((took, sum(c.sent.total() for c in clouds.values())))
    medians = {name: sorted(each)[len(each) // 2] for name, each in found.items()}
    for name, (seconds, requests) in medians.items():
        ratio = seconds / medians["all at once"][0]
        title = f"{verb}, {name}"
        print(f"  {title:28}{requests:>10}{requests / MODELS:>10.1f}{seconds:>10.2f}{ratio:>8.2f}")


if __name__ == "__main__":
    run()
