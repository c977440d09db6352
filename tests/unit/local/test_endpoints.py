"""Endpoints: made, changed and removed, by many hands and over crashes."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cloudreg.errors import (
    AlreadyExists,
    InvalidRequest,
    NotFound,
    OperationFailed,
    OperationTimeout,
    Unavailable,
)
from cloudreg.types import EndpointStatus, OperationState

IN_ANOTHER_PROCESS = """
import importlib.util, sys
from pathlib import Path
from cloudreg.errors import CloudregError
spec = importlib.util.spec_from_file_location("conftest", sys.argv[1])
conftest = importlib.util.module_from_spec(spec)
spec.loader.exec_module(conftest)
bench = conftest.Bench(Path(sys.argv[2]))
"""


def start(bench: Any, text: str) -> subprocess.Popen[str]:
    """Run *text* in a process of its own, where ``bench`` is the same target."""
    conftest = Path(__file__).with_name("conftest.py")
    return subprocess.Popen(
        [sys.executable, "-c", IN_ANOTHER_PROCESS + text, str(conftest), str(bench.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def until(bench: Any) -> Callable[..., Any]:
    found: Callable[..., Any] = sys.modules[type(bench).__module__].until
    return found


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_endpoint_outlives_its_creator(bench: Any) -> None:
    """What one process started answers another, after the first has ended."""
    text = """
