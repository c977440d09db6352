"""Ten thousand versions: what the registry's verbs cost, and how that grows with the history."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from race import PEERS, command, peer, table

from cloudreg.ledger import Draft, Fold, Lease, Ledger
from cloudreg.names import sha256
from cloudreg_local.store import LocalStore

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
    sizes = (100, 1_000, 10_000, 100_000)
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
    growth = costs[sizes[-1]]["promote"] / costs[sizes[0]]["promote"]
    print(f"  a promote with {sizes[-1]} versions costs {growth:.2f} x one with {sizes[0]}")
    python = peer("python")
    if PEERS and python and peer("mlflow"):
        _beside_mlflow(python, costs[10_000])


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
