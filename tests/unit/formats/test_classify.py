"""A file is what its content says, whatever it is called."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import struct
import tarfile
import zipfile
import zlib

import joblib
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import load, save

from cloudreg.errors import IntegrityError, InvalidRequest
from cloudreg.formats import ACCEPTED, REFUSED, check_format
from cloudreg.formats.classify import classify
from cloudreg.formats.ranges import BLOCK, MAX_READ


def onnx_model() -> bytes:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [value("x", TensorProto.FLOAT, ["n", 2])],
        [value("y", TensorProto.FLOAT, ["n", 2])],
    )
    return bytes(helper.make_model(graph, producer_name="test").SerializeToString())


def tarred(name: str = "a.pkl") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = 3
        archive.addfile(member, io.BytesIO(b"abc"))
    return made.getvalue()


PLAIN = {
    "README.md": b"# Churn\n\nWhom to call.\n",
    "empty.txt": b"",
    "utf8.txt": "größer als 3 €\n".encode() * 20_000,
    "vocab.txt": b"cat\ndog\nelephant\nRat\nbee\ntoad\n.\n",
    "numbers.csv": b"customer,age\n1,2\n",
    "percent.txt": b"x^2 + 1\n",
    "config.json": b'{"hidden": 16}',
    "weights.pt": b"weights 1",
}


@pytest.mark.parametrize("name", PLAIN)
def test_text(look, name):
    """Text is text, in whole and cut in the middle of a letter."""
    assert look(name, PLAIN[name]).format == "text"


def test_every_cut_of_a_letter(look):
    """Where the first block ends inside a letter, text stays text."""
    for shift in range(4):
        assert look("a.txt", b"x" * shift + "€".encode() * BLOCK).format == "text"


def test_source(look):
    """Python source is code, by its name and by being text."""
    assert look("code/net.py", b"import torch\n").format == "code"
    assert look("code/net.py", b"\x01\x02\x00").format == "data"


def test_safetensors(look):
    """What safetensors writes is safetensors, whatever it is called."""
    data = save({"w": torch.ones(3, 4), "b": torch.zeros(2, dtype=torch.bfloat16)})
    for name in ("model.safetensors", "weights.bin", "weights.pt", "weights.txt"):
        assert look(name, data).format == "safetensors"
    assert look("a.safetensors", save({})).format == "safetensors"
    assert look("a.safetensors", save({"w": torch.ones(1)}, {"by": "x"})).format == "safetensors"


def test_onnx(look):
    """What ONNX writes is ONNX, whatever it is called."""
    data = onnx_model()
    onnx.checker.check_model(data)
    for name in ("model.onnx", "model.bin"):
        assert look(name, data).format == "onnx"


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 3)), np.array(["a", "b"]), np.zeros(2, [("a", "f8"), ("b", "i4", 3)])],
    ids=["floats", "texts", "fields"],
)
def test_arrays(look, make, array):
    """Arrays without objects are arrays, alone and in an archive, packed or not."""
    assert look("a.npy", make.npy(array)).format == "array"
    for packed in (False, True):
        data = make.zipped({"a.npy": make.npy(array), "b.npy": make.npy(array)}, packed=packed)
        assert look("a.npz", data).format == "array"


@pytest.mark.parametrize("name", ["a.bin", "tokenizer.model", "image.png", "a.gguf"])
def test_other_data(look, name):
    """Bytes that are none of all that are data."""
    assert look(name, b"\x00\x01\x02\xff" * 100).format == "data"


def test_random_bytes(look):
    """Random bytes are neither pickle nor archive."""
    rng = np.random.default_rng(0)
    for _ in range(2000):
        assert look("weights.bin", rng.bytes(64)).format == "data"


def test_random_floats(look):
    """Weights without a header are data: in float32, float16 and bytes."""
    rng = np.random.default_rng(1)
    for _ in range(300):
        values = rng.normal(0, 0.02, 100)
        assert look("w.bin", values.astype("f4").tobytes()).format == "data"
        assert look("w.bin", values.astype("f2").tobytes()).format == "data"


DISGUISES = (
    "model.pkl", "model.safetensors", "weights.txt", "model.onnx", "README.md", "code/net.py",
    "data.json", "x", "image.png", "a.npy",
)  # fmt: skip


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", DISGUISES)
def test_disguised_pickle(look, make, name, protocol):
    """A pickle that runs something is found under every name, in every protocol."""
    found = look(name, pickle.dumps(make.Runs(), protocol=protocol))
    assert (found.format, found.found) == ("unsafe-pickle", ("posix.system",))


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_in_a_pickle(look, protocol):
    """Arrays of NumPy in a pickle are a pickle that reaches for nothing else."""
    value = {"a": np.arange(3.0), "s": np.float64(1), "o": np.array([None, "x"], dtype=object)}
    found = look("model.pkl", pickle.dumps(value, protocol=protocol))
    assert (found.format, found.found) == ("pickle", ())


def test_plain_pickle(look):
    """A pickle without any import is one by its name, or because nothing else is in the file."""
    for protocol in range(6):
        data = pickle.dumps({"a": [1, 2.5, None, "x" * 300]}, protocol=protocol)
        assert look("a.pkl", data).format == "pickle"
        if protocol > 0:
            assert look("a.bin", data).format == "pickle"


@pytest.mark.parametrize("name", ["model.pt", "model.bin", "weights.txt", "model.safetensors"])
@pytest.mark.parametrize("legacy", [False, True])
def test_state_of_a_torch_module(look, make, name, legacy):
    """What torch saves of a state is a pickle that reaches for nothing else, in both formats."""
    state = make.Module().state_dict() | {"p": torch.nn.Parameter(torch.ones(2).bfloat16())}
    found = look(name, make.torch(state, _use_new_zipfile_serialization=not legacy))
    assert (found.format, found.found) == ("pickle", ())


@pytest.mark.parametrize("legacy", [False, True])
def test_whole_torch_module(look, make, legacy):
    """A whole module in a file of torch reaches for its class."""
    data = make.torch(torch.nn.Linear(2, 2), _use_new_zipfile_serialization=not legacy)
    found = look("model.pt", data)
    assert found.format == "unsafe-pickle"
    assert "torch.nn.modules.linear.Linear" in found.found


def test_hostile_torch_file(look, make):
    """What runs something is found inside an archive of torch."""
    found = look("model.pt", make.torch({"w": torch.ones(2), "x": make.Runs()}))
    assert (found.format, found.found) == ("unsafe-pickle", ("posix.system",))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_torchscript(look, make):
    """TorchScript is found, whatever it is called."""
    made = io.BytesIO()
    torch.jit.save(torch.jit.trace(make.Module().eval(), torch.ones(1, 3)), made)
    for name in ("model.pt", "model.bin"):
        assert look(name, made.getvalue()).format == "torchscript"


@pytest.fixture(scope="module")
def exported(make):
    """What torch.export saves; made before nothing can be unpickled any more."""
    made = io.BytesIO()
    torch.export.save(torch.export.export(make.Module().eval(), (torch.ones(1, 3),)), made)
    return made.getvalue()


def test_exported_program(exported, look, make):
    """What torch.export saves is found, whatever it is called."""
    for name in ("model.pt2", "model.onnx"):
        assert look(name, exported).format == "pt2"
    old = make.zipped({"serialized_exported_program.json": b"{}", "version": b"8.1"})
    assert look("a.pt2", old).format == "pt2"


def test_model_archive(look, make):
    """An archive of TorchServe is found, with what its pickles would run."""
    members = {
        "MAR-INF/MANIFEST.json": b"{}",
        "handler.py": b"import os",
        "weights.pkl": pickle.dumps(make.Runs()),
    }
    for name in ("model.mar", "model.zip"):
        found = look(name, make.zipped(members, packed=True))
        assert (found.format, found.found) == ("mar", ("posix.system",))


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("zlib", 9)])
def test_joblib(look, make, tmp_path_factory, compress):
    """What joblib writes is found, compressed or not."""
    path = tmp_path_factory.mktemp("joblib") / "a.joblib"
    joblib.dump({"x": make.Runs(), "a": np.arange(5.0)}, path, compress=compress)
    found = look("a.joblib", path.read_bytes())
    assert found.format == "unsafe-pickle"
    assert "posix.system" in found.found
    assert look("a.bin", path.read_bytes()).format == "unsafe-pickle"


@pytest.mark.parametrize("name", ["model.pkl.gz", "train.csv.gz", "x"])
def test_compressed_pickle(look, make, name):
    """A pickle is found inside gzip, also behind a first part that is empty or begins it."""
    data = pickle.dumps(make.Runs())
    for packed in (
        gzip.compress(data),
        gzip.compress(b"") + gzip.compress(data),
        gzip.compress(data[:5]) + gzip.compress(data[5:]),
    ):
        assert look(name, packed).found == ("posix.system",)


def test_compressed_text(look):
    """Text in gzip, zlib and bzip2 is text; other bytes are data."""
    text = b"a,b\n1,2\n" * 1000
    for pack in (gzip.compress, zlib.compress, bz2.compress):
        assert look("train.csv.gz", pack(text)).format == "text"
        assert look("train.bin", pack(b"\0\1\2\3" * 100)).format == "data"


UNKNOWN = {
    "xz": ("a.csv.xz", lzma.compress(b"abc")),
    "zstd": ("a.zst", b"\x28\xb5\x2f\xfd" + bytes(20)),
    "lz4": ("a.joblib", b"\x04\x22\x4d\x18" + bytes(20)),
    "7z": ("a.bin", b"7z\xbc\xaf\x27\x1c" + bytes(20)),
    "HDF5": ("model.bin", b"\x89HDF\r\n\x1a\n" + bytes(100)),
    "h5 by its name": ("model.h5", bytes(100)),
    "keras by its name": ("model.keras", bytes(100)),
    "TensorFlow": ("saved_model.pb", b"\x08\x01\x12\x00"),
    "TensorRT": ("model.engine", b"ftrt" + bytes(20)),
    "tar": ("a.bin", tarred()),
    "tar.gz": ("a.bin", gzip.compress(tarred())),
    "gzip in gzip": ("a.gz", gzip.compress(gzip.compress(b"abc"))),
    "broken gzip": ("a.gz", b"\x1f\x8b\x08" + b"x" * 40),
    "cut gzip": ("a.gz", gzip.compress(bytes(range(256)) * 9)[:-30]),
    "not safetensors": ("model.safetensors", b"weights"),
    "not onnx": ("model.onnx", b"weights"),
    "not npy": ("a.npy", b"weights"),
    "not npz": ("a.npz", b"weights"),
    "not mar": ("a.mar", b"weights"),
    "not pt2": ("a.pt2", b"weights"),
    "not a pickle": ("a.pkl", b"\x00\x01\x02\x03"),
    "not torch": ("a.pth", b"\x00\x01\x02\x03"),
    "broken zip": ("a.zip", b"PK\x03\x04" + bytes(100)),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_unknown(look, case):
    """What cannot be looked into, or is not what it must be, is unknown."""
    found = look(*UNKNOWN[case])
    assert found.format == "unknown"
    assert found.found[0]


def test_zip_archives_without_a_known_kind(look, make):
    """Other archives are unknown, whatever is in them."""
    assert look("a.zip", make.zipped({"a.txt": b"x"})).format == "unknown"
    assert look("model.keras", make.zipped({"config.json": b"{}"})).format == "unknown"
    assert look("a.npz", make.zipped({})).format == "unknown"
    assert look("a.npz", make.zipped({"a.npy": b"x"})).format == "unknown"


@pytest.mark.parametrize(
    "head",
    [b"\x7fELF", b"MZ\x90\0", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"\0asm"],
)
def test_machine_code(look, head):
    """Machine code is found by its beginning; a text that begins alike is text."""
    assert look("libx.bin", head + bytes(100)).format == "compiled"
    assert look("a.txt", b"MZ is a text").format == "text"


@pytest.mark.parametrize("name", ["net.pyc", "a.so", "a.dll", "A.class"])
def test_compiled_by_name(look, name):
    """Bytecode and libraries are found by their names."""
    assert look(f"code/{name}", b"\xa7\r\r\n" + bytes(20)).format == "compiled"


def test_objects_in_an_array(look, make):
    """An array of objects is a pickle, alone, in a field and in an archive."""
    hostile = make.npy(np.array([make.Runs()], dtype=object))
    field = make.npy(np.array([(1, None)], dtype=[("a", "i4"), ("b", "O")]))
    fine = make.npy(np.zeros(2))
    assert look("a.npy", hostile).found == ("posix.system",)
    assert look("a.bin", hostile).format == "unsafe-pickle"
    assert look("a.npy", field).format == "pickle"
    for members in ({"a.npy": fine, "b.npy": hostile}, {"a.npy": hostile, "b.npy": field}):
        found = look("a.npz", make.zipped(members, packed=True))
        assert (found.format, found.found) == ("unsafe-pickle", ("posix.system",))
    assert look("a.npz", make.zipped({"a.npy": field, "b.npy": fine})).format == "pickle"


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f8', 'shape'",
        b"__import__('os').system('echo hacked > hacked')",
        b"{'shape': (2,)}",
        b"{'descr': 3}",
        b"(" * 5000,
        b"\xff" * 20,
    ],
)
def test_broken_array_header(look, header):
    """A header that is no literal is not evaluated, and makes the file unknown."""
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    assert look("a.npy", data).format == "unknown"
    long = b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + header
    assert look("a.npy", long).format == "unknown"


SPANS = {
    "a gap": {"a": [0, 2], "b": [4, 8]},
    "an overlap": {"a": [0, 5], "b": [4, 8]},
    "behind the end": {"a": [0, 9]},
    "not to the end": {"a": [0, 7]},
    "backwards": {"a": [8, 0]},
    "negative": {"a": [-1, 8]},
}


@pytest.mark.parametrize("case", SPANS)
def test_wrong_safetensors(look, make, case):
    """Tensors that do not fill the file leave room for something else: it is not safetensors."""
    found = look("model.safetensors", make.safetensors(SPANS[case]))
    assert found.format == "unknown"


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", MAX_READ + 1) + b"{}" + bytes(100),
        struct.pack("<Q", 4) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 9) + b'{"a":{}} ',
        struct.pack("<Q", 5) + b"{\xff\xff\xff}",
        struct.pack("<Q", 10_000) + b'{"a":' * 2000,
        b"\x08\0\0",
    ],
)
def test_broken_safetensors(look, data):
    """A header that lies or cannot be read is not safetensors."""
    assert look("model.safetensors", data).format == "unknown"


def test_pickle_inside_safetensors(look, make):
    """A pickle in the tensors of a safetensors file is only reached by a reader that skips."""
    data = pickle.dumps(make.Runs())
    assert look("a.safetensors", make.safetensors(data=data)).format == "safetensors"


def test_safetensors_that_is_a_pickle_too(look):
    """A file that is both is a pickle: its opcodes skip the header, in steps of a text each."""
    evil = b"cos\nsystem\n(S'echo hacked > hacked'\ntR."
    # The header's length begins with B, which takes the four bytes behind it, 69, as its own.
    steps = 69
    length = 0x42 + 256 * steps
    size = len(evil)
    tail = f'"}},"w":{{"dtype":"U8","shape":[{size}],"data_offsets":[0,{size}]}}}}'.encode()
    header = bytearray(b'{"__metadata__":{"a":"'.ljust(length - len(tail), b"x") + tail)
    # From where the bytes end, U and a length of 126, which is a letter of JSON, skip the rest.
    for at in range(5 + steps - 8, length, 128):
        header[at : at + 2] = b"U~"
    both = struct.pack("<Q", length) + bytes(header) + evil
    assert load(both)["w"].numpy().tobytes() == evil
    found = look("model.safetensors", both)
    assert (found.format, found.found) == ("unsafe-pickle", ("os.system",))


def test_archive_behind_something_else(look, make):
    """An archive hides at the end of a file that begins as something else."""
    hidden = make.zipped({"data.pkl": pickle.dumps(make.Runs())})
    for data in (b"a text\n" + hidden, make.safetensors(data=hidden), b"\x7fELF" + hidden):
        found = look("model.safetensors", data)
        assert found.format == "unknown"
        assert "hides" in found.found[0]


def test_end_of_an_archive_in_numbers(look):
    """The four bytes that end an archive are data where no archive is before them."""
    data = b"\0\1\2\3" * 2000 + b"PK\x05\x06" + bytes(300)
    assert look("w.bin", data).format == "data"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name(look, make):
    """Of two pickles under one name both are followed, and the doubt itself counts."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps(make.Runs()))
        archive.writestr("m/data.pkl", pickle.dumps({"a": 1}))
        archive.writestr("m/version", b"3")
    found = look("model.pt", made.getvalue())
    assert found.format == "unsafe-pickle"
    assert found.found == ("posix.system", "two files of one name")