one = bench.version(1)
print(bench.create(bench.spec("outlive", ("primary", one, 100), env={"STANDIN_MARK": "m"})).state)
"""
    out, err = start(bench, text).communicate(timeout=30)

    assert (out, err) == ("succeeded\n", "")
    said = bench.ask("outlive")
    assert (said["number"], said["env"], said["type"]) == (1, "m", "application/json")
    found = bench.provider.endpoints.endpoint("outlive")
    assert found.status is EndpointStatus.READY
    assert found.variants[0].digest == said["digest"]
    assert found.spec == bench.spec(
        "outlive", ("primary", bench.version(1), 100), env={"STANDIN_MARK": "m"}
    )


def test_nothing_is_left_after_delete(bench: Any, until: Callable[..., Any]) -> None:
    """A deleted endpoint leaves no process, no zombie, no file and no answer."""
    bench.create(bench.spec("leave", ("primary", bench.version(1), 100), replicas=(2, 2)))
    pids = [bench.supervisor("leave"), *bench.replicas("leave")]
    assert len(pids) == 3

    assert bench.delete("leave").state is OperationState.SUCCEEDED
    assert bench.delete("leave").state is OperationState.SUCCEEDED

    until(lambda: bench.provider.endpoints.endpoint("leave") is None and all(map(gone, pids)))
    assert not (bench.root / ".cloudreg/endpoints/leave").exists()
    with pytest.raises(NotFound):
        bench.ask("leave")


def test_crash_at_start(bench: Any) -> None:
    """A model server that does not come up fails the operation, with its last words."""
    bad = bench.version(7, "crash 7")
    status = bench.create(bench.spec("crash", ("primary", bad, 100)))

    assert status.state is OperationState.FAILED
    assert "exit code 7" in status.message
    assert "the weights make no sense" in status.logs
    found = bench.provider.endpoints.endpoint("crash")
    assert found.status is EndpointStatus.FAILED
    assert "exit code 7" in found.message
    assert "the weights make no sense" in bench.provider.endpoints.logs("crash")
    with pytest.raises(Unavailable):
        bench.ask("crash")


def test_hopeless_start_is_not_repeated(bench: Any) -> None:
    """An exit code that says that no start will help ends the waiting at once."""
    bad = bench.version(4, "crash 4")
    status = bench.create(bench.spec("hopeless", ("primary", bad, 100)))

    assert status.state is OperationState.FAILED
    assert "the model could not be loaded" in status.message
    assert status.logs.count("the weights make no sense") == 1


def test_liar_is_refused(bench: Any) -> None:
    """A server that says it serves something else never gets a request."""
    good, liar = bench.version(1), bench.version(8, "liar")
    bench.create(bench.spec("liar", ("primary", good, 100)))
    status = bench.update(bench.spec("liar", ("primary", liar, 100)))

    assert status.state is OperationState.FAILED
    assert "sha256:0000" in status.message
    assert {bench.ask("liar")["number"] for _ in range(20)} == {1}


def test_stubborn_server_goes_too(bench: Any, until: Callable[..., Any]) -> None:
    """A server that SIGTERM does not end is killed, also when it is stopped while ending."""
    bad = bench.version(9, "stubborn liar")
    status = bench.create(bench.spec("stubborn", ("primary", bad, 100)))
    assert status.state is OperationState.FAILED
    assert "sha256:0000" in status.message

    bench.delete("stubborn")

    until(lambda: not bench.processes("stubborn"))


@pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
def test_corrupted_file_is_found_before_it_serves(own: Callable[..., Any], damage: str) -> None:
    """What the store no longer holds as registered fails the change; the old one serves on."""
    bench = own()
    good, bad = bench.version(1), bench.version(2, "weights that rot")
    bench.create(bench.spec("churn", ("primary", good, 100)))
    pids = bench.replicas("churn")
    blob = bench.provider.store.path(bad.manifest.files[0].key)
    blob.chmod(0o644)
    if damage == "flipped":
        blob.write_text("weights that r0t")
    elif damage == "cut":
        blob.write_text("weights")
    else:
        blob.unlink()
        blob.symlink_to("/nowhere-at-all")

    change = bench.spec("churn", ("primary", bad, 100))
    if damage == "missing":
        with pytest.raises(NotFound):
            bench.update(change)
    else:
        status = bench.update(change)
        assert status.state is OperationState.FAILED
        assert status.message.startswith("IntegrityError: weights.txt in the store is not what")
        found = bench.provider.endpoints.endpoint("churn")
        assert "IntegrityError" in found.message
        assert found.spec == bench.spec("churn", ("primary", good, 100))
    assert bench.ask("churn")["number"] == 1
    assert bench.replicas("churn") == pids


def test_broken_manifest_is_found(own: Callable[..., Any]) -> None:
    """A manifest with other bytes than its digest says is never served."""
    bench = own()
    bad = bench.version(1)
    record = bench.provider.store.path(f"manifests/{bad.digest[7:]}")
    record.chmod(0o644)
    record.write_bytes(record.read_bytes().replace(b"number", b"nvmber"))

    status = bench.create(bench.spec("churn", ("primary", bad, 100)))

    assert status.state is OperationState.FAILED
    assert status.message.startswith("IntegrityError: manifest sha256:")


def test_missing_file_starts_nothing(own: Callable[..., Any]) -> None:
    """A version whose files are not in this target's store is refused before anything is made."""
    bench = own()
    one = bench.version(1)
    bench.provider.store.delete(one.manifest.files[0].key)
    spec = bench.spec("churn", ("primary", one, 100))

    with pytest.raises(NotFound, match="churn:1: blobs/"):
        bench.provider.endpoints.create(spec, artifacts=bench.versions)
    with pytest.raises(InvalidRequest, match="no version is given"):
        bench.provider.endpoints.create(spec, artifacts={})

    assert bench.provider.endpoints.endpoint("churn") is None
    assert bench.processes() == []


def test_failed_update_changes_nothing(bench: Any) -> None:
    """After a failed update the old spec is in force, and its replicas are the same processes."""
    spec = bench.spec("failing", ("primary", bench.version(1), 100))
    bench.create(spec)
    pids = bench.replicas("failing")

    status = bench.update(bench.spec("failing", ("primary", bench.version(4, "crash 4"), 100)))

    assert status.state is OperationState.FAILED
    found = bench.provider.endpoints.endpoint("failing")
    assert found.spec == spec
    assert "could not be loaded" in found.message
    assert bench.replicas("failing") == pids
    # And back: asking for what is in force again clears the failure.
    assert bench.update(spec).state is OperationState.SUCCEEDED
    assert bench.provider.endpoints.endpoint("failing").message == ""
    assert bench.replicas("failing") == pids


