"""GPUs of a machine: found without a library, given out evenly, free again after any end."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloudreg_local.devices import Devices, Seat, discover

TWO = ("cuda:0", "cuda:1")


@pytest.fixture
def until(bench: Any) -> Callable[..., Any]:
    found: Callable[..., Any] = sys.modules[type(bench).__module__].until
    return found


@pytest.fixture
def devices(tmp_path: Path) -> Devices:
    made = Devices(tmp_path / "devices")
    made.offer(TWO)
    return made


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        ("", ()),
        ("-1", ()),
        ("0,2", ("cuda:0", "cuda:2")),
        (" 1 ,-1,0", ("cuda:1",)),
        ("GPU-8932f937-d72c,nonsense", ("cuda:GPU-8932f937-d72c",)),
        ("MIG-GPU-1/0/0", ("cuda:MIG-GPU-1/0/0",)),
    ],
)
def test_devices_that_the_environment_names(
    tmp_path: Path, visible: str, found: tuple[str, ...]
) -> None:
    """CUDA_VISIBLE_DEVICES counts, up to the first name that CUDA would not take either."""
    (tmp_path / "nvidia0").touch()
    assert discover({"CUDA_VISIBLE_DEVICES": visible}, tmp_path) == found


def test_devices_that_the_driver_shows(tmp_path: Path) -> None:
    """Without a word there are as many devices as the driver has files, whatever their numbers."""
    assert discover({}, tmp_path) == ()
    for name in ("nvidia3", "nvidia11", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert discover({}, tmp_path) == ("cuda:0", "cuda:1")


def test_seats_are_given_in_turn(devices: Devices) -> None:
    """Each takes the emptiest device; more than there are share; who goes makes room."""
    seats = [devices.take({}) for _ in range(5)]
    assert [seat.device for seat in seats] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"]
    for seat in (seats[1], seats[3]):
        seat.release()
        seat.release()
    assert [devices.take({}).device for _ in range(3)] == ["cuda:1", "cuda:1", "cuda:1"]


def test_supervisors_count_each_others_seats(tmp_path: Path, devices: Devices) -> None:
    """Two that do not know each other take different devices."""
    other = Devices(tmp_path / "devices")
    other.offer(TWO)
    assert {devices.take({}).device, other.take({}).device} == set(TWO)


def test_what_a_model_server_is_told(devices: Devices) -> None:
    """It sees its device alone; named devices have to be used, found ones may be."""
    devices.take({})
    assert devices.take({}).env == {"CUDA_VISIBLE_DEVICES": "1", "CLOUDREG_DEVICE": "cuda:0"}
    devices.offer(("cuda:GPU-1a",))
    assert devices.take({}).env["CUDA_VISIBLE_DEVICES"] == "GPU-1a"


def test_found_devices_do_not_bind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that nobody named is shown, not demanded: the runtime may know only the CPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-GPU-1/0/0,3")
    found = Devices(tmp_path / "devices")
    found.offer(None)
    seats = [found.take({}) for _ in range(2)]
    assert [dict(seat.env) for seat in seats] == [
        {"CUDA_VISIBLE_DEVICES": "MIG-GPU-1/0/0"},
        {"CUDA_VISIBLE_DEVICES": "3"},
    ]


def test_endpoints_that_choose_themselves(devices: Devices) -> None:
    """An endpoint's own word takes no seat."""
    for env in ({"CLOUDREG_DEVICE": "cpu"}, {"CUDA_VISIBLE_DEVICES": "1"}):
        assert devices.take(env).device == ""
    assert devices.take({}).device == "cuda:0"


def test_a_machine_without_devices(tmp_path: Path) -> None:
    """Where there is no device nothing is set, and nothing is written."""
    none = Devices(tmp_path / "devices")
    none.offer(())
    seat = none.take({})
    seat.release()
    assert (seat.device, dict(seat.env)) == ("", {})
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_takes_no_seat(tmp_path: Path) -> None:
    """Where no seat can be written a model server still gets a device."""
    (tmp_path / "devices").touch()
    blocked = Devices(tmp_path / "devices")
    blocked.offer(TWO)
    assert blocked.take({}).device == "cuda:0"


def placed(bench: Any, *names: str) -> Counter[str]:
    """Return how many replicas of *names* each device has, as their status says."""
    return Counter(
        device
        for name in names
        for variant in bench.observed(name)["variants"]
        for device in variant["devices"]
    )


def test_each_replica_has_a_device(own: Callable[..., Any], until: Callable[..., Any]) -> None:
    """Replicas of all endpoints spread over the devices, say so, and leave room when they end."""
    bench = own(devices=list(TWO))
    one = bench.version(1)
    bench.create(bench.spec("spread", ("primary", one, 100), replicas=(2, 2)))
    bench.create(bench.spec("third", ("primary", one, 100)))
    until(lambda: placed(bench, "spread", "third").total() == 3)
    assert placed(bench, "spread") == Counter(TWO)
    assert placed(bench, "third") == {"cuda:0": 1}
    assert bench.ask("third")["visible"] == "0"
    seen = {bench.ask("spread")["visible"] for _ in range(20)}
    assert seen <= {"0", "1"}
    assert bench.ask("spread")["device"] == "cuda:0"
    assert "device is cuda:0" in " ".join(bench.provider.endpoints.logs("third"))

    bench.wait(bench.provider.endpoints.delete("spread"))
    bench.create(bench.spec("fourth", ("primary", one, 100)))
    until(lambda: placed(bench, "fourth"))
    assert placed(bench, "fourth") == {"cuda:1": 1}


def test_a_killed_supervisor_frees_its_devices(
    own: Callable[..., Any], until: Callable[..., Any]
) -> None:
    """After kill -9 the next model server finds the device free."""
    bench = own(devices=list(TWO))
    one = bench.version(1)
    bench.create(bench.spec("killed", ("primary", one, 100)))
    until(lambda: placed(bench, "killed"))
    os.kill(bench.supervisor("killed"), signal.SIGKILL)
    until(lambda: not bench.processes("killed"))
    bench.create(bench.spec("next", ("primary", one, 100)))
    until(lambda: placed(bench, "next"))
    assert placed(bench, "next") == {"cuda:0": 1}


def test_an_empty_seat() -> None:
    """Giving back what was never taken does nothing."""
    Seat().release()
