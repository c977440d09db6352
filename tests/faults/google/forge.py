"""Forks a process for each case, and strikes the n-th change that leaves it for the cloud.

Changes are counted where they leave: each request of the SDK and of the store that changes
something. It reads one JSON object a line, ``{"cases": […]}`` or ``{"wake": PID}``, and answers
with a list: the exit status of each case, or ``{"stopped": PID}`` where one halted itself.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import grpc
import obstore
import requests

from cloudreg import Workspace, plugins
from cloudreg.errors import CloudregError
from cloudreg.manifest import Lineage
from cloudreg.operations import wait
from cloudreg.testing.faults import Fault, Faults
from cloudreg_vertex import PLUGIN, provider

LOOKS = re.compile(r"entries:list$|[pP]redict$|timeSeries")
"""Paths that are asked with POST and change nothing."""

RPC_LOOKS = ("Get", "List", "Predict", "RawPredict", "StreamRawPredict")
"""How the names of RPCs begin that change nothing."""

Verb = Callable[[Workspace, str], object]


def race(ws: Workspace, model: str) -> None:
    """Register a version of this process alone, and take it to the last stage."""
    folder = ws.root / f"of {os.getpid()}"
    folder.mkdir()
    (folder / "weights.txt").write_text(f"weights of {os.getpid()}")
    version = ws.register(model, folder, lineage=Lineage())
    ws.promote(version, to="prod")


def create(ws: Workspace, model: str) -> None:
    """Make the endpoint, without anything that takes over what a dead process left."""
    version = ws.version(f"{model}:1")
    spec = ws.settings.endpoints[model].spec(model, version, gpu="L4:1")
    endpoints = ws.targets["gcp"].endpoints
    wait(endpoints.create(spec, artifacts={version.digest: version}), timeout_s=60.0)


VERBS: dict[str, Verb] = {
    "register": lambda ws, model: ws.register(model, ws.root / "2", lineage=Lineage()),
    "promote": lambda ws, model: ws.promote(f"{model}:2", to="prod"),
    "apply": lambda ws, _: ws.apply(),
    "rollback": lambda ws, model: ws.rollback(model, stage="prod", to=f"{model}:1"),
    "repair": lambda ws, model: ws.repair(model),
    "down": lambda ws, _: ws.down(),
    "race": race,
    "create": create,
    "batch": lambda ws, model: ws.batch(
        f"{model}:1", ws.root / "data.jsonl", output=ws.root / "out"
    ),
}

assert provider, "imported before the first fork"


def warm() -> None:
    """Import what every case needs, so that it is not imported anew in each."""
    import google.cloud.aiplatform_v1
    import google.cloud.aiplatform_v1beta1
    import google_crc32c

    import cloudreg_vertex.machines

    assert google.cloud.aiplatform_v1
    assert google.cloud.aiplatform_v1beta1
    assert google_crc32c
    assert cloudreg_vertex.machines


def strike(faults: Faults) -> None:
    """Let *faults* see every change that is about to be sent."""
    send = requests.Session.request

    def request(self: Any, method: str, url: str, *arguments: Any, **options: Any) -> Any:
        path = unquote(urlsplit(url).path)
        if method in ("GET", "HEAD") or LOOKS.search(path):
            return send(self, method, url, *arguments, **options)
        return faults.around(
            "gcp",
            "http",
            f"{method} {path}",
            lambda: send(self, method, url, *arguments, **options),
        )

    requests.Session.request = request  # type: ignore[method-assign]
    delete = obstore.delete

    def gone(store: Any, paths: Any) -> Any:
        return faults.around("gcp", "obstore", f"DELETE {paths}", lambda: delete(store, paths))

    obstore.delete = gone  # type: ignore[assignment]
    strike_rpcs(faults)


def strike_rpcs(faults: Faults) -> None:
    """Let *faults* see every RPC that changes something."""
    plain = grpc.insecure_channel

    class Struck(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]  # grpc has no types
        def intercept_unary_unary(self, proceed: Any, details: Any, request: Any) -> Any:
            service, _, rpc = str(details.method).rpartition("/")
            if rpc.startswith(RPC_LOOKS):
                return proceed(details, request)
            about = dict(details.metadata or ()).get("x-goog-request-params", "")
            return faults.around(
                "gcp",
                "grpc",
                f"{service.rpartition('.')[2]}.{rpc} {unquote(about)}",
                lambda: proceed(details, request),
            )

    grpc.insecure_channel = lambda *arguments, **options: grpc.intercept_channel(
        plain(*arguments, **options), Struck()
    )


def act(case: dict[str, Any]) -> int:
    """Do one verb with its faults, and return an exit code."""
    faults = Faults([Fault.from_json(f) for f in case["faults"]], record=Path(case["record"]))
    plugins.register(PLUGIN)
    strike(faults)
    patience = {"wait_s": 120.0, "timeout_s": 60.0, "lease_s": 60.0, **case.get("patience", {})}
    try:
        with Workspace.load(case["root"], actor=case.get("actor", "ada"), **patience) as ws:
            VERBS[case["verb"]](ws, case["model"])
    except CloudregError as error:
        print(type(error).__name__, error, *getattr(error, "__notes__", ()), sep="\n", flush=True)
        return 1
    return 0


def born(case: dict[str, Any]) -> int:
    """Begin a case in a process of its own, and return its id."""
    child = os.fork()
    if child:
        return child
    try:
        # A halted process among those of a terminal that is closed would take the others with it.
        os.setsid()
        log = os.open(case["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = act(case)
    except BaseException:
        traceback.print_exc()
        code = 70
    sys.stderr.flush()
    os._exit(code)


def ended(pid: int, halted: set[int]) -> int | dict[str, int]:
    """Return how a process ended, or that it halted."""
    _, status = os.waitpid(pid, os.WUNTRACED)
    halted.discard(pid)
    if not os.WIFSTOPPED(status):
        return os.waitstatus_to_exitcode(status)
    halted.add(pid)
    return {"stopped": pid}


def main() -> None:
    """Answer until there are no more questions."""
    warm()
    halted: set[int] = set()
    for line in sys.stdin:
        question = json.loads(line)
        if "wake" in question:
            os.kill(question["wake"], signal.SIGCONT)
            answer = [ended(question["wake"], halted)]
        else:
            answer = [ended(pid, halted) for pid in [born(case) for case in question["cases"]]]
        print(json.dumps(answer), flush=True)
    for pid in halted:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
