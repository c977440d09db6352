"""What somebody changed behind cloudreg's back: drift, repair, adopt."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from cloudreg import Workspace

HALF_DONE = """
import os
from cloudreg import Workspace
from cloudreg.ledger import Lease

ledger = Workspace.load().registry.ledger("churn")
Lease.claim(ledger, verb="promote", data={"number": 2, "stage": "staging"})
os._exit(9)
"""


def stages(cloudreg: Any) -> dict[str, int]:
    found: dict[str, int] = cloudreg("list", "churn", "--json").json["stages"]
    return found


def test_no_drift(churn: Any, cloudreg: Any) -> None:
    """Nothing to find ends with 0, nothing to repair and nothing to adopt too."""
    assert cloudreg("drift").out == "no drift: 1 model compared with all targets\n"
    assert cloudreg("drift", "churn").code == 0
    assert cloudreg("repair", "churn").out == "nothing to repair\n"
    said = cloudreg("adopt", "churn", "--reason", "why not")
    assert said.out == "nothing to adopt: local shows what the ledger says\n"


@pytest.fixture
def moved(churn: Any, cloudreg: Any) -> Any:
    """A project in which somebody moved a stage behind cloudreg's back."""
    cloudreg("promote", "churn:1", "--to", "staging")
    with Workspace.load() as workspace:
        second = workspace.version("churn:2")
        registry = workspace.targets["local"].registry
        registry.publish(second)
        registry.point("churn", "staging", second.digest)
    return churn


def test_drift(moved: Any, cloudreg: Any) -> None:
    """What somebody changed is found, ends with 5, and both ways out are named."""
    said = cloudreg("drift")

    assert said.code == 5
    assert said.out.startswith("stage churn@staging on local: ")
    assert "next: cloudreg repair churn, or cloudreg adopt churn --reason WHY\n" in said.err
    facts = cloudreg("drift", "--json").json
    assert facts["differences"][0]["difference"]["name"] == "churn@staging"
    assert "local shows churn:2 in staging, the ledger says churn:1" in cloudreg("status").out
    assert cloudreg("promote", "churn:2", "--to", "staging").code == 4


def test_rollback_past_drift(moved: Any, cloudreg: Any) -> None:
    """A rollback stops at drift, unless the glass is broken with a reason."""
    refused = cloudreg("rollback", "churn", "staging", "--to", "churn:1")
    assert refused.code == 4
    assert cloudreg("rollback", "churn", "staging", "--break-glass", "").code == 64

    said = cloudreg(
        "rollback", "churn", "staging", "--to", "churn:1", "--break-glass", "the site is down"
    )

    assert said.code == 0, said.err
    assert "breaking the glass: the site is down\n" in said.err


def test_repair(moved: Any, cloudreg: Any) -> None:
    """A repair brings the ledger's truth back, and the history says so."""
    said = cloudreg("repair", "churn")

    assert said.code == 0
    assert said.out.startswith("repaired: stage churn@staging on local: ")
    assert cloudreg("drift").code == 0
    assert stages(cloudreg)["staging"] == 1
    assert "repaired what targets show" in cloudreg("history", "churn").out


def test_adopt(moved: Any, cloudreg: Any) -> None:
    """An adoption makes what was found the truth, with its reason."""
    said = cloudreg("adopt", "churn", "--reason", "moved in an emergency", "--target", "local")

    assert said.code == 0
    assert said.out.startswith("adopted from local: ")
    assert cloudreg("drift").code == 0
    assert stages(cloudreg)["staging"] == 2
    assert "adopted what local shows: moved in an emergency" in cloudreg("history", "churn").out


def test_unknown_target(churn: Any, cloudreg: Any) -> None:
    """A target that is not configured has nothing to adopt from."""
    said = cloudreg("adopt", "churn", "--reason", "x", "--target", "moon")

    assert said.code == 1
    assert "no target 'moon'\n  hint: there are local" in said.err


def test_dead_process(churn: Any, cloudreg: Any) -> None:
    """What a process left half done is told as such, with what ends it."""
    done = subprocess.run([sys.executable, "-c", HALF_DONE], cwd=churn.root, check=False)
    assert done.returncode == 9

    status = cloudreg("status")

    assert "promote of churn:2 to staging" in status.out
    assert "its process is gone" in status.out
    assert "next: cloudreg rollout abort churn\n" in status.err
    assert cloudreg("rollout", "abort", "churn").code == 0
    assert "gone" not in cloudreg("status").out
