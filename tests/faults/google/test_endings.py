"""How it ends when a deployment fails, or when its process is killed and another one goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cloudreg.errors import OperationFailed
from cloudreg.operations import wait
from cloudreg.testing.faults import Action, Fault, When

KILLED = -9


def test_last_words(project: Callable[[], Any]) -> None:
    """A deployment whose model server ends tells its last lines, and leaves all as it was."""
    here = project()
    here.register(1)
    here.configure(endpoint=True)
    here.promote(1)
    (here.build(2) / "weights.txt").write_text("crash: not what a model is")
    with here.open() as ws:
        ws.register(here.model, here.root / "2")
        with pytest.raises(OperationFailed, match="exited unexpectedly") as caught:
            ws.promote(f"{here.model}:2", to="prod")
        assert "the weights make no sense" in "\n".join(caught.value.logs)
        here.check(ws, prod=1, dev=2, serves=1)


def test_deployment_goes_on(project: Callable[[], Any]) -> None:
    """A deployment whose process was killed is waited for, and not begun a second time."""
    here = project()
    here.register(1)
    here.promote(1)
    here.configure(endpoint=True)
    path = f"/v1/projects/emulated-project/locations/us-central1/endpoints/{here.model}:deployModel"
    fault = Fault(subject=f"POST {path}", when=When.AFTER, action=Action.KILL)
    assert here.crash("create", fault) == KILLED, here.log.read_text()
    with here.open() as ws:
        version = ws.version(f"{here.model}:1")
        spec = ws.settings.endpoints[here.model].spec(here.model, version, gpu="L4:1")
        endpoints = ws.targets["gcp"].endpoints
        wait(endpoints.create(spec, artifacts={version.digest: version}), timeout_s=60.0)
        assert here.cloud.begun(here.model, "DeployModel") == 1
        # The ledger knows nothing of an endpoint that was made without it.
        wait(endpoints.delete(here.model), timeout_s=60.0)
        ws.apply()
        here.check(ws, prod=1, dev=1, serves=1)
