"""What a pickle would do is found, however it is written, and nothing of it is done."""

from __future__ import annotations

import io
import pickle
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cloudreg.formats import pickles
from cloudreg.formats.pickles import scan


def short(text: str) -> bytes:
    """Push a text as protocol 4 does."""
    return b"\x8c" + bytes([len(text)]) + text.encode()


HOSTILE = {
    "GLOBAL": b"cos\nsystem\n(S'id'\ntR.",
    "GLOBAL and garbage": b"\x80\x02cos\nsystem\n\xff\xff",
    "no STOP": b"cos\nsystem\n(S'id'\ntR",
    "INST": b"(S'id'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'id'\no.",
    "NEWOBJ": b"\x80\x02cos\nsystem\nS'id'\n\x85\x81.",
    "NEWOBJ_EX": b"\x80\x04cos\nsystem\nS'id'\n\x85}\x92.",
    "STACK_GLOBAL": b"\x80\x04" + short("os") + short("system") + b"\x93" + b"S'id'\n\x85R.",
    "STACK_GLOBAL from the memo": b"\x80\x04"
    + short("os")
    + b"\x94"
    + short("system")
    + b"\x94"
    + b"00h\x00h\x01\x93S'id'\n\x85R.",
    "STACK_GLOBAL of a UNICODE": b"\x80\x04Vos\nVsystem\n\x93S'id'\n\x85R.",
    "STACK_GLOBAL of a STRING": b"\x80\x04S'os'\nS\"system\"\n\x93S'id'\n\x85R.",
    "STACK_GLOBAL by PUT and GET": b"\x80\x04Vos\np12\n0Vsystem\np7\n0g12\ng7\n\x93S'id'\n\x85R.",
    "STACK_GLOBAL by BINPUT and GET": b"\x80\x04Vos\nq\x0c0Vsystem\nr\x07\0\0\0000g12\ng7\n\x93"
    b"S'id'\n\x85R.",
    "STACK_GLOBAL by DUP": b"\x80\x04Vos\n2\x93.",
    "a module by its parts": b"\x80\x04" + short("os") + short("path.os.system") + b"\x93.",
    "number with a prefix": b"I0x10\n0cos\nsystem\n(S'id'\ntR.",
    "float that is none": b"Fnan\n0cos\nsystem\n(S'id'\ntR.",
    "long with an L": b"L5L\n0cos\nsystem\n(S'id'\ntR.",
    "after a POP of a mark": b"(0cos\nsystem\n(S'id'\ntR.",
    "after POP_MARK": b"(NN1cos\nsystem\n(S'id'\ntR.",
    "in a FRAME": b"\x80\x04\x95\x05\0\0\0\0\0\0\0cos\nsystem\n(S'id'\ntR.",
    "PROTO in the middle": b"N0\x80\x04cos\nsystem\n(S'id'\ntR.",
    "behind a persistent id": b"Pabc\n0cos\nsystem\n(S'id'\ntR.",
    "behind an empty set": b"\x80\x04\x8f(K\x01\x900cos\nsystem\n(S'id'\ntR.",
    "behind a frozenset": b"\x80\x04(K\x01\x910cos\nsystem\n(S'id'\ntR.",
    "behind bytes": b"\x80\x05\x96" + struct.pack("<Q", 500) + bytes(500) + b"0cos\nsystem\n.",
    "behind a buffer": b"\x80\x05\x97\x980cos\nsystem\n(S'id'\ntR.",
    "behind a long line": b"V" + b"x" * 500_000 + b"\n0cos\nsystem\n(S'id'\ntR.",
    "a second pickle": b"\x80\x02N.\x80\x02cos\nsystem\n(S'id'\ntR.",
    "a third that breaks": b"\x80\x02N.\x80\x02N.\x80\x02cos\nsystem\n\xff",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_every_way_to_a_name(case):
    """Every opcode that reaches for a name is followed, in every way the name can be given."""
    found = scan(io.BytesIO(HOSTILE[case]))
    assert any("system" in name or name == "os.os" for name in found.outside), found


UNCERTAIN = {
    "escaped text": (b"\x80\x04S'\\x6f\\x73'\nS'system'\n\x93.", "only known when it runs"),
    "escaped UNICODE": (b"\x80\x04V\\u006fs\nVsystem\n\x93.", "only known when it runs"),
    "text that is made": (b"\x80\x04" + short("os") + b"Pid\n\x93.", "only known when it runs"),
    "a list for a name": (b"\x80\x04]Vsystem\n\x93", None),
    "extension": (b"\x82\x01.", "copyreg extension 1"),
    "extension of four bytes": (b"\x84\x01\x02\0\0.", "copyreg extension 513"),
    "call of what was made": (
        b"ccollections\nOrderedDict\n)R)R.",
        "a call of something that is only known when it runs",
    ),
    "call of a persistent id": (b"N\x51)R.", "a call of something that is only known"),
    "change of a class": (b"ctorch\nFloatStorage\n}b.", "a change of torch.FloatStorage itself"),
    "name without an end": (b"c" + b"a" * 400 + b"\nb\n.", "too long"),
}


@pytest.mark.parametrize("case", UNCERTAIN)
def test_what_is_not_known_is_outside(case):
    """A name that only running it would tell counts as one that is not allowed."""
    data, said = UNCERTAIN[case]
    found = scan(io.BytesIO(data))
    if said is None:
        assert not found.whole
    else:
        assert any(said in outside for outside in found.outside)


@pytest.mark.parametrize(
    "name",
    [
        "builtins.eval", "builtins.getattr", "importlib.import_module", "torch.load",
        "torch.utils.collect_env.run", "pandas.read_csv", "numpy.load", "operator.attrgetter",
        "functools.partial", "torch.hub.load", "numpy.f2py.crackfortran.getlincoef",
        "collections.OrderedDict.x", "torch._utils._rebuild_wrapper_subclass",
    ],
)  # fmt: skip
def test_not_on_the_list(name):
    """What could do more than hold numbers is not on the list."""
    module, _, attribute = name.rpartition(".")
    for data in (
        f"c{module}\n{attribute}\n.".encode(),
        b"\x80\x04" + short(module) + short(attribute) + b"\x93.",
    ):
        assert scan(io.BytesIO(data)).outside == (name,)


REFUSALS = (pickle.UnpicklingError, EOFError, ValueError, IndexError, OverflowError)

BROKEN = {
    "empty": b"",
    "no opcode": b"\x01",
    "STOP without a value": b".",
    "REDUCE without a value": b"NR.",
    "APPEND to nothing": b"Na.",
    "no mark": b"t.",
    "GET of nothing": b"g1\n.",
    "PUT of nothing": b"p1\n.",
    "GET of no number": b"Np1\ngx\n.",
    "cut in an argument": b"X\x05\0\0\0ab",
    "cut in a line": b"Vabc",
    "negative length": b"T\xff\xff\xff\xff.",
    "length of everything": b"\x8d" + b"\xff" * 8 + b".",
    "BUILD of one": b"Nb.",
    "OBJ of nothing": b"(o.",
    "POP across a mark": b"N(0(00.",
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken(case):
    """What Python would not follow to its end either is not whole."""
    data = BROKEN[case]
    found = scan(io.BytesIO(data))
    assert not found.whole
    assert found.imports == ()
    if case != "POP across a mark":
        with pytest.raises(
            (pickle.UnpicklingError, EOFError, ValueError, IndexError, OverflowError)
        ):
            pickle.loads(data)


class Watching(pickle.Unpickler):
    """Python's own machine, which notes what it looks for and makes nothing of it."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.found: set[str] = set()

    def find_class(self, module: str, name: str) -> object:
        self.found.add(f"{module}.{name}")
        return Inert

    def persistent_load(self, pid: object) -> object:
        return None


class Inert:
    """What stands for everything that was found; it takes every call and every state."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __new__(cls, *_: object, **__: object) -> Inert:
        return object.__new__(cls)

    def __setstate__(self, _: object) -> None:
        pass


OPCODES = [
    b"(", b".", b"0", b"1", b"2", b"N", b"K\x01", b"]", b"}", b")", b"t", b"l", b"d", b"a", b"e",
    b"s", b"u", b"R", b"b", b"o", b"\x81", b"\x85", b"\x86", b"\x87", b"\x88", b"\x93", b"\x94",
    b"\x8f", b"\x90", b"\x91", b"q\x01", b"h\x01", b"p2\n", b"g2\n", b"cos\nsystem\n",
    b"ia\nb\n", b"\x8c\x01x", b"\x8c\x02os", b"Vsystem\n", b"S'x'\n", b"I1\n", b"F1\n", b"L1L\n",
    b"\x80\x04", b"\x95\0\0\0\0\0\0\0\0", b"Px\n", b"Q", b"I01\n", b"C\x01x", b"\x96" + bytes(8),
]  # fmt: skip


@given(st.lists(st.sampled_from(OPCODES), min_size=1, max_size=25))
@example([b"\x8c\x02os", b"\x8c\x01x", b"\x93", b")", b"R", b"."])
@settings(max_examples=800, deadline=None)
def test_never_stricter_than_python(parts):
    """Whatever Python's own machine looks for in a row of opcodes, the scan has found too."""
    data = b"".join(parts)
    real = Watching(data)
    whole = True
    try:
        real.load()
    except Exception:
        whole = False
    found = scan(io.BytesIO(data))
    unclear = any("only known when" in name for name in found.imports)
    assert unclear or real.found <= set(found.imports)
    assert found.whole or not whole


def test_bounds(monkeypatch):
    """More opcodes and more bytes than are read are not a pass: it says that there is more."""
    monkeypatch.setattr(pickles, "MAX_OPCODES", 1000)
    found = scan(io.BytesIO(b"N0" * 600 + b"N."))
    assert (found.exhausted, found.whole) == (True, False)
    monkeypatch.setattr(pickles, "MAX_BYTES", 100_000)
    found = scan(io.BytesIO(b"B" + struct.pack("<I", 400_000) + bytes(400_000) + b"."))
    assert (found.exhausted, found.whole) == (True, False)


def test_more_pickles_than_are_read():
    """A file of pickles without end says that there is more."""
    found = scan(io.BytesIO(b"\x80\x02N." * 100))
    assert found.exhausted
