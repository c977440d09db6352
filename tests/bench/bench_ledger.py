"""Ten thousand versions: what the registry's verbs cost, and how that grows with the history."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from race import PEERS, command, peer, table

from cloudreg import Workspace
from cloudreg.ledger import Draft, Fold, Lease, Ledger
from cloudreg.manifest import Lineage
from cloudreg.names import sha256
from cloudreg_local.store import LocalStore

MOST = int(os.environ.get("BENCH_VERSIONS", "100_000"))
"""Versions in the longest ledger."""

PROMOTERS = int(os.environ.get("BENCH_PROMOTERS", "32"))
_CONFIG = """
home = "here"

[targets.here]
provider = "local"
path = "place"

[stages.dev]
[stages.prod]
gates = []
"""
_PROMOTER = """
import sys
from cloudreg import Workspace
from cloudreg.errors import CloudregError

with Workspace.load(sys.argv[1], actor="ada", wait_s=float(sys.argv[2])) as ws:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in sys.argv[3].split(","):
        try:
            ws.promote(f"churn:{number}", to="prod")
        except CloudregError as error:
            print(type(error).__name__, flush=True)
        else:
            print("done", flush=True)
"""

MLFLOW = """
import sys, time
from mlflow import MlflowClient
client = MlflowClient(tracking_uri=sys.argv[1], registry_uri=sys.argv[1])
client.create_registered_model("churn")
began = time.perf_counter()
for number in range(int(sys.argv[2])):
    client.create_model_version("churn", source=f"/tmp/{number}", run_id=None)
print("register", (time.perf_counter() - began) / int(sys.argv[2]))
began = time.perf_counter()
token, found = None, []
while True:
    page = client.search_model_versions("name='churn'", max_results=10000, page_token=token)
    found += page
    token = page.token
    if not token:
        break
print("list", time.perf_counter() - began, len(found))
began = time.perf_counter()
for number in range(1, 21):
    client.get_model_version("churn", str(number))
print("show", (time.perf_counter() - began) / 20)
began = time.perf_counter()
for number in range(1, 21):
    client.set_registered_model_alias("churn", "prod", str(number))
print("promote", (time.perf_counter() - began) / 20)
"""


def run() -> None:
    """Grow one ledger, measuring on the way; then MLflow's SQLite store, if it is there."""
    sizes = [size for size in (100, 1_000, 10_000) if size < MOST] + [MOST]
    with tempfile.TemporaryDirectory() as name:
        store = LocalStore(Path(name), target="local")
        count = 0
        costs: dict[int, dict[str, float]] = {}
        print("\nthe registry's verbs by the number of versions (seconds each, new process state)")
        print(f"  {'versions':>9}  {'register':>9}  {'list':>9}  {'show':>9}  {'promote':>9}")
        for size in sizes:
            while count < size:
                ledger = _open(store)
                for _ in range(min(1000, size - count)):
                    count += 1
                    _register(ledger, count)
            cost = costs[size] = _measure(store, size)
            row = "  ".join(f"{cost[verb]:9.4f}" for verb in cost)
            # As they come: a hundred thousand entries with their fsync take minutes.
            print(f"  {size:>9}  {row}", flush=True)
        _folded(store)
    growth = costs[sizes[-1]]["promote"] / costs[sizes[0]]["promote"]
    print(f"  a promote with {sizes[-1]} versions costs {growth:.2f} x one with {sizes[0]}")
    _promoters()
    python = peer("python")
    if PEERS and python and peer("mlflow") and 10_000 in costs:
        _beside_mlflow(python, costs[10_000])


def _folded(store: LocalStore) -> None:
    """Fold the whole ledger, from its last checkpoint and from its first entry."""

    def whole() -> Fold:
        fold, ledger = Fold("churn"), _open(store)
        for entry in ledger.entries():
            fold.apply(entry)
        return fold

    timed: dict[str, float] = {}
    folds: list[Fold] = []
    for title, make in (
        ("from the last checkpoint", lambda: _open(store).read()),
        ("from the first entry", whole),
    ):
        began = time.perf_counter()
        folds.append(make())
        timed[title] = time.perf_counter() - began
    assert folds[0].head == folds[1].head
    table(f"the fold of {folds[0].seq + 1} entries", timed, base="from the last checkpoint")


