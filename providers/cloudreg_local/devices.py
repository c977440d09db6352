"""Which accelerator each model server gets: the one that the fewest others of the target have.

A seat is a file ``devices/<device>.<id>`` that its supervisor holds locked as long as the model
server lives. Endpoints have supervisors of their own, and none knows the others: they count each
other's seats. The lock dies with its holder, so that no crash keeps a device taken.
"""

from __future__ import annotations

import fcntl
import os
import re
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from cloudreg_local.disk import is_locked, let_go, locked

VISIBLE = "CUDA_VISIBLE_DEVICES"
DEVICE = "CLOUDREG_DEVICE"
CHOSEN = (VISIBLE, DEVICE)
"""Variables by which an endpoint chooses for itself."""

_NAME = re.compile(r"[0-9]{1,3}|(GPU|MIG)-[0-9A-Za-z/-]+")


def discover(env: Mapping[str, str], folder: Path = Path("/dev")) -> tuple[str, ...]:
    """Return this machine's devices, without asking a library that takes seconds to load.

    Args:
        env: Where ``CUDA_VISIBLE_DEVICES`` may say which there are.
        folder: Where else the driver shows one file for each.

    Source: https://docs.nvidia.com/cuda/cuda-programming-guide/05-appendices/environment-variables.html
    """
    visible = env.get(VISIBLE)
    if visible is None:
        files = [path for path in folder.glob("nvidia*") if path.name[6:].isdecimal()]
        # Numbers are CUDA's, from 0: in a container the files may have others.
        return tuple(f"cuda:{number}" for number in range(len(files)))
    found: list[str] = []
    for name in visible.split(","):
        # CUDA too takes those before the first that makes no sense, such as -1.
        if not _NAME.fullmatch(name.strip()):
            break
        found.append(f"cuda:{name.strip()}")
    return tuple(found)


class Seat:
    """A model server's place on a device.

    Attributes:
        device: Its name; empty where there is none.
        env: What tells the model server.
    """

    def __init__(self, device: str = "", env: Mapping[str, str] | None = None) -> None:
        """Take no lock."""
        self.device = device
        self.env: Mapping[str, str] = env or {}
        self._handle: int | None = None
        self._path: Path | None = None

    def hold(self, path: Path) -> None:
        """Show at *path* that the device is in use."""
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._handle, self._path = handle, path

    def release(self) -> None:
        """Give the device back."""
        handle, self._handle = self._handle, None
        if handle is not None and self._path is not None:
            with suppress(OSError):
                self._path.unlink()
            let_go(handle)


class Devices:
    """The devices of a target."""

    def __init__(self, folder: Path) -> None:
        """Keep seats in *folder*, which is made with the first; there is no device yet."""
        self._folder = folder
        self._names: tuple[str, ...] = ()
        self._told = False

    def offer(self, names: Sequence[str] | None) -> None:
        """Give out *names* from now on; None stands for what this machine has."""
        self._told = names is not None
        self._names = tuple(names) if names is not None else discover(os.environ)

    def take(self, env: Mapping[str, str]) -> Seat:
        """Return a seat for a model server with *env*, which may have chosen for itself."""
        if not self._names or any(name in env for name in CHOSEN):
            return Seat()
        try:
            self._folder.mkdir(exist_ok=True)
            with locked(self._folder / ".lock"):
                taken = self._taken()
                device = min(self._names, key=lambda name: taken[_file(name)])
                seat = self._seat(device)
                seat.hold(self._folder / f"{_file(device)}.{uuid.uuid4().hex}")
                return seat
        except OSError:
            # A full disk must not keep a model server from starting: then others don't see it.
            return self._seat(self._names[0])

    def _seat(self, device: str) -> Seat:
        # The model server sees no other device, and calls this one its first.
        env = {VISIBLE: device.partition(":")[2]}
        if self._told:
            # Who named devices wants no model server that quietly computes on the CPU.
            env[DEVICE] = "cuda:0"
        return Seat(device, env)

    def _taken(self) -> Counter[str]:
        """Count the seats of each device, and sweep out what crashed supervisors left."""
        taken: Counter[str] = Counter()
        for path in self._folder.iterdir():
            if path.name == ".lock":
                continue
            if is_locked(path):
                taken[path.name.rpartition(".")[0]] += 1
            else:
                with suppress(OSError):
                    path.unlink()
        return taken


def _file(device: str) -> str:
    return device.replace("/", "_")
