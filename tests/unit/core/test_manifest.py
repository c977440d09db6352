"""What a version is, under one digest."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudreg.errors import IntegrityError, InvalidRequest
from cloudreg.manifest import (
    MAX_FILES,
    FileEntry,
    Lineage,
    Manifest,
    ModelCard,
    Runtime,
    Signature,
    TensorSpec,
    check_metric,
    check_path,
)
from cloudreg.names import canonical_json, sha256

HEX = "ab" * 32
FILE = FileEntry(path="model.safetensors", size=3, sha256=HEX)
X = TensorSpec(name="x", dtype="float32", shape=(-1, 30))
Y = TensorSpec(name="y", dtype="float32", shape=(-1,))

FULL = Manifest(
    files=(FileEntry(path="code/net.py", size=0, sha256="cd" * 32), FILE),
    signature=Signature(inputs=(X,), outputs=(Y,)),
    runtime=Runtime(
        kind="torch", entrypoint="net:build", arguments={"width": 4}, weights="model.safetensors"
    ),
    lineage=Lineage(
        git_commit="0" * 40, git_dirty=False, seed=0, parameters={"lr": 0.1, "none": None, "l": [1]}
    ),
    metrics={"auc": 0.5, "loss": 0.0},
    card=ModelCard(intended_use="tests", limits="tests"),
    labels={"team": "é"},
)

HOSTILE = [
    "", ".", "..", "../x", "a/../b", "a/..", "/etc/passwd", "//host/share", "\\\\host\\share",
    "..\\x", "a\\b", "C:\\x", "C:x", "a:b", "a\0b", "a\nb", "a\tb", "a\x7f", "a//b", "a/", "./a",
    "a/./b", " a", "a ", "a/ b", "%2e%2e/x", "a%2fb", "%252e", "x" * 401, "é" * 201, "x" * 256,
    "d/" * 10 + "y" * 300, "\u202etxt", "a\u200bb", "\ufeffa", "a\u00adb", "a\u2028b", "a\u2029b",
    "\uff0e\uff0e/x", "a\uff0fb", "\u2024\u2024/x", "\u2025/x", "a\u2215b", "a\u2044b", "a\u29f8b",
    "a\u2216b", "a\ua789b", "e\u0301", "\ufb01le", ".cloudreg/x", ".CloudReg/x", ".cloudreg",
    "\ud800", "\ue000", "a.", "a./b", "con", "CON.txt", "d/nul", "com1.bin", "a?b", "a*b", 'a"b',
    "a<b", "a>b", "a|b", "\u00a0a", "a\u3000",
]  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE, ids=ascii)
def test_hostile_path(path):
    """A path that could leave its folder, or be two things on two disks, is no path."""
    with pytest.raises(InvalidRequest, match="file path") as refused:
        check_path(path)
    assert len(str(refused.value)) < 600
    with pytest.raises(InvalidRequest):
        FileEntry(path=path, size=0, sha256=HEX)


@pytest.mark.parametrize(
    "path",
    ["a", "a/b/c.txt", ".hidden", "a b", "-rf", "~x", "modèle.onnx", "模型/w.bin", "a.cloudreg/b",
     "x" * 255, "d/" * 100 + "x", "console.txt", "a;b&c", "...x", "{{7+7}}"],
)  # fmt: skip
def test_path(path):
    """What every disk can hold is a path, whatever the language."""
    assert check_path(path) == path


@given(st.text(max_size=30))
def test_any_path(text):
    """Any text is refused, or is a path that stays below its folder."""
    try:
        path = check_path(text)
    except InvalidRequest:
        return
    assert path == text
    assert not path.startswith("/")
    assert ".." not in path.split("/")
    assert "\\" not in path


def build(**changes):
    return lambda: Manifest(**{"files": (FILE,)} | changes)


def torch(entrypoint):
    return lambda: Runtime(kind="torch", entrypoint=entrypoint, weights="a.safetensors")


def entry(path):
    return FileEntry(path=path, size=1, sha256=HEX)


REFUSED = {
    "negative size": lambda: FileEntry(path="a", size=-1, sha256=HEX),
    "short sha256": lambda: FileEntry(path="a", size=1, sha256="ab"),
    "upper-case sha256": lambda: FileEntry(path="a", size=1, sha256=HEX.upper()),
    "sha256 with its prefix": lambda: FileEntry(path="a", size=1, sha256=f"sha256:{HEX}"),
    "tensor without name": lambda: TensorSpec(name="", dtype="float32", shape=(-1,)),
    "tensor with a long name": lambda: TensorSpec(name="x" * 101, dtype="float32", shape=(-1,)),
    "tensor with a line break": lambda: TensorSpec(name="x\n", dtype="float32", shape=(-1,)),
    "unknown dtype": lambda: TensorSpec(name="x", dtype="bfloat17", shape=(-1,)),
    "no shape": lambda: TensorSpec(name="x", dtype="float32", shape=()),
    "no batch": lambda: TensorSpec(name="x", dtype="float32", shape=(1, 3)),
    "odd dimension": lambda: TensorSpec(name="x", dtype="float32", shape=(-1, -2)),
    "no inputs": lambda: Signature(inputs=(), outputs=(Y,)),
    "no outputs": lambda: Signature(inputs=(X,), outputs=()),
    "inputs with one name": lambda: Signature(inputs=(X, X), outputs=(Y,)),
    "outputs with one name": lambda: Signature(inputs=(X,), outputs=(Y, Y)),
    "unknown runtime": lambda: Runtime(kind="pickle", weights="a"),
    "torch without entrypoint": lambda: Runtime(kind="torch", weights="a.safetensors"),
    "entrypoint without factory": torch("net"),
    "entrypoint with code": torch("net:f()"),
    "entrypoint with a path": torch("../net:f"),
    "entrypoint with an empty part": torch("a..b:f"),
    "torch without weights": lambda: Runtime(kind="torch", entrypoint="net:f"),
    "onnx without weights": lambda: Runtime(kind="onnx"),
    "pickled weights": lambda: Runtime(kind="torch", entrypoint="net:f", weights="model.pt"),
    "onnx weights of another kind": lambda: Runtime(kind="onnx", weights="model.safetensors"),
    "weights outside": lambda: Runtime(kind="onnx", weights="../model.onnx"),
    "no files": build(files=()),
    "files out of order": build(files=(entry("b"), entry("a"))),
    "one path twice": build(files=(entry("a"), entry("a"))),
    "paths that differ in case": build(files=(entry("A"), entry("a"))),
    "paths that fold to one": build(files=(entry("STRASSE"), entry("straße"))),
    "a file that is a folder": build(files=(entry("a"), entry("a/b"))),
    "a file that is a folder, far up": build(files=(entry("a"), entry("a-b"), entry("a/b/c"))),
    "a file that is a folder on some disks": build(files=(entry("A"), entry("a/b"))),
    "weights that are no file": build(runtime=Runtime(kind="onnx", weights="other.onnx")),
    "NaN": build(metrics={"auc": math.nan}),
    "infinity": build(metrics={"auc": math.inf}),
    "a number beyond floats": build(metrics={"auc": 10**400}),
    "text as a metric": build(metrics={"auc": "0.9"}),
    "a truth value as a metric": build(metrics={"auc": True}),
    "nothing as a metric": build(metrics={"auc": None}),
    "a metric without name": build(metrics={"": 1.0}),
    "a metric with a long name": build(metrics={"x" * 101: 1.0}),
    "a metric with a line break": build(metrics={"a\nb": 1.0}),
    "a metric whose name is a number": build(metrics={1: 1.0}),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    """What could not be served, copied or compared later is refused when it is made."""
    with pytest.raises(InvalidRequest):
        REFUSED[case]()


def test_too_many_files():
    """A version has a limit of files, so that its manifest stays readable."""
    files = (FILE,) * (MAX_FILES + 1)
    with pytest.raises(InvalidRequest, match="at most"):
        Manifest(files=files)


@pytest.mark.parametrize(
    "value", [1, 0.5, np.float32(0.5), np.float64(1), np.int64(3), Fraction(1, 2)]
)
def test_metric(value):
    """Every real number that is finite is a metric, NumPy's too."""
    found = check_metric("auc", value)
    assert type(found) is float
    assert found == float(value)