def _promoters() -> None:
    """Promote as often with one process as with many at once, patient and impatient."""
    print(f"\n{PROMOTERS} promotions of one model to one stage, local, from ready to the last end")
    numbers = [str(number) for number in range(1, PROMOTERS + 1)]
    one = [",".join(numbers)]
    for title, wait_s, shares in (
        ("1 process, one after the other", 600, one),
        (f"{PROMOTERS} processes at once, who wait", 600, numbers),
        (f"{PROMOTERS} processes at once, who do not", 0, numbers),
    ):
        with tempfile.TemporaryDirectory() as name:
            took, ends = _promoted(Path(name), wait_s, shares)
        told = ", ".join(f"{count} {end}" for end, count in ends.most_common())
        print(f"  {title:<36} {took:7.2f} s  {told}", flush=True)


def _promoted(root: Path, wait_s: int, shares: list[str]) -> tuple[float, Counter[str]]:
    (root / "cloudreg.toml").write_text(_CONFIG)
    with Workspace.load(root, actor="ada") as ws:
        for number in range(1, PROMOTERS + 1):
            build = root / f"build{number}"
            build.mkdir()
            (build / "weights.txt").write_text(f"weights {number}")
            ws.register("churn", build, lineage=Lineage())
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _PROMOTER, str(root), str(wait_s), share],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for share in shares
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    began = time.perf_counter()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    ends = Counter[str]()
    for process in processes:
        ends.update(process.communicate()[0].split())
    took = time.perf_counter() - began
    assert ends.total() == PROMOTERS
    with Workspace.load(root, actor="ada") as ws:
        fold = ws.fold("churn")
        assert fold.open is None
        assert "prod" in fold.stages
    return took, ends


def _beside_mlflow(python: str, own: dict[str, float]) -> None:
    with tempfile.TemporaryDirectory() as name:
        script = Path(name) / "mlflow_bench.py"
        script.write_text(MLFLOW)
        out = Path(name) / "out"
        line = f"'{python}' '{script}' sqlite:///{name}/mlflow.db 10000 > '{out}'"
        command("sh", "-c", line)
        theirs = {line.split()[0]: float(line.split()[1]) for line in out.read_text().splitlines()}
    for verb, seconds in own.items():
        table(f"{verb}, 10,000 versions", {"cloudreg": seconds, "mlflow": theirs[verb]},
              base="cloudreg")  # fmt: skip


def _measure(store: LocalStore, size: int) -> dict[str, float]:
    def timed(act: Callable[[], object], rounds: int = 5) -> float:
        found = []
        for _ in range(rounds):
            began = time.perf_counter()
            act()
            found.append(time.perf_counter() - began)
        return sorted(found)[rounds // 2]

    extra = iter(range(10_000_000, 10_000_100))
    return {
        "register": timed(lambda: _register(_open(store), next(extra), real=False)),
        "list": timed(lambda: list(_open(store).read().newest_first())),
        "show": timed(lambda: _open(store).read().version(size // 2)),
        "promote": timed(lambda: _promote(_open(store), size // 2)),
    }


def _open(store: LocalStore) -> Ledger:
    return Ledger(store, "churn", actor="bench", tool="bench")


def _register(ledger: Ledger, salt: int, *, real: bool = True) -> None:
    def draft(fold: Fold) -> Draft:
        number = fold.last_number + 1
        digest = sha256(f"{salt} {real}".encode())
        data = {"number": number, "digest": digest, "size": 1, "files": 1,
                "metrics": {"auc": 0.9}, "stages": {"dev": number}}  # fmt: skip
        return Draft(kind="register", root=digest, data=data)

    ledger.append(draft, op="bench")


def _promote(ledger: Ledger, number: int) -> None:
    lease = Lease.claim(ledger, verb="promote", data={})
    lease.check()
    lease.done({"stages": {"prod": number}})


if __name__ == "__main__":
    run()
