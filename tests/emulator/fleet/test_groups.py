"""Groups of real processes: started like containers, watched, scaled, and ended."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from cloudreg_emulator.fleet import Fleet, NoInstance, TimedOut
from cloudreg_emulator.fleet.launch import Broken

NOT_HEALTHY = (
    "The primary container for production variant main did not pass the ping health check. "
    "Please check CloudWatch logs for this endpoint."
)


def asked(group, **request):
    answer = group.invoke(json.dumps(request).encode(), {}, timeout_s=10)
    return json.loads(answer.body)


def is_there(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_contract(started):
    """A container gets ``serve``, the user's environment, a port, a folder, and nothing else."""
    said = asked(started(), x=[1, 2])

    assert said["argv"] == ["serve"]
    assert said["y"] == [2, 4]
    names = set(said["env"])
    assert said["env"]["MARK"] == "ours"
    assert {"SAGEMAKER_BASE_DIR", "SAGEMAKER_BIND_TO_PORT", "PATH"} <= names
    assert not [name for name in names if name.startswith(("AWS_", "CLOUDREG_", "PYTEST_"))]


def test_nothing_leaks(started, monkeypatch):
    """What the emulator's own environment holds does not reach a container."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("DATABASE_PASSWORD", "secret")

    assert "secret" not in asked(started())["env"].values()


def test_model_folder(started, objects):
    """The model data lies under ``model`` with its prefix trimmed, read-only, in a folder each."""
    objects["models", "double/deep/er/part.bin"] = b"12"
    group = started(2)
    folders = {Path(asked(group)["env"]["SAGEMAKER_BASE_DIR"]) for _ in range(4)}

    assert len(folders) == 2
    for folder in folders:
        part = folder / "model" / "deep" / "er" / "part.bin"
        assert part.read_bytes() == b"12"
        assert part.stat().st_mode & 0o777 == 0o444
        assert part.parent.stat().st_mode & 0o777 == 0o555


def test_spread(started):
    """Requests go to the instance with the least to do."""
    group = started(3)

    assert len({asked(group)["pid"] for _ in range(6)}) == 3


def test_busy_instance_is_spared(started):
    """An instance that works is not given a second request while another rests."""
    group = started(2)
    slow = threading.Thread(target=asked, args=(group,), kwargs={"sleep_s": 0.5})
    slow.start()
    while not group.inflight:
        time.sleep(0.005)
    quick = {asked(group)["pid"] for _ in range(5)}
    slow.join()

    assert len(quick) == 1


def test_resize(started, until):
    """More instances join, and those that are too many end."""
    group = started(1)
    group.resize(3)
    assert group.wait(timeout_s=20)
    three = set(group.pids)
    group.resize(1)
    until(lambda: len(group.pids) == 1)

    assert len(three) == 3
    assert group.ready == 1
    assert [pid for pid in three if is_there(pid)] == group.pids


def test_nothing_is_lost_when_scaling_in(started):
    """Requests under way are answered although their instance leaves."""
    group = started(2)
    answers = []

    def ask():
        answers.append(asked(group, sleep_s=0.3, x=[1])["y"])

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    while group.inflight < 6:
        time.sleep(0.005)
    group.resize(1)
    for thread in threads:
        thread.join()

    assert answers == [[2]] * 6


def test_scale_to_zero(started, until):
    """A group of none refuses, and comes back."""
    group = started(1)
    group.resize(0)
    until(lambda: not group.pids)
    with pytest.raises(NoInstance):
        group.invoke(b"{}", {}, timeout_s=1)
    group.resize(1)

    assert group.wait(timeout_s=20)
    assert asked(group, x=[4])["y"] == [8]


def test_crash_is_repaired(started, until):
    """An instance that dies in the middle of a request is replaced; the request is not repeated."""
    group = started(1)
    before = group.pids
    with pytest.raises(Broken):
        group.invoke(b'{"die": true}', {}, timeout_s=5)
    until(lambda: group.ready and group.pids != before)

    assert asked(group, x=[1])["y"] == [2]
    assert group.failure is None


def test_sick_instance_is_replaced(started, make_fleet, until):
    """An instance that answers ``/ping`` no more with 200 is started again."""
    group = started(on=make_fleet(ping_pause_s=0.02))
    before = group.pids
    folder = Path(asked(group)["env"]["SAGEMAKER_BASE_DIR"])
    (folder / "sick").touch()
    until(lambda: not group.ready)
    (folder / "sick").unlink()
    until(lambda: group.ready and group.pids != before)

    assert "missed 3 health checks" in "\n".join(group.logs(20))


def test_crash_at_start(fleet, launch, objects):
    """A container that never starts is tried three times, and fails in AWS's words."""
    objects["models", "bad/model.json"] = json.dumps({"crash": 4}).encode()
    group = fleet.start(launch(key="bad/"), 1)

    assert not group.wait(timeout_s=20)
    assert group.failure == NOT_HEALTHY
    assert group.logs(100).count("CUDA out of memory") == 3
    assert "the container ended: exit code 4" in group.logs(100)


