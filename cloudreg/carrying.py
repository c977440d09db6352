"""Bytes that are too many for this machine: a service of the cloud carries them to a target."""

from __future__ import annotations

from collections.abc import Callable

from cloudreg.artifacts import check, lacking
from cloudreg.names import canonical_json, sha256
from cloudreg.operations import SILENT, Progress, wait
from cloudreg.provider import Provider
from cloudreg.types import ModelVersion

PATIENCE_S = 24 * 3600.0
"""What it begins goes on without us; the same call finds it again."""


def hand_over(
    version: ModelVersion,
    home: Provider,
    provider: Provider,
    *,
    limit: int | None,
    target: str,
    progress: Progress = SILENT,
    on_poll: Callable[[], None] = lambda: None,
) -> bool:
    """Let a service copy what *provider* lacks of a version, where that is above the limit.

    What it copied is not trusted: every byte is read on the target and hashed again, before its
    manifest says that the version is there.

    Returns:
        Whether a service copied, and so all files of the version have been hashed there.

    Args:
        version: Which one.
        home: Where its bytes are.
        provider: Where they go.
        limit: Bytes that may go through this machine; None for any number.
        target: The name of *provider*, for messages.
        progress: Where it is shown.
        on_poll: Called while it waits.

    Raises:
        Unsupported: They are more, and no service copies them.
        IntegrityError: It brought other bytes than were registered; they are removed.
        OperationFailed: The service gave up, in its own words.
        OperationTimeout: It is still at work, and goes on.
    """
    if limit is None:
        return False
    lacks = lacking(version, provider.store)
    by_service = provider.capabilities.require_transfer(
        version.ref, lacks.size, limit, source=home.location, target=target
    )
    if not by_service:
        return False
    on_poll()
    # All its files, and not what is missing now: whoever repeats a copy that is under way lacks
    # less, and asks for the same one. What is there is not copied.
    keys = sorted({entry.key for entry in version.manifest.files})
    name = sha256(canonical_json([home.location, provider.location, version.digest]))
    service, source = provider.transfers.service, home.location
    operation = provider.transfers.start(name.removeprefix("sha256:")[:40], source, keys)
    progress.say(f"{version.ref}: {service} copies {lacks.files} files from {source}")
    wait(operation, timeout_s=PATIENCE_S, progress=progress, target=target, on_poll=on_poll)
    check(version, provider.store, target=target, progress=progress, record=home.store)
    return True
