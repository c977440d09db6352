"""Which names a listing shows, page by page.

Sources: https://cloud.google.com/storage/docs/json_api/v1/objects/list and
https://cloud.google.com/storage/docs/xml-api/get-bucket-list
"""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from cloudreg_emulator.google.storage.nouns import Generation
from cloudreg_emulator.google.storage.refusals import invalid
from cloudreg_emulator.google.storage.shelf import Shelf

MOST = 1000
"""Entries of a page, items and prefixes together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a listing asks for.

    Attributes:
        prefix: What names start with.
        delimiter: What ends a folder; "" for none.
        start: The first name that is shown.
        end: The first name that is not; "" for none.
        behind: The name behind which the page begins, as a token or a client tells it.
        versions: Whether replaced generations are shown.
        soft_deleted: Whether what can be restored is shown, and nothing else.
        trailing: Whether a name that ends with the delimiter is shown beside its folder.
        most: Entries of the page.
    """

    prefix: str = ""
    delimiter: str = ""
    start: str = ""
    end: str = ""
    behind: tuple[str, int] = ("", 0)
    versions: bool = False
    soft_deleted: bool = False
    trailing: bool = False
    most: int = MOST


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What is shown.

    Attributes:
        items: Objects, in order.
        prefixes: Folders, in order.
        last: Where the next page begins; None at the end.
    """

    items: tuple[Generation, ...]
    prefixes: tuple[str, ...]
    last: tuple[str, int] | None


def page(shelf: Shelf, wanted: Wanted) -> Page:
    """Return a page; whoever calls holds the lock."""
    items: list[Generation] = []
    prefixes: list[str] = []
    at = wanted.behind
    for entry in _entries(shelf, wanted):
        if len(items) + len(prefixes) == wanted.most:
            return Page(items=tuple(items), prefixes=tuple(prefixes), last=at)
        if isinstance(entry, str):
            prefixes.append(entry)
            # Everything below the folder sorts before this.
            at = (entry + "\U0010ffff", 0)
        else:
            items.append(entry)
            at = (entry.name, entry.generation)
    return Page(items=tuple(items), prefixes=tuple(prefixes), last=None)


def _entries(shelf: Shelf, wanted: Wanted) -> Iterator[Generation | str]:
    """Yield objects and folders in the order of names."""
    names = _names(shelf, wanted)
    behind, generation = wanted.behind
    first = bisect_left(names, max(wanted.prefix, wanted.start, behind))
    shown = ""
    for name in names[first:]:
        if not name.startswith(wanted.prefix) or (wanted.end and name >= wanted.end):
            break
        cut = name.find(wanted.delimiter, len(wanted.prefix)) if wanted.delimiter else -1
        if cut >= 0:
            folder = name[: cut + len(wanted.delimiter)]
            if folder != shown:
                shown = folder
                yield folder
            if not (wanted.trailing and name == folder):
                continue
        for found in _generations(shelf, name, wanted):
            if name != behind or found.generation > generation:
                yield found


def _names(shelf: Shelf, wanted: Wanted) -> list[str]:
    # Code points sort as UTF-8 does.
    if wanted.soft_deleted:
        return sorted(shelf.soft_deleted)
    if wanted.versions:
        return sorted(shelf.live.keys() | shelf.noncurrent.keys())
    return sorted(shelf.live)


def _generations(shelf: Shelf, name: str, wanted: Wanted) -> Iterator[Generation]:
    if wanted.soft_deleted:
        yield from shelf.restorable(name)
    elif wanted.versions:
        yield from shelf.versions(name)
    else:
        yield shelf.live[name]


def token_of(last: tuple[str, int]) -> str:
    """Return the text that brings the next page."""
    return base64.urlsafe_b64encode(f"{last[1]}:{last[0]}".encode()).decode()


def last_of(token: str) -> tuple[str, int]:
    """Return where a page begins.

    Raises:
        Refused: The text was not made here.
    """
    try:
        number, colon, name = base64.urlsafe_b64decode(token).decode().partition(":")
        if colon:
            return name, int(number)
    except (ValueError, binascii.Error) as error:
        raise invalid(f"Invalid page token {token!r}") from error
    raise invalid(f"Invalid page token {token!r}")