def test_renamed_variant_keeps_its_replicas(bench: Any) -> None:
    """When the canary becomes the primary, its processes go on; only the old ones leave."""
    one, two = bench.version(1), bench.version(2)
    bench.create(bench.spec("rename", ("primary", one, 90), ("canary", two, 10)))
    old, new = bench.replicas("rename")

    bench.update(bench.spec("rename", ("primary", two, 100)))

    assert bench.replicas("rename") == [new]
    assert bench.ask("rename")["pid"] == new != old


def test_other_environment_is_another_server(bench: Any) -> None:
    """A changed environment starts new processes: the old ones do not have it."""
    one = bench.version(1)
    bench.create(bench.spec("environment", ("primary", one, 100), env={"STANDIN_MARK": "a"}))
    pids = bench.replicas("environment")
    bench.update(bench.spec("environment", ("primary", one, 100), env={"STANDIN_MARK": "b"}))

    assert bench.ask("environment")["env"] == "b"
    assert not set(pids) & set(bench.replicas("environment"))


def test_update_while_an_update_runs(bench: Any, until: Callable[..., Any]) -> None:
    """The later change takes the place of the earlier, which says so; nothing of it is left."""
    backend = bench.provider.endpoints
    bench.create(bench.spec("twice", ("primary", bench.version(1), 100)))
    slow = bench.spec("twice", ("primary", bench.version(5, "slow 30"), 100))
    first = backend.update(slow, artifacts=bench.versions)
    until(lambda: "waiting for the model servers" in first.poll().message)

    second = bench.update(bench.spec("twice", ("primary", bench.version(2), 100)))

    assert second.state is OperationState.SUCCEEDED
    assert first.poll().state is OperationState.FAILED
    assert first.poll().message == "a later change took its place"
    assert bench.ask("twice")["number"] == 2
    until(lambda: len(bench.processes("twice")) == 2)


def test_quick_changes_of_one_version(bench: Any) -> None:
    """Changes that follow at once do not stumble over each other's files."""
    backend = bench.provider.endpoints
    one = bench.version(6, "x" * 3_000_000)
    bench.create(bench.spec("quick", ("primary", bench.version(1), 100)))
    for weight in range(0, 100, 10):
        spec = bench.spec("quick", ("primary", one, weight), ("canary", one, 100 - weight))
        backend.update(spec, artifacts=bench.versions)

    assert bench.update(spec).state is OperationState.SUCCEEDED
    assert bench.provider.endpoints.endpoint("quick").spec == spec


def test_delete_while_creating(bench: Any, until: Callable[..., Any]) -> None:
    """An endpoint that is deleted before it was ready leaves nothing, and its create says why."""
    spec = bench.spec("early", ("primary", bench.version(5, "slow 30"), 100))
    making = bench.provider.endpoints.create(spec, artifacts=bench.versions)
    until(lambda: len(bench.processes("early")) == 2)

    assert bench.delete("early").state is OperationState.SUCCEEDED

    assert making.poll().state is OperationState.FAILED
    assert making.poll().message == "the endpoint was deleted"
    until(lambda: not bench.processes("early"))


def test_create_while_deleting(bench: Any, until: Callable[..., Any]) -> None:
    """An endpoint that is wanted back while its open requests end gets new servers only."""
    one, two = bench.version(1), bench.version(2)
    bench.create(bench.spec("back", ("primary", one, 100)))
    (old,) = bench.replicas("back")
    answers: list[Any] = []
    asking = threading.Thread(
        target=lambda: answers.append(bench.ask("back", sleep_s=1.5, log="inside"))
    )
    asking.start()
    until(lambda: "inside" in bench.provider.endpoints.logs("back"))
    leaving = bench.provider.endpoints.delete("back")
    until(lambda: bench.observed("back")["current"] is None)

    status = bench.create(bench.spec("back", ("primary", two, 100)))

    assert status.state is OperationState.SUCCEEDED
    assert leaving.poll().state is OperationState.SUCCEEDED
    assert bench.ask("back")["number"] == 2
    asking.join()
    assert answers[0]["number"] == 1  # promised before the delete, and kept
    until(lambda: gone(old))
    assert sorted(bench.processes("back")) == sorted(
        [bench.supervisor("back"), *bench.replicas("back")]
    )


