"""What a key is called in the store.

Nearly every key has its own name there: whoever reads a bucket with another tool finds the files
as they were registered. obstore takes no control characters, so those are percent-encoded, and so
is a percent sign that would look like one of them::

    weights/two words 100%.bin      the same
    line<newline>break              line%0Abreak
    line%0Abreak                    line%250Abreak

Keys are listed in the order of these names. It is that of the keys themselves, except beside keys
with control characters or such percent signs, which no file of a version has.
"""

from __future__ import annotations

import re

from cloudreg.errors import InvalidRequest
from cloudreg.names import check_key

_CONTROL = r"[01][0-9A-F]|7F"
_UNSAFE = re.compile(rf"[\x00-\x1f\x7f]|%(?={_CONTROL}|25)")
_ESCAPE = re.compile(r"~%7F|%([01][0-9A-F]|25)")
_DELETE = "~%7F"
_LAST = "\U0010ffff"


def name_of(key: str) -> str:
    """Return what the store calls *key*."""
    # The last control character sorts behind all ASCII, and so does what it is called.
    return _UNSAFE.sub(
        lambda found: _DELETE if found[0] == "\x7f" else f"%{ord(found[0]):02X}", key
    )


def key_of(name: str) -> str:
    """Return the key that the store calls *name*."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else "\x7f", name)


def begins_keys(prefix: str) -> bool:
    """Whether any key can start with *prefix*."""
    # What follows can make any last part a good one; a letter stands for it.
    return any(_is_key(key) for key in (prefix, f"{prefix}x"))


def _is_key(key: str) -> bool:
    try:
        check_key(key)
    except InvalidRequest:
        return False
    return True


def start_of_names(prefix: str) -> str:
    """Return the longest text that the names of all keys with *prefix* start with."""
    # A percent sign near the end is encoded or not, depending on what follows it.
    at = prefix.rfind("%", max(0, len(prefix) - 2))
    return name_of(prefix if at < 0 else prefix[:at])


def before(name: str) -> str:
    """Return a name that sorts before *name* and all that start with it, and behind most others.

    A store lists what sorts strictly behind a name, so this is where a listing of *name* begins.
    """
    head, last = name[:-1], ord(name[-1]) - 1
    # obstore takes neither control characters nor empty parts, and UTF-8 has no surrogates.
    if last < ord(" ") or last == 0x7F or 0xD800 <= last <= 0xDFFF or chr(last) in "/.":
        return head
    return head + chr(last) + _LAST


def behind(after: str) -> str:
    """Return a name behind which all names of keys behind *after* are; "" for all of them."""
    found = re.search(r"[\x00-\x1f\x7f%~]", after)
    if found is None:
        return after
    # From there on names have another order than keys.
    start = after[: found.start()]
    return before(start) if start else ""
