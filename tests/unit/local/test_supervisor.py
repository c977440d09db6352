"""The process behind an endpoint: killed, starved and revived."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloudreg.errors import IntegrityError, Unavailable
from cloudreg.types import EndpointStatus, OperationState
from cloudreg_local.disk import is_locked


@pytest.fixture
def until(bench: Any) -> Callable[..., Any]:
    found: Callable[..., Any] = sys.modules[type(bench).__module__].until
    return found


def kill(bench: Any, name: str, until: Callable[..., Any]) -> list[int]:
    """Kill the supervisor of an endpoint, and return the processes that it had."""
    pids: list[int] = bench.processes(name)
    os.kill(bench.supervisor(name), signal.SIGKILL)
    until(lambda: is_gone(bench, name))
    return pids


def is_gone(bench: Any, name: str) -> bool:
    """Whether no process is left, and the lock neither: that goes a moment later."""
    lock = bench.root / ".cloudreg" / "endpoints" / name / "supervisor.lock"
    return not bench.processes(name) and not is_locked(lock)


def test_killed_supervisor_takes_its_servers_along(bench: Any, until: Callable[..., Any]) -> None:
    """After kill -9 no model server is left, the endpoint says what happened and what to do."""
    one = bench.version(1)
    spec = bench.spec("killed", ("primary", one, 100), replicas=(2, 2))
    bench.create(spec)
    assert len(kill(bench, "killed", until)) == 3

    found = bench.provider.endpoints.endpoint("killed")
    assert found.status is EndpointStatus.DEGRADED
    assert "apply the same configuration again" in found.message
    assert found.spec == spec
    assert [(v.ready_replicas, v.digest) for v in found.variants] == [(0, "")]
    with pytest.raises(Unavailable, match="its supervisor is not running"):
        bench.ask("killed")
    with pytest.raises(Unavailable):
        bench.provider.endpoints.metrics("killed", window_s=60)
    assert f"serving {one.ref}" in " ".join(bench.provider.endpoints.logs("killed"))


@pytest.mark.parametrize("verb", ["create", "update"])
def test_the_same_spec_revives(bench: Any, until: Callable[..., Any], verb: str) -> None:
    """Applying the same spec to a dead endpoint starts it again, at the same address."""
    name = f"revive-{verb}"
    spec = bench.spec(name, ("primary", bench.version(1), 100))
    bench.create(spec)
    url = bench.url(name)
    kill(bench, name, until)

    assert getattr(bench, verb)(spec).state is OperationState.SUCCEEDED

    assert bench.url(name) == url
    assert bench.ask(name)["number"] == 1
    assert bench.provider.endpoints.endpoint(name).status is EndpointStatus.READY


def test_supervisor_killed_during_an_update(bench: Any, until: Callable[..., Any]) -> None:
    """The update says that it died; applied again it happens, and the old is served meanwhile."""
    one, slow = bench.version(1), bench.version(5, "slow 2")
    bench.create(bench.spec("midway", ("primary", one, 100)))
    spec = bench.spec("midway", ("primary", slow, 100))
    change = bench.provider.endpoints.update(spec, artifacts=bench.versions)
    until(lambda: "waiting for the model servers" in change.poll().message)
    kill(bench, "midway", until)
    assert change.poll().state is OperationState.FAILED
    assert change.poll().message == "its supervisor died"

    again = bench.provider.endpoints.update(spec, artifacts=bench.versions)
    until(lambda: bench.observed("midway")["variants"])
    assert bench.ask("midway")["number"] == 1
    assert bench.wait(again).state is OperationState.SUCCEEDED
    assert bench.ask("midway")["number"] == 5


def test_dead_endpoint_is_deleted(bench: Any, until: Callable[..., Any]) -> None:
    """An endpoint whose supervisor is dead is deleted at once, with all its files."""
    bench.create(bench.spec("dead", ("primary", bench.version(1), 100)))
    kill(bench, "dead", until)

    assert bench.provider.endpoints.delete("dead").poll().state is OperationState.SUCCEEDED

    assert bench.provider.endpoints.endpoint("dead") is None
    assert not (bench.root / ".cloudreg/endpoints/dead").exists()


def test_supervisor_killed_while_deleting(bench: Any, until: Callable[..., Any]) -> None:
    """A delete whose supervisor dies says so, and is finished by the next delete."""
    bench.create(bench.spec("dying", ("primary", bench.version(1), 100)))
    failures: list[Exception] = []

    def ask() -> None:
        try:
            bench.ask("dying", sleep_s=15, log="inside")
        except Unavailable as error:
            failures.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: "inside" in bench.provider.endpoints.logs("dying"))
    removal = bench.provider.endpoints.delete("dying")
    assert removal.poll().state is OperationState.RUNNING
    assert bench.provider.endpoints.endpoint("dying").status is EndpointStatus.DELETING
    kill(bench, "dying", until)
    asking.join()

    assert removal.poll().state is OperationState.FAILED
    assert "delete it again" in removal.poll().message
    assert len(failures) == 1
    assert bench.delete("dying").state is OperationState.SUCCEEDED
    assert bench.provider.endpoints.endpoint("dying") is None


def test_sigterm_ends_in_order(bench: Any, until: Callable[..., Any], load: Any) -> None:
    """On SIGTERM, as at the end of a session, open requests end and no process is left."""
    bench.create(bench.spec("term", ("primary", bench.version(1), 100)))
    with load(bench, "term", threads=2, sleep_s=0.4, log="began") as asked:
        until(lambda: bench.provider.endpoints.logs("term").count("began") >= 2)
        os.kill(bench.supervisor("term"), signal.SIGTERM)
        until(lambda: is_gone(bench, "term"))

    assert asked.numbers[1] >= 2
    assert bench.provider.endpoints.endpoint("term").status is EndpointStatus.DEGRADED


def test_killed_replica_under_load(bench: Any, load: Any, until: Callable[..., Any]) -> None:
    """With two replicas, kill -9 of one loses no request, and a successor takes its place."""
    bench.create(bench.spec("pair", ("primary", bench.version(1), 100), replicas=(2, 2)))
    before = set(bench.replicas("pair"))
    with load(bench, "pair", threads=4, sleep_s=0.01) as asked:
        for _ in range(3):
            asked.more(60)
            victim = bench.replicas("pair")[0]
            os.kill(victim, signal.SIGKILL)
            until(lambda v=victim: len(found := bench.replicas("pair")) == 2 and v not in found)
            until(lambda: bench.observed("pair")["variants"][0]["status"]["ready_replicas"] == 2)
        asked.more(60)

    assert asked.problems == []
    assert set(asked.statuses) == {200}
    assert len(before & set(bench.replicas("pair"))) <= 1
    assert "killed by SIGKILL" in " ".join(bench.provider.endpoints.logs("pair", lines=1000))
    assert bench.provider.endpoints.endpoint("pair").status is EndpointStatus.READY


def test_crashed_replica_is_restarted(bench: Any, until: Callable[..., Any]) -> None:
    """The only replica dies of a request: the caller is told, and the next one is answered."""
    bench.create(bench.spec("lonely", ("primary", bench.version(1), 100)))
    (before,) = bench.replicas("lonely")
    with pytest.raises(Unavailable):
        bench.ask("lonely", die=True)

    until(lambda: bench.replicas("lonely") not in ([], [before]))
    until(lambda: bench.provider.endpoints.endpoint("lonely").status is EndpointStatus.READY)
    assert bench.ask("lonely")["pid"] != before
    assert "exit code 9" in " ".join(bench.provider.endpoints.logs("lonely"))


def test_full_disk_does_not_end_an_endpoint(
    bench: Any, until: Callable[..., Any], load: Any
) -> None:
    """Where the supervisor can write nothing it serves on, and restarts what crashes."""
    bench.create(bench.spec("full", ("primary", bench.version(1), 100), replicas=(2, 2)))
    supervisor = bench.supervisor("full")
    victim, other = bench.replicas("full")
    limits = resource.prlimit(supervisor, resource.RLIMIT_FSIZE)
    resource.prlimit(supervisor, resource.RLIMIT_FSIZE, (0, limits[1]))
    with load(bench, "full") as asked:
        os.kill(victim, signal.SIGKILL)
        until(lambda: set(asked.pids) - {victim, other})
    assert asked.problems == []
    assert set(asked.statuses) == {200}

    resource.prlimit(supervisor, resource.RLIMIT_FSIZE, limits)
    until(lambda: len(set(bench.replicas("full")) - {victim}) == 2)
    assert bench.supervisor("full") == supervisor
    assert bench.provider.endpoints.endpoint("full").status is EndpointStatus.READY


def test_damaged_request_does_not_end_an_endpoint(bench: Any, until: Callable[..., Any]) -> None:
    """When ``desired.json`` is overwritten with nonsense, what serves goes on serving."""
    bench.create(bench.spec("damage", ("primary", bench.version(1), 100)))
    path = bench.root / ".cloudreg/endpoints/damage/desired.json"
    log = path.with_name("supervisor.log")
    good = path.read_bytes()
    url = bench.url("damage", "/invocations")
    path.write_bytes(good[: len(good) // 2])
    until(lambda: "desired cannot be read" in log.read_text())

    with pytest.raises(IntegrityError, match="desired cannot be read"):
        bench.provider.endpoints.endpoint("damage")
    path.write_bytes(good)
    assert bench.url("damage") == url
    assert bench.ask("damage")["number"] == 1
    assert log.read_text().count("desired cannot be read") == 1


def test_half_written_status_is_no_status(bench: Any, until: Callable[..., Any]) -> None:
    """After a power cut inside ``observed.json`` the endpoint is revived from what was asked."""
    spec = bench.spec("halved", ("primary", bench.version(1), 100))
    bench.create(spec)
    kill(bench, "halved", until)
    path = bench.root / ".cloudreg/endpoints/halved/observed.json"
    path.write_bytes(path.read_bytes()[:100])

    assert bench.provider.endpoints.endpoint("halved").status is EndpointStatus.DEGRADED
    assert bench.update(spec).state is OperationState.SUCCEEDED
    assert bench.ask("halved")["number"] == 1


def test_one_supervisor_at_a_time(bench: Any) -> None:
    """A second supervisor of the same endpoint ends at once and touches nothing."""
    bench.create(bench.spec("single", ("primary", bench.version(1), 100)))
    before = bench.processes("single")
    second = subprocess.run(
        [
            *(sys.executable, "-m", "cloudreg_local.supervisor"),
            str(bench.root / ".cloudreg/endpoints/single"),
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (second.returncode, second.stderr) == (1, "another supervisor runs\n")
    assert sorted(bench.processes("single")) == sorted(before)
    assert bench.ask("single")["number"] == 1


def test_removed_folder_ends_its_supervisor(bench: Any, until: Callable[..., Any]) -> None:
    """When somebody removes the folder of an endpoint by hand, its processes end."""
    bench.create(bench.spec("wiped", ("primary", bench.version(1), 100)))
    shutil.rmtree(bench.root / ".cloudreg/endpoints/wiped")

    until(lambda: not bench.processes("wiped"))
    assert bench.provider.endpoints.endpoint("wiped") is None


def test_no_descriptor_is_inherited(bench: Any) -> None:
    """Model servers hold neither the supervisor's lock nor its sockets nor its log."""
    bench.create(bench.spec("closed", ("primary", bench.version(1), 100)))
    (pid,) = bench.replicas("closed")
    held = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}  # noqa: PTH115  # no file

    assert not [name for name in held if "supervisor" in name or "port" in name]
    shared = {
        os.readlink(path)  # noqa: PTH115  # pipes and sockets are no files
        for path in Path(f"/proc/{bench.supervisor('closed')}/fd").iterdir()
    }
    # The three pipes between them have two ends each, and the same name at both.
    assert len({name for name in held & shared if name.startswith(("socket", "pipe"))}) == 3


def test_descriptors_do_not_leak(bench: Any, until: Callable[..., Any]) -> None:
    """Many changes leave the supervisor with the descriptors that it had."""
    one, two = bench.version(1), bench.version(2)
    bench.create(bench.spec("leak", ("primary", one, 100)))
    folder = Path(f"/proc/{bench.supervisor('leak')}/fd")
    for version in (two, one):
        bench.update(bench.spec("leak", ("primary", version, 100)))
    until(lambda: len(bench.processes("leak")) == 2)
    before = len(list(folder.iterdir()))
    for version in (two, one) * 4:
        bench.update(bench.spec("leak", ("primary", version, 100)))
        bench.ask("leak")

    until(lambda: len(bench.processes("leak")) == 2)
    until(lambda: len(list(folder.iterdir())) <= before + 2)
    # And of files, those that are still read.
    models = bench.root / ".cloudreg/endpoints/leak/models"
    until(lambda: [path.name for path in models.iterdir()] == [one.digest[7:]])
