"""Kinds of endpoints: what can be configured, and what is refused before anything is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloudreg.errors import ConfigError, InvalidRequest
from cloudreg.plan import spec_from_json, spec_json
from cloudreg.settings import load
from cloudreg.testing.planning import VERSION
from cloudreg.testing.serving import variant
from cloudreg.types import Asynchronous, EndpointKind, EndpointSpec, Serverless

BASE = '[endpoints.e]\nmodel = "kit"\nstage = "prod"\n'


@pytest.fixture
def configured(tmp_path: Path) -> Callable[[str], EndpointSpec]:
    """Return what reads an endpoint's section, and returns its spec."""

    def read(more: str) -> EndpointSpec:
        path = tmp_path / "cloudreg.toml"
        path.write_text(BASE + more)
        return load(path).endpoints["e"].spec("e", VERSION)

    return read


def test_serverless(configured: Any) -> None:
    """A serverless endpoint has its table, or the defaults."""
    spec = configured(
        'kind = "serverless"\n[endpoints.e.serverless]\nmemory_mib = 3072\nmax_concurrency = 7\n'
        "provisioned_concurrency = 2\n"
    )

    assert spec.kind is EndpointKind.SERVERLESS
    assert spec.serverless == Serverless(
        memory_mib=3072, max_concurrency=7, provisioned_concurrency=2
    )
    assert configured('kind = "serverless"\n').serverless == Serverless()


def test_asynchronous(configured: Any) -> None:
    """An asynchronous endpoint has its table with topics, or the defaults."""
    spec = configured(
        'kind = "asynchronous"\nmax_replicas = 2\n[endpoints.e.asynchronous]\noutput = "a/b"\n'
        "max_concurrent_per_replica = 3\nexpires_s = 60\n"
        '[endpoints.e.asynchronous.notify]\nsuccess = "s"\nerror = "e"\n'
    )

    assert spec.asynchronous == Asynchronous(
        output="a/b",
        max_concurrent_per_replica=3,
        notify_success="s",
        notify_error="e",
        expires_s=60,
    )
    assert configured('kind = "asynchronous"\n').asynchronous == Asynchronous()
    assert configured("").kind is EndpointKind.REAL_TIME


@pytest.mark.parametrize("kind", list(EndpointKind))
def test_written_and_read(configured: Any, kind: EndpointKind) -> None:
    """A plan and a ledger keep the kind; a spec that was written before there were kinds reads."""
    spec = configured(f'kind = "{kind}"\n')

    assert spec_from_json(spec_json(spec)) == spec
    old = {k: v for k, v in spec_json(configured("")).items() if k in ("name", "stage", "variants")}
    assert spec_from_json(old) == configured("")


@pytest.mark.parametrize(
    ("more", "where", "hint"),
    [
        ('kind = "slow"\n', "line 4", None),
        ("[endpoints.e.serverless]\n", "the endpoint is real_time", 'kind = "serverless"'),
        (
            'kind = "serverless"\n[endpoints.e.asynchronous]\n',
            "the endpoint is serverless",
            'kind = "asynchronous"',
        ),
        ('kind = "serverless"\ngpu = "L4"\n', "no machines to choose", "leave gpu"),
        ('kind = "serverless"\nmachine_type = "m"\n', "no machines to choose", "leave gpu"),
        ('kind = "serverless"\nmax_replicas = 3\n', "no replicas to count", "max_concurrency"),
        (
            'kind = "serverless"\n[endpoints.e.rollout]\nstrategy = "canary"\n',
            "no steps",
            "all_at_once",
        ),
        (
            'kind = "serverless"\n[endpoints.e.serverless]\nmax_concurrency = 2\n'
            "provisioned_concurrency = 3\n",
            "provisioned_concurrency 3",
            "provisioned_concurrency = 2",
        ),
        (
            'kind = "serverless"\n[endpoints.e.serverless]\nmemory_mib = 0\n',
            "memory_mib 0",
            None,
        ),
        (
            'kind = "asynchronous"\n[endpoints.e.asynchronous]\noutput = "/a"\n',
            "a prefix of keys",
            'output = "asynchronous"',
        ),
        (
            'kind = "asynchronous"\n[endpoints.e.asynchronous]\nmax_concurrent_per_replica = 0\n',
            "max_concurrent_per_replica 0",
            None,
        ),
        (
            'kind = "asynchronous"\n[endpoints.e.asynchronous]\nexpires_s = 0\n',
            "expires_s 0",
            None,
        ),
    ],
)
def test_refused(configured: Any, more: str, where: str, hint: str | None) -> None:
    """What does not go together is refused when it is read, with what works."""
    with pytest.raises(ConfigError) as caught:
        configured(more)

    assert where in caught.value.message
    assert "line" in caught.value.message
    if hint is not None:
        assert hint in (caught.value.hint or "")


def test_spec_without_its_part() -> None:
    """A spec of a kind needs that kind's part, and no other."""
    plain = {"name": "e", "stage": "prod", "variants": (variant("primary", VERSION),)}
    for wrong in (
        {"kind": EndpointKind.SERVERLESS},
        {"kind": EndpointKind.ASYNCHRONOUS},
        {"serverless": Serverless()},
        {
            "kind": EndpointKind.SERVERLESS,
            "serverless": Serverless(),
            "asynchronous": Asynchronous(),
        },
    ):
        with pytest.raises(InvalidRequest, match="do not go together"):
            EndpointSpec(**plain, **wrong)  # type: ignore[arg-type]
