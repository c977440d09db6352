"""Object keys and the paths that hold them."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cloudreg.errors import InvalidRequest
from cloudreg.names import MAX_KEY
from cloudreg_local import keys
from cloudreg_local.store import LocalStore

# No deadline: the machine is shared.
STEADY = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

# Weighted towards what is special: separators, our own endings, what encodings use.
_CHARACTERS = st.one_of(
    st.sampled_from(list("ab./d+%~ ")),
    st.characters(exclude_categories=("Cs",), exclude_characters="\0\\"),
)
_PARTS = st.text(_CHARACTERS, min_size=1, max_size=120).map(lambda text: text.replace("/", "-"))
KEYS = (
    st.lists(_PARTS, min_size=1, max_size=6)
    .filter(lambda parts: not {".", ".."} & set(parts))
    .map("/".join)
    .filter(lambda key: len(key.encode()) <= MAX_KEY)
)


def back(path: str) -> bytes:
    """Read a path as the store does when it lists."""
    *folders, last = path.split("/")
    parts = [keys.decode(name, is_folder=True) for name in folders]
    parts.append(keys.decode(last, is_folder=False))
    assert None not in parts, path
    return b"".join(part for part in parts if part is not None)


@STEADY
@given(KEYS)
@example("a")
@example("a.d/b.+/c%/%25")
@example("x" * keys.PIECE)
@example("x" * (keys.PIECE * 3))
@example("x" * (keys.PIECE * 3 + 1) + "/y")
@example("ü" * keys.PIECE)
@example("a" * MAX_KEY)
def test_round_trip(key: str) -> None:
    """A key's path leads back to the key, byte for byte."""
    assert back(keys.path_of(keys.check_key(key))) == key.encode()


@STEADY
@given(KEYS)
@example("../a".replace("..", "...") + "/.hidden")
@example("\u202e" * 300)
@example("%" * MAX_KEY)
def test_paths_are_plain(key: str) -> None:
    """A path stays in its folder, hides nothing, and has no name beyond 255 bytes of ASCII."""
    path = keys.path_of(keys.check_key(key))

    assert path.isascii()
    assert path.isprintable()
    assert not PurePosixPath(path).is_absolute()
    for name in path.split("/"):
        assert 1 <= len(name) <= 255
        assert not name.startswith(".")


@STEADY
@given(st.sets(KEYS, min_size=2, max_size=12))
@example({"a", "a/b", "a.d", "a.d/b", "a.+", "a.+/b"})
@example({"x" * 80, "x" * 81, "x" * 80 + "/x", "x" * 79, "x" * 79 + "/x"})
def test_no_two_keys_meet(found: set[str]) -> None:
    """Different keys have different files, and no key's file is another key's folder."""
    paths = {keys.path_of(keys.check_key(key)) for key in found}
    folders = {str(parent) for path in paths for parent in PurePosixPath(path).parents}

    assert len(paths) == len(found)
    assert not paths & folders


@STEADY
@given(KEYS, KEYS)
def test_folder_holds_what_is_below(folder: str, rest: str) -> None:
    """The keys below a prefix lie in the folder of that prefix."""
    key = f"{folder}/{rest}"
    if len(key.encode()) <= MAX_KEY:
        path = keys.path_of(keys.check_key(key))
        assert path.startswith(keys.folder_of(folder.encode()) + "/")


@pytest.mark.parametrize(
    "key",
    [
        "", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a/.", "../../etc/passwd",
        "a\0b", "a\\b", "..\\a", "\ud800", "x" * (MAX_KEY + 1), "ü" * (MAX_KEY // 2 + 1),
    ],
)  # fmt: skip
def test_hostile_keys_are_refused(key: str, tmp_path: Path) -> None:
    """What could leave the folder, or is no text, is refused by every verb before a write."""
    store = LocalStore(tmp_path / "store", target="laptop")

    for verb in (
        lambda: store.put(b"", key),
        lambda: store.open(key),
        lambda: store.get(key, tmp_path / "out"),
        lambda: store.copy(key, "a"),
        lambda: store.copy("a", key),
        lambda: store.delete(key),
    ):
        with pytest.raises(InvalidRequest):
            verb()
    assert list(tmp_path.iterdir()) == []


HARMLESS = [
    "CON", "nul.txt", "a:b", "a*b?", "a|b", '"a"', "<a>", "~/x", "-rf", "$HOME", "%2e%2e/a", "...",
    ".ssh/id", "é", "e\u0301", "A", "a", "a ", " a", "a\nb", "\u200b", "🦆" * 60, "a.d", "a.d.d",
    "a/b", "a.+", "%", "%25", ".parts/x", ".lock",
]  # fmt: skip


def test_odd_names_are_objects_of_their_own(tmp_path: Path) -> None:
    """Names that mean something to a shell or another file system are only names here.

    Case and Unicode form count: nothing is folded into anything else.
    """
    store = LocalStore(tmp_path / "store", target="laptop")
    for key in HARMLESS:
        store.put(key.encode(), key, if_absent=True)

    assert [found.key for found in store.list("")] == sorted(HARMLESS, key=str.encode)
    for key in HARMLESS:
        with store.open(key) as reader:
            assert reader.read() == key.encode()
    assert {path.name for path in tmp_path.iterdir()} == {"store"}


@STEADY
@given(st.sets(KEYS, max_size=15), st.text(_CHARACTERS, max_size=5), st.text(_CHARACTERS))
@example({"a", "a/b", "a-b", "a0"}, "a", "a/")
@example({"x" * 80, "x" * 81, "x" * 80 + "/x", "x" * 79 + "y"}, "x" * 80, "")
@example({"x" * 200 + "/a", "x" * 200 + "/b"}, "x" * 200 + "/", "x" * 200 + "/a")
def test_listing_is_what_sorting_says(
    tmp_path_factory: pytest.TempPathFactory, found: set[str], prefix: str, after: str
) -> None:
    """A listing equals the sorted keys with that prefix behind that key, whatever they are."""
    store = LocalStore(tmp_path_factory.mktemp("list"), target="laptop")
    for key in found:
        store.put(b"", key)
    # Prefixes of real keys hit more than random text does.
    for start in {prefix, *(key[: len(key) // 2] for key in found), *found}:
        for behind in {after, *found}:
            wanted = sorted(
                key.encode()
                for key in found
                if key.startswith(start) and key.encode() > behind.encode()
            )
            listed = [one.key.encode() for one in store.list(start, after=behind)]
            assert listed == wanted
