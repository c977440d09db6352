"""Replicates a version from one place to another; halts on request, and counts what it sent.

Reads one JSON object: where from, where to, and after how many bytes to halt. It prints ``half``
once it halts, or how many bytes it sent once it is done.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from cloudreg import artifacts
from cloudreg.provider import ProviderContext
from cloudreg.types import ModelVersion

sent = 0
moved = threading.Condition()


def count(amount: int) -> None:
    """Say that *amount* more bytes left this process, or reached its disk."""
    global sent  # noqa: PLW0603  # what is wrapped are functions of other modules
    with moved:
        sent += amount
        moved.notify_all()


def watch() -> None:
    """Count what is sent over HTTP, and what is written to a disk."""
    send, write = http.client.HTTPConnection.send, os.write

    def counted_send(self: Any, data: Any) -> None:
        send(self, data)
        count(len(data) if isinstance(data, bytes | bytearray | memoryview) else 0)

    def counted_write(handle: int, data: Any) -> int:
        written = write(handle, data)
        count(written)
        return written

    http.client.HTTPConnection.send = counted_send  # type: ignore[method-assign]
    os.write = counted_write  # type: ignore[assignment]


class Meter:
    """Progress that halts."""

    def __init__(self, stop: int, wanted: int) -> None:
        self._stop, self._wanted, self._done = stop, wanted, 0.0

    def task(self, *_: Any, **__: Any) -> Meter:
        return self

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def say(self, text: str) -> None:
        pass

    def advance(self, amount: float) -> None:
        before, self._done = self._done, self._done + amount
        if before < self._stop <= self._done:
            with moved:
                # Parts are on their way in other threads, which go on.
                moved.wait_for(lambda: sent >= self._wanted, timeout=120)
            print("half", flush=True)
            sys.stdin.readline()


def opened(place: dict[str, Any]) -> Any:
    """Return the store of a place."""
    from cloudreg.plugins import provider_plugin

    plugin = provider_plugin(place["provider"])
    context = ProviderContext(target=place["provider"], root=Path(place["root"]))
    return plugin.open(plugin.settings()(**place["section"]), context).store


def main() -> None:
    case = json.loads(sys.stdin.readline())
    source, dest = opened(case["source"]), opened(case["dest"])
    version = ModelVersion(
        model="churn",
        number=1,
        digest=case["digest"],
        manifest=artifacts.read_manifest(case["digest"], source),
        author="ada",
        created_at="2026-01-01T00:00:00Z",
    )
    list(dest.list("blobs/"))
    watch()
    meter = Meter(case["stop"], case["wanted"])
    artifacts.replicate(version, source, dest, progress=meter)
    print(sent, flush=True)
    artifacts.check(version, dest)


if __name__ == "__main__":
    main()