def test_deaf_container(make_fleet, launch, objects):
    """A container whose health check never passes fails when its time is up."""
    objects["models", "deaf/model.json"] = json.dumps({"deaf": True}).encode()
    group = make_fleet(patience_s=0.3).start(launch(key="deaf/", startup_timeout_s=60), 1)

    assert not group.wait(timeout_s=20)
    assert group.failure == NOT_HEALTHY


def test_missing_data(fleet, launch):
    """Where nothing lies, nothing starts, and the reason names the place."""
    group = fleet.start(launch(key="nowhere/"), 1)

    assert not group.wait(timeout_s=20)
    assert "s3://models/nowhere/" in (group.failure or "")
    assert group.pids == []


def test_unknown_image(fleet, launch):
    """An image without a command fails, and is named."""
    group = fleet.start(launch(image="somewhere/else:1"), 1)

    assert not group.wait(timeout_s=5)
    assert "somewhere/else:1" in (group.failure or "")


def test_command_that_is_none(make_fleet, launch):
    """A command that cannot be started fails like a container that crashes."""
    group = make_fleet(images={"*": ["/nonexistent/command"]}).start(launch(), 1)

    assert not group.wait(timeout_s=20)
    assert group.failure == NOT_HEALTHY
    assert "cannot be started" in "\n".join(group.logs(10))


def test_timeout(started):
    """A container that is too slow is not waited for."""
    group = started()
    with pytest.raises(TimedOut):
        group.invoke(b'{"sleep_s": 5}', {}, timeout_s=0.1)

    assert asked(group, x=[1])["y"] == [2]


def test_stream(started):
    """Pieces come as they are written, and the instance is free again after the last."""
    group = started()
    status, headers, pieces = group.stream(
        b'{"stream": 3, "pause_s": 0.2}', {"Content-Type": "application/json"}, timeout_s=10
    )
    began = time.monotonic()
    first = next(pieces)

    assert time.monotonic() - began < 0.2
    assert (status, headers["content-type"]) == (200, "text/plain")
    assert first + b"".join(pieces) == b"piece 0;piece 1;piece 2;"
    assert group.inflight == 0


def test_broken_stream(started):
    """A stream that breaks off says so, and frees its instance."""
    group = started()
    _, _, pieces = group.stream(b'{"stream": 2, "cut": true}', {}, timeout_s=10)
    with pytest.raises(Broken):
        list(pieces)

    assert group.inflight == 0


def test_stream_that_is_left(started):
    """A caller that leaves in the middle frees the instance."""
    group = started()
    _, _, pieces = group.stream(b'{"stream": 50}', {}, timeout_s=10)
    next(pieces)
    pieces.close()

    assert group.inflight == 0


def test_logs(started, written, until):
    """What containers write is kept, and handed on under the name of the log stream."""
    group = started(variant="blue")
    asked(group)
    until(lambda: len(group.logs(10)) == 2)

    assert group.logs(1) == ["asked for 2 bytes"]
    assert group.logs(0) == []
    assert ("blue/i-00000000000000001", "the container starts") in written


def test_stubborn_container(started, objects, until):
    """Who ignores SIGTERM is killed when the grace is over, with what it started."""
    objects["models", "stubborn/model.json"] = json.dumps({"stubborn": True}).encode()
    group = started(key="stubborn/")
    (pid,) = group.pids
    began = time.monotonic()
    group.stop(grace_s=0.3)
    until(lambda: not is_there(pid))

    assert time.monotonic() - began >= 0.3
    assert group.ready == 0


def test_stop_does_not_wait(started):
    """Stopping returns at once, although a request is under way."""
    group = started()
    slow = threading.Thread(target=asked, args=(group,), kwargs={"sleep_s": 0.3})
    slow.start()
    while not group.inflight:
        time.sleep(0.005)
    began = time.monotonic()
    group.stop()
    took = time.monotonic() - began
    slow.join()

    assert took < 0.1


def test_close_leaves_nothing(fleet, launch):
    """Closing a fleet ends every process and removes every file."""
    groups = [fleet.start(launch(variant=name), 2) for name in ("a", "b")]
    assert all(group.wait(timeout_s=20) for group in groups)
    pids, folder = fleet.pids, fleet._folder
    fleet.close()

    assert len(pids) == 4
    assert not any(is_there(pid) for pid in pids)
    assert folder is not None
    assert not folder.exists()
    with pytest.raises(RuntimeError):
        fleet.start(launch(), 1)


def test_close_while_starting(fleet, launch):
    """A fleet can be closed before anything is ready."""
    group = fleet.start(launch(), 3)
    fleet.close()

    assert group.pids == []


def test_killed_from_outside(started, until):
    """An instance that somebody kills comes back under the same name."""
    group = started()
    (pid,) = group.pids
    os.kill(pid, signal.SIGKILL)
    until(lambda: group.ready and group.pids != [pid])

    assert "the container ended: killed by SIGKILL" in group.logs(10)


def test_images_of_the_user_come_first(objects, launch):
    """A user's pattern beats the built-in one."""
    fleet = Fleet(objects.read, {"*": ["mine"]})

    assert list(fleet._command("x/cloudreg-serving:1") or ()) == ["mine"]
    assert "cloudreg.serving" in (Fleet(objects.read)._command("x/cloudreg-serving:1") or ())
    assert Fleet(objects.read)._command("x/other:1") is None