def test_two_processes_create_the_same(bench: Any) -> None:
    """Two creates with one spec make one endpoint, and both succeed."""
    bench.version(1)
    text = """
one = bench.version(1)
print("here", flush=True)
sys.stdin.readline()
print(bench.create(bench.spec("both", ("primary", one, 100))).state)
"""
    racers = [start(bench, text) for _ in range(3)]
    for racer in racers:
        assert racer.stdout is not None
        racer.stdout.readline()
    answers = []
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        answers.append(racer.communicate(timeout=30))

    assert answers == [("succeeded\n", "")] * 3
    assert len(bench.processes("both")) == 2


def test_two_processes_create_different_ones(bench: Any) -> None:
    """Of two creates with different specs one wins, and the other is told."""
    text = """
one = bench.version({number})
print("here", flush=True)
sys.stdin.readline()
try:
    print(bench.create(bench.spec("either", ("primary", one, 100))).state)
except CloudregError as error:
    print(type(error).__name__)
"""
    racers = [start(bench, text.format(number=number)) for number in (1, 2)]
    for racer in racers:
        assert racer.stdout is not None
        racer.stdout.readline()
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    answers = sorted(racer.communicate(timeout=30)[0] for racer in racers)

    assert answers == ["AlreadyExists\n", "succeeded\n"]
    assert len(bench.processes("either")) == 2


def test_create_what_exists(bench: Any) -> None:
    """The same spec again returns what is there; another one is refused and changes nothing."""
    one, two = bench.version(1), bench.version(2)
    spec = bench.spec("again", ("primary", one, 100))
    bench.create(spec)
    pids = bench.replicas("again")

    assert bench.create(spec).state is OperationState.SUCCEEDED
    with pytest.raises(AlreadyExists):
        bench.create(bench.spec("again", ("primary", two, 100)))

    assert bench.replicas("again") == pids
    assert bench.ask("again")["number"] == 1


def test_port_range(own: Callable[..., Any], until: Callable[..., Any]) -> None:
    """A range without a free port is said as such; the same again works when one is free."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        bench = own(port_range=(port, port))
        one = bench.version(1)
        spec = bench.spec("churn", ("primary", one, 100))
        status = bench.create(spec)
        assert status.state is OperationState.FAILED
        assert status.message == (
            f"QuotaExceeded: no free port on 127.0.0.1 (port {port} to {port})"
        )
        assert bench.provider.endpoints.endpoint("churn").status is EndpointStatus.FAILED

    assert bench.create(spec).state is OperationState.SUCCEEDED
    assert bench.url("churn").endswith(f":{port}/invocations")

    # Deleted and made anew at once, on the only port that there is.
    bench.delete("churn")
    assert bench.create(spec).state is OperationState.SUCCEEDED
    assert bench.ask("churn")["number"] == 1


def test_foreign_host(own: Callable[..., Any]) -> None:
    """An address that is not this machine's is a mistake in the configuration."""
    bench = own(host="192.0.2.1")
    status = bench.create(bench.spec("churn", ("primary", bench.version(1), 100)))

    assert status.state is OperationState.FAILED
    assert status.message.startswith("ConfigError: cannot listen on 192.0.2.1:0: ")


def test_refusals(bench: Any, until: Callable[..., Any]) -> None:
    """Each way in which a request can fail has its own error, with the server's words."""
    bench.create(bench.spec("refuse", ("primary", bench.version(1), 100)))
    invoke = bench.provider.endpoints.invoke

    with pytest.raises(InvalidRequest, match=r"answered 400: .*that is no JSON"):
        invoke("refuse", b"{", content_type="application/json", timeout_s=5)

    def last_words() -> Any:
        with pytest.raises(OperationFailed, match="answered 500") as caught:
            bench.ask("refuse", status=500, log="before the fall")
        return caught.value.logs

    # What a server says reaches the log on another way than its answer the client.
    until(lambda: "before the fall" in last_words())
    with pytest.raises(OperationTimeout, match=r"did not answer in 0\.2 s"):
        invoke("refuse", b'{"sleep_s": 1}', content_type="application/json", timeout_s=0.2)
    with pytest.raises(InvalidRequest, match="window_s nan is not 0 or more"):
        bench.provider.endpoints.metrics("refuse", window_s=float("nan"))
    with pytest.raises(NotFound, match=r"'canary'\n.*\n  hint: cloudreg status"):
        bench.ask("refuse", variant="canary")
    for verb in (
        lambda: bench.ask("nobody"),
        lambda: bench.provider.endpoints.logs("nobody"),
        lambda: bench.provider.endpoints.metrics("nobody", window_s=60),
        lambda: bench.update(bench.spec("nobody", ("primary", bench.version(1), 100))),
    ):
        with pytest.raises(NotFound, match="no endpoint 'nobody' is here"):
            verb()