MINIMAL = f'{{"files":[{{"path":"model.safetensors","sha256":"{HEX}","size":3}}],"format":1}}'


def test_vector():
    """The encoding of a manifest, and so the identity of a version, never changes."""
    assert Manifest(files=(FILE,)).encode().decode() == MINIMAL
    assert Manifest(files=(FILE,)).digest == (
        "sha256:7d056e9db1b9a5315b2de2e3b6af68100f9d62c1cecdf2be0e348e6f21e585ec"
    )
    assert FULL.digest == "sha256:63ff1e725719852203c47adb1183edfa61f049af30d546d8eadfc33eba08ad78"


def test_read_back():
    """A manifest reads back as what was written, down to zeros, falsehoods and nulls."""
    again = Manifest.decode(FULL.encode(), digest=FULL.digest)
    assert again == FULL
    assert again.digest == FULL.digest
    assert again.lineage.git_dirty is False
    assert again.lineage.seed == 0
    assert again.lineage.parameters == {"lr": 0.1, "none": None, "l": [1]}
    assert again.size == 3


def test_order_of_keys():
    """Mappings with the same items make the same version."""
    one = Manifest(files=(FILE,), metrics={"a": 1.0, "b": 2.0}, labels={"x": "1", "y": "2"})
    two = Manifest(files=(FILE,), metrics={"b": 2.0, "a": 1.0}, labels={"y": "2", "x": "1"})
    assert one.digest == two.digest


