"""An archive is unpacked as if it came from an enemy: regular files, safe names, within limits."""

from __future__ import annotations

import gzip
import io
import os
import resource
import stat
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloudreg.errors import InvalidRequest, NotFound
from cloudreg.importers import Source, directory
from cloudreg.importers.archive import Limits, opened

FILES = {
    "model.safetensors": b"\x01" * 3000,
    "code/net.py": b"import torch\n",
    "code/deep/er/x.py": b"",
    "512.bin": b"\x02" * 512,
    "größe.txt": b"3 m",
}

Member = tuple[str, bytes, dict[str, Any]]
Refused = Callable[..., InvalidRequest]


def tar(*members: Member | tuple[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a tar archive of (name, content, fields of the header)."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as archive:
        for name, content, *fields in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in (fields[0] if fields else {}).items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Member:
    return name, b"", {"type": kind, "linkname": target}


def header(
    name: str, content: bytes = b"", *, kind: bytes = b"0", size: int | None = None
) -> bytes:
    """Return one raw member with a header that says what it likes."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(content) if size is None else size
    block = info.tobuf(tarfile.GNU_FORMAT)[:512]
    return block + content + bytes(-len(content) % 512)


END = bytes(1024)


def pax(records: dict[str, str], *, kind: bytes = b"x") -> bytes:
    """Return a raw extended header."""
    text = b""
    for key, value in records.items():
        body = f" {key}={value}\n".encode()
        length = len(body) + 1
        while len(str(length)) + len(body) != length:
            length += 1
        text += str(length).encode() + body
    return header("pax", text, kind=kind)


def zipped(*members: tuple[Any, bytes], packed: bool = True) -> bytes:
    made = io.BytesIO()
    how = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(made, "w", how) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return made.getvalue()


def info(name: str, mode: int = stat.S_IFREG | 0o644, **fields: Any) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    made.external_attr = mode << 16
    for key, value in fields.items():
        setattr(made, key, value)
    return made


def patched(data: bytes, *changes: tuple[bytes, bytes]) -> bytes:
    """Return *data* with bytes exchanged, wherever they stand."""
    for old, new in changes:
        assert old in data
        assert len(old) == len(new)
        data = data.replace(old, new)
    return data


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that temporary folders are made in."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def write(tmp_path: Path, scratch: Path) -> Callable[[str, bytes], Path]:
    """Write an archive among files that must not be touched."""

    def make(name: str, data: bytes) -> Path:
        (tmp_path / "secret").write_text("secret")
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return make


@pytest.fixture
def refused(write: Callable[[str, bytes], Path], scratch: Path, tmp_path: Path) -> Refused:
    """Open an archive, and return the refusal, once it is sure that nothing was left."""

    def read(name: str, data: bytes, **limits: Any) -> InvalidRequest:
        path = write(name, data)
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(InvalidRequest) as caught, opened(path, limits=Limits(**limits)):
            pytest.fail("it was read")
        assert sorted(tmp_path.rglob("*")) == before
        assert list(scratch.iterdir()) == []
        assert (tmp_path / "secret").read_text() == "secret"
        assert str(scratch) not in caught.value.message
        return caught.value

    return read


def contents(source: Source) -> dict[str, bytes]:
    return {file.path: file.location.read_bytes() for file in source.files}


def good() -> Iterator[tuple[str, bytes]]:
    members = list(FILES.items())
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        yield f"{form}.tar", tar(*members, form=form)
    plain = tar(*members)
    yield "model.tar.gz", gzip.compress(plain)
    yield "MODEL.TGZ", gzip.compress(plain[:700]) + gzip.compress(plain[700:])
    dotted = [("./", b"", {"type": tarfile.DIRTYPE}), ("./code/", b"", {"type": tarfile.DIRTYPE})]
    yield "dotted.tar", tar(*dotted, *((f"./{name}", content) for name, content in members))
    comment = pax({"comment": "0" * 40}, kind=b"g")
    yield "git.tar", comment + plain
    yield "padded.tar", plain + bytes(20_000)
    yield "model.zip", zipped(("code/", b""), *members)
    yield "stored.zip", zipped(*members, packed=False)


@pytest.mark.parametrize(("name", "data"), list(good()), ids=lambda x: x if len(x) < 20 else "")
def test_every_kind(write: Any, scratch: Path, name: str, data: bytes) -> None:
    """The files of an archive are those of the folder that was packed; the folder goes after."""
    with opened(write(name, data)) as source:
        assert contents(source) == FILES
        assert len(list(scratch.iterdir())) == 1
    assert list(scratch.iterdir()) == []


def test_same_version_as_the_folder(write: Any, tmp_path: Path) -> None:
    """What ``tar`` and ``zip`` of Python write of a folder describes itself as the folder does."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.toml").write_text("[metrics]\nauc = 0.9\n")
    (folder / "w.bin").write_bytes(b"12345")
    (folder / ".DS_Store").write_bytes(b"x")
    with tarfile.open(tmp_path / "m.tar.gz", "w:gz") as archive:
        archive.add(folder, arcname=".")
    plain = directory.read(folder)
    with opened(tmp_path / "m.tar.gz") as source:
        assert contents(source) == contents(plain) == {"w.bin": b"12345"}
        assert source.description == plain.description


def test_long_names(write: Any) -> None:
    """Names that need an extended header are read, in both ways of writing one."""
    name = "/".join(["folder" * 10] * 5) + "/weights.bin"
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with opened(write("a.tar", tar((name, b"x"), form=form))) as source:
            assert contents(source) == {name: b"x"}


def test_size_in_a_pax_header(write: Any) -> None:
    """A size that stands in an extended header beats the one in the header."""
    data = pax({"size": "3"}) + header("a", b"abc", size=0) + END
    with opened(write("a.tar", data)) as source:
        assert contents(source) == {"a": b"abc"}


def test_folders_and_files_are_read_as_before(write: Any, tmp_path: Path) -> None:
    """Folders and files of other kinds are no archives, whatever a folder is called."""
    for name in ("weights.npz", "model.pt"):
        with opened(write(name, b"x")) as source:
            assert contents(source) == {name: b"x"}
    (tmp_path / "model.zip").mkdir()
    (tmp_path / "model.zip" / "a.txt").write_text("a")
    with opened(tmp_path / "model.zip") as source:
        assert contents(source) == {"a.txt": b"a"}
    with pytest.raises(NotFound), opened(tmp_path / "none.tar.gz"):
        pass


def test_gone_after_an_error(write: Any, scratch: Path) -> None:
    """Whatever ends the block, the temporary folder goes."""
    with pytest.raises(KeyError), opened(write("a.tar", tar(("a", b"x")))):
        raise KeyError
    assert list(scratch.iterdir()) == []


ESCAPING = (
    "../evil", "a/../../evil", "/etc/evil", "//host/evil", "a\\b", "..\\evil", "C:evil", "C:/evil",
    "a//b", "a/./b", "./../evil", "a/..", "%2e%2e/evil", "a\nb", "a\u202eb", "\uff41.txt",
    "a\u2215b", "x" * 300, "/".join(["y" * 90] * 6), "con", "nul.txt", "a.",
    " a", "a ", ".cloudreg/x", ".CLOUDREG/manifest.json", "e\u0301.txt",
)  # fmt: skip


@pytest.mark.parametrize("name", ESCAPING)
@pytest.mark.parametrize("kind", ["pax", "gnu", "zip", "folder"])
def test_names_that_are_not_safe(refused: Refused, kind: str, name: str) -> None:
    """A name that is not a plain relative path is refused, however it is written down."""
    if kind == "zip":
        refusal = refused("a.zip", zipped(("fine", b"x"), (name, b"x")))
    elif kind == "folder":
        refusal = refused("a.tar", tar((name, b"", {"type": tarfile.DIRTYPE}), ("fine", b"x")))
    else:
        form = tarfile.PAX_FORMAT if kind == "pax" else tarfile.GNU_FORMAT
        refusal = refused("a.tar", tar(("fine", b"x"), (name, b"x"), form=form))
    assert "file path" in refusal.message


HOSTILE_TARS = {
    "link to outside": (tar(link("a", "../../secret")), "a symbolic link"),
    "link to inside": (tar(("b", b"x"), link("a", "b")), "a symbolic link"),
    "link, then a file through it": (tar(link("d", "/tmp"), ("d/evil", b"x")), "a symbolic link"),
    # https://github.com/python/cpython/issues/135034
    "CVE-2025-4517: a path that is too long to be resolved": (
        tar(
            *[link("/".join("abcdefghijklmnop"[: i + 1]), "d" * 247) for i in range(16)],
            link("escape", "l" * 254 + "/../../../../etc"),
            link("flaglink", "escape/flag", tarfile.LNKTYPE),
            ("flaglink", b"overwritten"),
        ),
        "a symbolic link",
    ),
    "CVE-2025-4330: a link behind a folder": (
        tar(("a/", b"", {"type": tarfile.DIRTYPE}), link("a/b", "../x/../..")),
        "a symbolic link",
    ),
    "CVE-2025-4138: a link by a hard link": (
        tar(("b", b"x"), link("a", "b", tarfile.LNKTYPE)),
        "a hard link",
    ),
    "hard link to outside": (tar(link("a", "../../secret", tarfile.LNKTYPE)), "a hard link"),
    "hard link to itself": (tar(link("a", "a", tarfile.LNKTYPE)), "a hard link"),
    "character device": (tar(("a", b"", {"type": tarfile.CHRTYPE})), "a device"),
    "block device": (tar(("a", b"", {"type": tarfile.BLKTYPE})), "a device"),
    "FIFO": (tar(("a", b"", {"type": tarfile.FIFOTYPE})), "a FIFO"),
    "contiguous file": (tar(("a", b"", {"type": tarfile.CONTTYPE})), "no regular file"),
    "unknown type": (header("a", kind=b"Z") + END, "no regular file"),
    "GNU long link": (header("a", b"target\0", kind=b"K") + END, "no regular file"),
    "Solaris header": (header("a", b"x", kind=b"X") + END, "no regular file"),
    "GNU sparse": (header("a", b"x", kind=b"S") + END, "a sparse file"),
    "PAX sparse": (
        pax({"GNU.sparse.major": "1", "GNU.sparse.name": "evil"}) + header("a", b"x") + END,
        "a sparse file",
    ),
    "PAX path": (pax({"path": "../evil"}) + header("fine", b"x") + END, "file path '../evil'"),
    "PAX path with NUL": (pax({"path": "a\0b"}) + header("fine", b"x") + END, "file path"),
    "PAX path that is empty": (pax({"path": ""}) + header("fine", b"x") + END, "file path ''"),
    "PAX path for all": (pax({"path": "b"}, kind=b"g") + header("a", b"x") + END, "all files one"),
    "PAX size for all": (pax({"size": "0"}, kind=b"g") + header("a", b"x") + END, "all files one"),
    "PAX size that is none": (pax({"size": "-1"}) + header("a", b"x") + END, "said to have '-1'"),
    "PAX size of more": (pax({"size": "99999"}) + header("a", b"x") + END, "cut off"),
    "PAX record of a wrong length": (header("p", b"99 a=b\n", kind=b"x") + END, "cannot be read"),
    "PAX record without a length": (header("p", b"path=b\n", kind=b"x") + END, "no archive"),
    "PAX record of nothing": (header("p", b"0 path=b\n", kind=b"x") + END, "cannot be read"),
    "PAX record that is no text": (
        header("p", b"11 path=\xff\xfe\n", kind=b"x") + header("a", b"x") + END,
        "no archive",
    ),
    "PAX header without a file": (pax({"path": "b"}) + END, "ends where a file should follow"),
    "header of gigabytes": (header("a", kind=b"x", size=2**33 - 1), "a header of"),
    "long name of gigabytes": (header("a", kind=b"L", size=2**33 - 1), "a header of"),
    "long name with NUL inside": (
        header("a", b"evil\0../b\0", kind=b"L") + header("a", b"x") + END,
        "file path",
    ),
    "long name with ..": (
        header("a", b"../" * 50 + b"evil\0", kind=b"L") + header("a", b"x") + END,
        "file path",
    ),
    "twice": (tar(("a", b"x"), ("b", b"y"), ("a", b"z")), "'a' is in it twice"),
    "twice by a dot": (tar(("a", b"x"), ("./a", b"z")), "the same file as 'a'"),
    "twice by case": (tar(("Model.bin", b"x"), ("model.BIN", b"z")), "the same file as"),
    "twice by folding": (tar(("straße", b"x"), ("STRASSE", b"z")), "the same file as"),
    "file, then a folder": (tar(("a", b"x"), ("A/b", b"z")), "in one that is a file"),
    "folder, then a file": (tar(("a/b", b"x"), ("A", b"z")), "where there is a folder"),
    "folder entry, then a file": (
        tar(("a", b"", {"type": tarfile.DIRTYPE}), ("a", b"z")),
        "where there is a folder",
    ),
    "file, then a folder entry": (
        tar(("a", b"z"), ("a", b"", {"type": tarfile.DIRTYPE})),
        "where there is a file",
    ),
    "folder with content": (header("a/", b"x", kind=b"5") + END, "a folder with content"),
    "file that is the folder": (tar((".", b"x")), "no name of a file"),
    "size of more than there is": (header("a", b"x" * 10, size=10**9) + END, "cut off"),
    "size of exabytes": (header("a", b"x", size=2**62), "cut off"),
    "negative size": (
        patched(header("a", b"x"), (b"00000000001\0", b"\xff" * 12)),
        "no archive",
    ),
    "size of less than there is": (header("a", b"\x01" * 2000, size=10) + END, "no archive"),
    "checksum": (patched(tar(("aaaa", b"x")), (b"aaaa", b"bbbb")), "no archive"),
    "no end": (header("a", b"x"), "without an end mark"),
    "cut in a header": (header("a", b"x")[:300], "without an end mark"),
    "cut in a padding": (header("a", b"x")[:600], "breaks off in a file"),
    "cut in an extension": (header("a", b"9 a=bcd\n", kind=b"x")[:514], "breaks off in a header"),
    "another one behind it": (tar(("a", b"x")) + tar(("b", b"y")), "more behind its end"),
    "garbage": (b"not an archive" * 100, "no archive"),
    "empty": (b"", "without an end mark"),
    "no file": (END, "holds no file"),
    "junk alone": (tar((".DS_Store", b"x")), "a.tar holds no file"),
    "name that is no UTF-8": (
        patched(tar(("aaaa", b"x")), (b"aaaa", b"\xff\xfe\xfd\xfc")),
        "no arch",
    ),
}


@pytest.mark.parametrize("case", HOSTILE_TARS)
@pytest.mark.parametrize("packed", [False, True])
def test_hostile_tar(refused: Refused, case: str, packed: bool) -> None:
    """Whatever is no plain file of a plain name is refused, and nothing is left."""
    data, reason = HOSTILE_TARS[case]
    name = "a.tar.gz" if packed else "a.tar"
    refusal = refused(name, gzip.compress(data) if packed else data)
    assert reason.replace("a.tar ", f"{name} ") in refusal.message, refusal.message


HOSTILE_ZIPS = {
    "link": (zipped((info("a", stat.S_IFLNK | 0o777), b"../secret")), "a symbolic link"),
    "device": (zipped((info("a", stat.S_IFCHR), b"")), "a device"),
    "FIFO": (zipped((info("a", stat.S_IFIFO), b"")), "a FIFO"),
    "socket": (zipped((info("a", stat.S_IFSOCK), b"")), "a socket"),
    "link from elsewhere": (
        zipped((info("a", stat.S_IFLNK, create_system=0), b"../secret")),
        "a symbolic link",
    ),
    "NUL": (patched(zipped(("a.txtX.py", b"x")), (b"a.txtX.py", b"a.txt\0.py")), "file path"),
    "twice by case": (zipped(("A", b"x"), ("a", b"y")), "the same file as"),
    "file and folder": (zipped(("a", b"x"), ("a/b", b"y")), "in one that is a file"),
    "folder with content": (zipped(("a/", b"xyz")), "a folder with content"),
    "bzip2": (zipped((info("a", compress_type=zipfile.ZIP_BZIP2), b"x")), "a way that is not"),
    "lzma": (zipped((info("a", compress_type=zipfile.ZIP_LZMA), b"x")), "a way that is not"),
    "cut": (zipped(("a", b"x" * 1000))[:-40], "no archive"),
    "garbage": (b"PK\x03\x04" + bytes(200), "no archive"),
    "empty": (zipped(), "holds no file"),
    "checksum": (
        patched(zipped(("a", b"weights"), packed=False), (b"weights", b"WEIGHTS")),
        "no archive",
    ),
    "another name inside": (
        zipped(("aaaa", b"x")).replace(b"aaaa", b"bbbb", 1),
        "no archive",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE_ZIPS)
def test_hostile_zip(refused: Refused, case: str) -> None:
    """Whatever is no plain file of a plain name is refused, and nothing is left."""
    data, reason = HOSTILE_ZIPS[case]
    assert reason in refused("a.zip", data).message


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_twice_in_a_zip(refused: Refused) -> None:
    """Of two files of one name no one knows which is meant."""
    assert "in it twice" in refused("a.zip", zipped(("a", b"x"), ("a", b"y"))).message


def test_encrypted_zip(refused: Refused) -> None:
    """A file that needs a password is refused by name."""
    data = bytearray(zipped(("secret.bin", b"x")))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    assert "'secret.bin' is encrypted" in refused("a.zip", bytes(data)).message


def test_lying_sizes_in_a_zip(refused: Refused) -> None:
    """A size in the directory that is not the file's is found while reading."""
    content = b"0123456789" * 100
    data = zipped(("a", content))
    for said in (10, 5000, 2**31):
        lying = data.replace(struct.pack("<I", 1000), struct.pack("<I", said))
        assert "a.zip" in refused("a.zip", lying).message


def test_bombs(refused: Refused) -> None:
    """What grows beyond all measure is refused by its ratio, counted and not believed."""
    zeros = bytes(8 * 1024 * 1024)
    for name, data in (
        ("a.tar.gz", gzip.compress(tar(("a", zeros)))),
        ("b.tar.gz", gzip.compress(tar(*((f"{n}", zeros[:1_000_000]) for n in range(8))))),
        ("c.tar.gz", gzip.compress(tar(("a", b"x")) + zeros)),
        ("a.zip", zipped(("a", zeros))),
        ("b.zip", zipped(*((f"{n}", zeros[:1_000_000]) for n in range(8)))),
    ):
        assert "more than 200 times its own size" in refused(name, data).message


def test_bomb_of_overlapping_files(refused: Refused) -> None:
    """A directory that names the same bytes many times is refused: by name, or by ratio."""
    content = bytes(2_000_000)
    data = zipped(("aaaa", content))
    start = data.index(b"PK\x01\x02")
    entry = data[start : data.index(b"PK\x05\x06")]
    names = [f"{n:04d}".encode() for n in range(50)]
    many = b"".join(entry.replace(b"aaaa", name) for name in (b"aaaa", *names))
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 51, 51, len(many), start, 0)
    assert "a.zip" in refused("a.zip", data[:start] + many + end).message


def test_directory_of_gigabytes(refused: Refused) -> None:
    """A zip directory that claims to be huge is not read."""
    data = bytearray(zipped(("a", b"x")))
    end = data.index(b"PK\x05\x06")
    data[end + 12 : end + 16] = struct.pack("<I", 2**32 - 2)
    assert "no archive" in refused("a.zip", bytes(data)).message


def test_limits(refused: Refused, write: Any) -> None:
    """Each limit can be given, and is the last that is let through."""
    files = tar(("a", b"x" * 1000), ("b", b"y"))
    assert "more than 1000 bytes" in refused("a.tar", files, max_bytes=1000).message
    assert "more than 1 files" in refused("a.tar", files, max_files=1).message
    assert (
        "more than 1 files" in refused("a.zip", zipped(("a", b""), ("b", b"")), max_files=1).message
    )
    zeros = gzip.compress(tar(("a", bytes(3_000_000))))
    refused("a.tar.gz", zeros, max_ratio=100)
    with opened(write("a.tar.gz", zeros), limits=Limits(max_ratio=2000, max_files=1)) as source:
        assert source.files[0].size == 3_000_000


@pytest.mark.parametrize("limits", [{"max_bytes": 0}, {"max_files": 0}, {"max_ratio": -1.0}])
def test_limits_that_let_nothing_through(limits: dict[str, Any]) -> None:
    """A limit of nothing is a mistake."""
    with pytest.raises(InvalidRequest):
        Limits(**limits)


@pytest.mark.parametrize("name", ["a.tar.bz2", "a.TAR.XZ", "a.txz", "a.tar.zst", "a.7z", "a.rar"])
def test_other_archives(refused: Refused, name: str) -> None:
    """An archive of another kind is not registered as one opaque file."""
    refusal = refused(name, b"x")
    assert "a kind that is not read" in refusal.message
    assert "unpack it" in str(refusal.hint)


@pytest.mark.parametrize("damage", ["cut", "checksum", "tail", "plain"])
def test_broken_gzip(refused: Refused, damage: str) -> None:
    """A stream that is cut, changed or none is refused, also where tar had its end already."""
    data = gzip.compress(tar(("a", os.urandom(5000))))
    broken = {
        "cut": data[:-200],
        "checksum": data[:-8] + b"\0\0\0\0" + data[-4:],
        "tail": data + b"garbage",
        "plain": tar(("a", b"x")),
    }[damage]
    assert "no archive that can be read" in refused("a.tar.gz", broken).message


def test_disk_that_is_full(refused: Refused) -> None:
    """Where files cannot be written, the folder is said to be the reason, not the archive."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limit[1]))
    try:
        refusal = refused("a.tar.gz", gzip.compress(tar(("a", os.urandom(20_000) * 100))))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert refusal.message == "a.tar.gz cannot be unpacked: File too large"
    assert "TMPDIR" in str(refusal.hint)


def test_no_folder_to_unpack_in(write: Any, scratch: Path) -> None:
    """Without a place for temporary folders the refusal says so."""
    path = write("a.tar", tar(("a", b"x")))
    scratch.rmdir()
    with pytest.raises(InvalidRequest, match=r"a\.tar cannot be unpacked: No such file"):
        opened(path).__enter__()