@pytest.mark.parametrize("name", ["../evil", "", ".locks", "A", "a/b", "a\0", "a" * 64])
def test_hostile_names(own: Callable[..., Any], name: str) -> None:
    """A name that no target could have is refused by every verb, and writes nothing."""
    bench = own()
    backend = bench.provider.endpoints
    for verb in (
        lambda: backend.endpoint(name),
        lambda: backend.delete(name),
        lambda: backend.logs(name),
        lambda: backend.metrics(name, window_s=1),
        lambda: backend.invoke(name, b"", content_type="text/plain", timeout_s=1),
    ):
        with pytest.raises(InvalidRequest):
            verb()
    assert not bench.root.exists() or list(bench.root.iterdir()) == []


def test_endpoints_are_listed_by_name(own: Callable[..., Any]) -> None:
    """The list is in order, and what is no endpoint is not in it."""
    bench = own()
    one = bench.version(1)
    for name in ("b", "a"):
        bench.create(bench.spec(name, ("primary", one, 100)))
    (bench.root / ".cloudreg/endpoints/c/logs").mkdir(parents=True)

    assert [found.spec.name for found in bench.provider.endpoints.endpoints()] == ["a", "b"]


def test_logs_and_metrics_by_variant(bench: Any) -> None:
    """Each variant's lines and counts are its own."""
    one, two = bench.version(1), bench.version(2)
    bench.create(bench.spec("apart", ("primary", one, 100), ("canary", two, 0)))
    backend = bench.provider.endpoints
    for _ in range(3):
        bench.ask("apart", log="to the primary")
    bench.ask("apart", variant="canary", log="to the canary")
    with pytest.raises(OperationFailed):
        bench.ask("apart", variant="canary", status=503)

    assert backend.logs("apart", variant="canary")[-1] == "to the canary"
    assert "to the canary" not in backend.logs("apart", variant="primary")
    assert backend.logs("apart", lines=2)[-1] == "to the canary"
    assert backend.logs("apart", variant="nobody") == []
    counts = backend.metrics("apart", window_s=60)
    assert (counts["primary"].requests, counts["primary"].errors) == (3, 0)
    assert (counts["canary"].requests, counts["canary"].errors) == (2, 1)
    assert counts["primary"].p95_ms > 0


def test_killed_creator_leaves_what_a_rerun_finishes(
    own: Callable[..., Any], until: Callable[..., Any]
) -> None:
    """Killed before any of its writes, a create can be made again, and a delete too."""
    bench = own()
    bench.version(1)
    text = """
import os, signal
one = bench.version(1)
step = int({step})
def watch(event, arguments):
    global step
    if event in ("os.rename", "os.remove", "os.mkdir", "subprocess.Popen", "os.rmdir") or (
        event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
    ):
        step -= 1
        if step == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
bench.provider.endpoints.create(
    bench.spec("churn", ("primary", one, 100)), artifacts=bench.versions
)
"""
    spec = bench.spec("churn", ("primary", bench.version(1), 100))
    deaths = 0
    for step in range(1, 40):
        process = start(bench, text.format(step=step))
        process.communicate(timeout=30)
        if step % 2:
            assert bench.create(spec).state is OperationState.SUCCEEDED
            assert bench.ask("churn")["number"] == 1
            assert len(bench.processes("churn")) == 2
        assert bench.delete("churn").state is OperationState.SUCCEEDED
        assert bench.provider.endpoints.endpoint("churn") is None
        until(lambda: not bench.processes("churn"))
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
        deaths += 1
    assert process.returncode == 0
    assert deaths >= 5
    left = (bench.root / ".cloudreg/endpoints").iterdir()
    assert [path.name for path in left] == [".locks"]