def test_archive_that_lies(look, make):
    """An archive whose directory and content differ, or that is encrypted, passes nowhere."""
    data = bytearray(make.zipped({"m/data.pkl": pickle.dumps({"a": 1})}))
    data[30:40] = b"n/data.pkl"
    assert look("model.pt", bytes(data)).format == "unsafe-pickle"
    secret = bytearray(make.zipped({"m/data.pkl": pickle.dumps({"a": 1})}))
    secret[6] |= 1
    secret[secret.index(b"PK\x01\x02") + 8] |= 1
    assert look("model.pt", bytes(secret)).format == "unsafe-pickle"


def test_little_is_read_of_much(make):
    """Of a large file its head, its tail and its directory are read, never much at once."""
    size = 200 * 1024 * 1024
    data = make.safetensors({"ww": [0, size]}, data=b"")

    class Sparse(make.Metered):
        def __call__(self, offset, length):
            super().__call__(offset, length)
            return self.data[offset : offset + length].ljust(length, b"\0")

    read = Sparse(data)
    assert classify("model.safetensors", len(data) + size, read).format == "safetensors"
    assert read.total < 5 * BLOCK
    assert read.largest <= BLOCK + 100


def test_payload_is_passed_over(make):
    """What stands behind a large piece of data in a pickle is found without reading the piece."""
    size = 3 * 1024**3
    head = b"\x80\x04\x8e" + struct.pack("<Q", size)
    tail = b"cos\nsystem\nX\x02\0\0\0id\x85R."
    total = len(head) + size + len(tail)
    taken = []

    def read(offset, length):
        taken.append(length)
        end = offset + length
        if offset < len(head):
            return (head + bytes(length))[offset:end]
        start = total - len(tail)
        return bytes(max(0, min(end, start) - offset)) + tail[max(0, offset - start) : end - start]

    found = classify("weights.bin", total, read)
    assert (found.format, found.found) == ("unsafe-pickle", ("os.system",))
    assert sum(taken) < 10 * BLOCK


def test_store_that_has_less(make):
    """A file that is shorter in the store than what was registered is no verdict but an error."""
    data = make.safetensors()
    with pytest.raises(IntegrityError, match="fewer bytes"):
        classify("model.safetensors", len(data) + 10, make.Metered(data))


def test_errors_of_the_store_pass(make):
    """An error of the store is never taken for a property of the file."""

    def read(offset, length):
        raise IntegrityError("missing in the store")

    for name in ("a.pkl", "a.npz", "a.gz"):
        with pytest.raises(IntegrityError, match="missing"):
            classify(name, 100, read)


@pytest.mark.parametrize("name", REFUSED)
def test_waivable(name):
    """Every format that is refused can be waived, and has a way out."""
    assert check_format(name) == name
    assert REFUSED[name]


@pytest.mark.parametrize("name", [*ACCEPTED, "", "Pickle", "pkl", "x" * 99])
def test_not_waivable(name):
    """Formats that need no waiver, and words that are none, are refused with the list."""
    with pytest.raises(InvalidRequest) as refusal:
        check_format(name)
    assert "unsafe-pickle" in refusal.value.hint