def test_whole_numbers():
    """1 and 1.0 are one metric and one version."""
    whole, real = (
        Manifest(files=(FILE,), metrics={"a": 1}),
        Manifest(files=(FILE,), metrics={"a": 1.0}),
    )
    assert whole == real
    assert whole.digest == real.digest
    assert Manifest.decode(whole.encode(), digest=whole.digest).digest == whole.digest


def test_what_is_not_set():
    """What a version does not say is not part of its identity."""
    said = Manifest(files=(FILE,), metrics={}, labels={}, card=ModelCard(), lineage=Lineage())
    assert said.encode() == Manifest(files=(FILE,)).encode()


def test_content():
    """Versions with the same files and other words have one content and two digests."""
    one, two = Manifest(files=(FILE,)), Manifest(files=(FILE,), labels={"x": "1"})
    assert one.content == two.content
    assert one.digest != two.digest
    assert one.content != Manifest(files=(entry("x"),)).content


def test_another_process():
    """Another process finds the same digest."""
    program = (
        "import sys; from cloudreg.manifest import Manifest;"
        "data = sys.stdin.buffer.read(); m = Manifest.decode(data, digest=sys.argv[1]);"
        "print(m.digest)"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, FULL.digest],
        input=FULL.encode(),
        capture_output=True,
        check=True,
    )
    assert found.stdout.decode().strip() == FULL.digest


def test_each_byte():
    """A manifest in which any byte was changed is refused."""
    data = Manifest(files=(FILE,)).encode()
    digest = Manifest(files=(FILE,)).digest
    for at in range(len(data)):
        with pytest.raises(IntegrityError):
            Manifest.decode(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], digest=digest)


BAD = {
    "nothing": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "null": b"null",
    "a number": b"1",
    "no Unicode": b'"\xff"',
    "no Unicode at all": b"\xff",
    "a deep nest": b"[" * 5000,
    "no format": b"{}",
    "another format": canonical_json({"format": 2, "files": []}),
    "no files": canonical_json({"format": 1, "files": []}),
    "a hostile path": canonical_json(
        {"format": 1, "files": [{"path": "../x", "size": 1, "sha256": HEX}]}
    ),
    "a size that is text": canonical_json(
        {"format": 1, "files": [{"path": "x", "size": "1", "sha256": HEX}]}
    ),
    "an infinite metric": MINIMAL.replace('"format"', '"metrics":{"a":1e999},"format"').encode(),
}


@pytest.mark.parametrize("case", BAD)
def test_no_manifest(case):
    """Bytes with the right digest that are no manifest are a typed refusal."""
    with pytest.raises(IntegrityError):
        Manifest.decode(BAD[case], digest=sha256(BAD[case]))


@pytest.mark.parametrize("value", [math.nan, {1: 2}, b"x", {1, 2}], ids=ascii)
def test_parameters_without_a_word(value):
    """A parameter that JSON has no word for makes no version."""
    with pytest.raises(InvalidRequest, match="not plain JSON"):
        Manifest(files=(FILE,), lineage=Lineage(parameters={"x": value})).encode()


def test_text_is_data():
    """Words of the user's that look like a program stay words."""
    manifest = Manifest(files=(FILE,), card=ModelCard(limits="{{7*7}} $(id) <script>"))
    assert json.loads(manifest.encode())["card"]["limits"] == "{{7*7}} $(id) <script>"
