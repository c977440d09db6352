"""Collections of resources: what is there, what was there, and pages of it."""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cloudreg_emulator.aws.sagemaker.errors import invalid
from cloudreg_emulator.faults import Faults, Kind, When

__all__ = ["Shelf", "page"]

Body = Mapping[str, Any]

PAGE = 10
"""Items of a page where the caller names no number; the service's default."""

KEPT = 10_000
"""Changes that a stale list can look back on."""


class Shelf:
    """Resources by key; each is a response body that is replaced and never changed."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._bodies: dict[str, Body] = {}
        self._changes: deque[tuple[float, str, Body | None]] = deque(maxlen=KEPT)

    def __contains__(self, key: str) -> bool:
        return key in self._bodies

    def __iter__(self) -> Iterator[Body]:
        return iter(list(self._bodies.values()))

    def get(self, key: str) -> Body | None:
        """Return one resource."""
        return self._bodies.get(key)

    def put(self, key: str, body: Body) -> None:
        """Create or replace a resource."""
        self._changes.append((time.monotonic(), key, self._bodies.get(key)))
        self._bodies[key] = body

    def drop(self, key: str) -> None:
        """Remove a resource."""
        self._changes.append((time.monotonic(), key, self._bodies.pop(key, None)))

    def listed(self, faults: Faults, operation: str) -> list[Body]:
        """Return what a list shows: what there is or, where it shall be stale, what there was."""
        fault = faults.strike("sagemaker", operation, When.LIST)
        if fault is None or fault.kind is not Kind.STALE:
            return list(self._bodies.values())
        bodies = dict(self._bodies)
        since = time.monotonic() - fault.seconds
        for moment, key, before in reversed(self._changes):
            if moment < since:
                break
            if before is None:
                bodies.pop(key, None)
            else:
                bodies[key] = before
        return list(bodies.values())


def page(
    bodies: Sequence[Body],
    request: Mapping[str, Any],
    *,
    name: str,
    keep: Callable[[Body], bool] = lambda body: True,
    sort: Mapping[str, str] | None = None,
    order: str = "Descending",
) -> tuple[list[Body], str | None]:
    """Return one page of what a list request asks for, and the token of the next one.

    A token names the last item and not a number of items: what is created or deleted between two
    pages neither repeats nor hides another item.

    Args:
        bodies: Everything, in the order of creation.
        request: With ``MaxResults``, ``NextToken``, ``SortBy``, ``SortOrder``, ``NameContains``
            and the bounds of time.
        name: The field that is the resource's name.
        keep: What else is asked for.
        sort: Field by value of ``SortBy``, beyond ``Name`` and ``CreationTime``.
        order: The operation's own ``SortOrder``.
    """
    keys = {"Name": name, "CreationTime": "CreationTime", **(sort or {})}
    field = keys[request.get("SortBy") or "CreationTime"]
    backwards = (request.get("SortOrder") or order) == "Descending"

    def rank(body: Body) -> tuple[Any, ...]:
        value = body.get(field)
        version = body.get("ModelPackageVersion", 0)
        return (_sortable(value), _sortable(body["CreationTime"]), version, _id(body))

    found = sorted((b for b in bodies if _matches(b, request, name) and keep(b)), key=rank)
    if backwards:
        found.reverse()
    token = request.get("NextToken")
    if token:
        last = _read(token)
        try:
            found = [b for b in found if (rank(b) < last if backwards else rank(b) > last)]
        except TypeError:
            # A token of another operation, or of another order.
            raise invalid("Invalid NextToken.") from None
    size = request.get("MaxResults") or PAGE
    shown = found[:size]
    return shown, (_write(rank(shown[-1])) if len(found) > size else None)


def _id(body: Body) -> str:
    return str(next((value for key, value in body.items() if key.endswith("Arn")), ""))


def _sortable(value: Any) -> Any:
    return value.timestamp() if isinstance(value, datetime) else ("" if value is None else value)


_BOUNDS = (
    ("CreationTimeAfter", "CreationTime", 1),
    ("CreationTimeBefore", "CreationTime", -1),
    ("LastModifiedTimeAfter", "LastModifiedTime", 1),
    ("LastModifiedTimeBefore", "LastModifiedTime", -1),
)


def _matches(body: Body, request: Mapping[str, Any], name: str) -> bool:
    part = request.get("NameContains")
    if part and part.lower() not in str(body.get(name, "")).lower():
        return False
    for bound, field, sign in _BOUNDS:
        limit = request.get(bound)
        if limit is not None and (_seconds(body[field]) - _seconds(limit)) * sign <= 0:
            return False
    return True


def _seconds(moment: datetime) -> float:
    # moto's parser yields naive times, which mean UTC.
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _write(rank: tuple[Any, ...]) -> str:
    return base64.urlsafe_b64encode(json.dumps(rank).encode()).decode()


def _read(token: str) -> tuple[Any, ...]:
    try:
        return tuple(json.loads(base64.urlsafe_b64decode(token)))
    except (binascii.Error, ValueError, TypeError):
        raise invalid("Invalid NextToken.") from None
