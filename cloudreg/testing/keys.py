"""Which keys every object store must take, and which it must refuse, as tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cloudreg.errors import InvalidRequest
from cloudreg.provider import ObjectStore
from cloudreg.testing.base import fresh
from cloudreg.testing.objects import ObjectStoreTests, keys, read

ODD_KEYS = {
    "space": "two words/ leading and trailing ",
    "umlaut": "übergröße/ß",
    "composed": "caf\u00e9",
    "decomposed": "cafe\u0301",
    "cjk": "模型/重量",
    "emoji": "🚀/🎯",
    "percent": "100%",
    "encoded": "a%2Fb%20c",
    "query": "a?b=c&d#e",
    "plus": "a+b=c,d;e@f!",
    "quotes": 'it\'s "quoted" `here` $HOME *',
    "colon": "C:/a:b|c<d>e",
    "dots": "...",
    "dot-file": ".hidden/.more",
    "trailing-dot": "a./b.",
    "tilde": "~root/^caret",
    "device": "CON/nul.txt",
    "control": "line\nbreak\ttab",
    "long-part": "p" * 300,
}
"""Keys that are special on some disk, in some shell, address or encoding."""

BAD_KEYS = {
    "empty": "",
    "absolute": "/absolute",
    "double-slash": "a//b",
    "trailing-slash": "a/",
    "parent": "a/../b",
    "leading-parent": "../b",
    "only-parent": "..",
    "dot": "a/./b",
    "nul": "nul\0byte",
    "backslash": "back\\slash",
    "overlong": "x" * 1025,
    "overlong-utf8": "ü" * 513,
    "surrogate": "\ud800",
}
"""Keys that could escape a folder, or that some store cannot hold."""


class KeyTests(ObjectStoreTests):
    """Names of objects."""

    @pytest.mark.parametrize("key", ODD_KEYS.values(), ids=ODD_KEYS)
    def test_odd_key(self, store: ObjectStore, at: str, tmp_path: Path, key: str) -> None:
        """Any Unicode text is a key, and comes back from every verb as it was given."""
        stored = store.put(key.encode(), at + key)
        store.copy(at + key, f"{at}copy of {key}")
        store.get(at + key, tmp_path / "dest")

        assert stored.key == at + key
        assert (tmp_path / "dest").read_bytes() == key.encode()
        assert read(store, f"{at}copy of {key}") == key.encode()
        assert keys(store, at + key) == [at + key]
        store.delete(at + key)
        assert keys(store, at) == [f"{at}copy of {key}"]

    def test_odd_keys_are_different(self, store: ObjectStore, at: str) -> None:
        """Keys that look alike, or are alike once encoded or folded, are different objects."""
        names = [*ODD_KEYS.values(), "a%2fb c", "a/b c", "a%2Fb c", "a%252Fb c", "CAFE\u0301"]
        names += ["a+b", "a b", "a%20b", "A b", "Übergröße/ß", "Übergröße/SS", ".d"]
        for name in names:
            store.put(name.encode(), at + name, if_absent=True)

        assert keys(store, at) == sorted((at + name for name in names), key=str.encode)
        for name in names:
            assert read(store, at + name) == name.encode()

    def test_longest_key(self, store: ObjectStore, at: str) -> None:
        """A key may have 1024 bytes."""
        key = at + "ü" * ((1024 - len(at)) // 2) + "k" * ((1024 - len(at)) % 2)
        store.put(b"x", key, if_absent=True)

        assert len(key.encode()) == 1024
        assert read(store, key) == b"x"
        assert keys(store, at) == [key]

    @pytest.mark.parametrize("key", BAD_KEYS.values(), ids=BAD_KEYS)
    def test_bad_key(self, store: ObjectStore, at: str, tmp_path: Path, key: str) -> None:
        """A key that could escape or be lost is `InvalidRequest` to every verb."""
        store.put(b"x", f"{at}a")
        acts: dict[str, Callable[[], object]] = {
            "put": lambda: store.put(b"x", key),
            "put if_absent": lambda: store.put(b"x", key, if_absent=True),
            "get": lambda: store.get(key, tmp_path / "dest"),
            "open": lambda: store.open(key),
            "copy from": lambda: store.copy(key, f"{at}b"),
            "copy to": lambda: store.copy(f"{at}a", key),
            "delete": lambda: store.delete(key),
        }
        for verb, act in acts.items():
            try:
                act()
            except InvalidRequest:
                continue
            pytest.fail(f"{verb} took the key {key[:20]!r}")

        assert keys(store, at) == [f"{at}a"]
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "shape", ["a//{}", "a/../{}", "../{}", "{}/", "{}\0", "b\\{}"], ids=ascii
    )
    def test_bad_key_writes_nothing(self, store: ObjectStore, at: str, shape: str) -> None:
        """A refused put leaves no object, neither at the key nor at what it could mean."""
        name = fresh("escaped")
        with pytest.raises(InvalidRequest):
            store.put(b"x", at + shape.format(name))

        assert keys(store, at[:-1]) == []
        assert keys(store, name) == []
