"""What keys are called in a store."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from obstore.store import MemoryStore

from cloudreg.errors import InvalidRequest
from cloudreg.objects import ObstoreObjects, check_key
from cloudreg.objects.keys import before, key_of, name_of, start_of_names

texts = st.text(
    st.one_of(st.sampled_from("%/.0123457AFa \n\x7f~"), st.characters(exclude_categories=["Cs"])),
    min_size=1,
    max_size=12,
)


def is_key(text: str) -> bool:
    try:
        check_key(text)
    except InvalidRequest:
        return False
    return True


keys = texts.filter(is_key)


@given(keys)
def test_name_is_read_back(key: str) -> None:
    """The name of a key is that key's alone, and has no control characters."""
    name = name_of(key)

    assert key_of(name) == key
    assert name.isascii() is key.isascii()
    assert not any(c < " " or c == "\x7f" for c in name)


@given(keys)
def test_name_is_the_key(key: str) -> None:
    """Keys without percent signs and control characters are called what they are."""
    plain = "".join(c for c in key if c >= " " and c not in "%\x7f")

    assert name_of(plain) == plain


@given(keys, st.integers(0, 12))
def test_names_start_alike(key: str, length: int) -> None:
    """Whatever keys a prefix has, their names start with what the listing asks for."""
    assert name_of(key).startswith(start_of_names(key[:length]))


@given(keys, keys)
def test_listing_begins_in_front(first: str, second: str) -> None:
    """A listing of a name begins before the name and everything that starts with it."""
    name = name_of(first)

    assert before(name).encode() < name.encode()
    assert before(name).encode() < (name + name_of(second)).encode()


@given(st.lists(keys, max_size=8, unique=True), st.text(max_size=3), keys)
def test_listing_is_a_filter(present: list[str], prefix: str, after: str) -> None:
    """A listing has the keys with the prefix, behind the key that is given: no more, no less."""
    store = ObstoreObjects(MemoryStore(), target="memory", prefix="p")
    for key in present:
        store.put(b"", key)
    found = [stored.key for stored in store.list(prefix, after=after)]

    assert sorted(found) == sorted(
        key for key in present if key.startswith(prefix) and key.encode() > after.encode()
    )


@pytest.mark.parametrize("key", ["", "/a", "a//b", "a/", "..", "a/../b", "\0", "a\\b", "\ud800"])
def test_no_key(key: str) -> None:
    """What could escape, or mean two things, is no key."""
    with pytest.raises(InvalidRequest):
        check_key(key)
