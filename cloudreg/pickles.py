"""What a pickle would import and call, worked out from its opcodes; nothing is ever unpickled.

A pickle is a program for a small stack machine. `scan` runs that machine on placeholders: it knows
which names would be imported and what would be called, and makes nothing. Where Python's own
machine would go on, this one goes on too: it is never stricter, since what it gives up on would
otherwise run unseen.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Final

MAX_OPCODES = 2_000_000
MAX_BYTES = 64 * 1024 * 1024
"""Bytes of opcodes and of compressed payload that are read; plain payload is passed over."""

MAX_PICKLES = 64
"""Pickles one behind another: torch's old format has five."""

MAX_TEXT = 200
"""Longer texts are no names, and are not kept."""

BLOCK = 64 * 1024

_DTYPES = (
    "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64",
    "float16", "bfloat16", "float32", "float64", "complex32", "complex64", "complex128",
    "float8_e4m3fn", "float8_e5m2",
)  # fmt: skip
_STORAGES = (
    "Bool", "Byte", "Char", "Short", "Int", "Long", "Half", "BFloat16", "Float", "Double",
    "ComplexFloat", "ComplexDouble",
)  # fmt: skip

ALLOWED: Final = frozenset(
    {"collections.OrderedDict", "_codecs.encode"}
    | {f"builtins.{name}" for name in ("bytearray", "complex", "frozenset", "set")}
    | {f"torch.{name}" for name in ("Size", "device", *_DTYPES)}
    | {f"torch.{name}Storage" for name in _STORAGES}
    | {"torch.storage.UntypedStorage", "torch.serialization._get_layout"}
    | {f"torch._utils._rebuild_{name}" for name in ("tensor", "tensor_v2", "parameter")}
    | {"numpy.ndarray", "numpy.dtype"}
    # The private module got an underscore in NumPy 2.
    | {
        f"numpy.{core}.{name}"
        for core in ("core", "_core")
        for name in ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")
    }
)
"""What the state of a torch module and arrays of NumPy need, and nothing that could do more."""

_NAME = re.compile(r"[\w.\-<>]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What following the opcodes found.

    Attributes:
        imports: Names that would be imported, sorted.
        outside: What of it, or of the way it is used, the allowlist does not know; sorted.
        calls: Whether anything would be called.
        whole: Whether the first pickle was followed to its end.
        alone: Whether nothing stands behind it.
        exhausted: Whether it was longer than what is read.
    """

    imports: tuple[str, ...]
    outside: tuple[str, ...]
    calls: bool
    whole: bool
    alone: bool
    exhausted: bool


def scan(stream: BinaryIO, *, seek: bool = False) -> Scan:
    """Follow the opcodes of *stream*, which may hold anything.

    Args:
        stream: Read from where it stands, a bounded part of it.
        seek: Whether payload can be passed over without being read.
    """
    cursor = _Cursor(stream, seek=seek)
    machine = _Machine(cursor)
    whole = machine.run()
    alone = whole and cursor.ended()
    more = whole and not alone
    for _ in range(MAX_PICKLES - 1):
        # Old torch files are several pickles, and any of them can be the one that matters.
        more = more and machine.run() and not cursor.ended()
    return Scan(
        imports=tuple(sorted(machine.imports)),
        outside=tuple(sorted(machine.outside)),
        calls=machine.calls,
        whole=whole,
        alone=alone,
        exhausted=machine.exhausted or more,
    )


class _Broken(Exception):
    """Python's own machine would stop here too."""


class _Exhausted(Exception):
    """There is more than what is read."""


class _Cursor:
    """Bytes one behind another, a block at a time."""

    def __init__(self, stream: BinaryIO, *, seek: bool) -> None:
        self._stream = stream
        self._seek = seek
        self._block = b""
        self._at = 0
        self._read = 0

    def take(self, count: int) -> bytes:
        """Return *count* bytes, which are few."""
        data = self._block[self._at : self._at + count]
        self._at += len(data)
        while len(data) < count:
            if not self._fill():
                raise _Broken
            more = self._block[: count - len(data)]
            self._at = len(more)
            data += more
        return data

    def line(self) -> bytes | None:
        """Return what stands before the next newline; None where it is too long for a name."""
        kept = b""
        length = 0
        while True:
            end = self._block.find(b"\n", self._at)
            part = self._block[self._at : end if end >= 0 else None]
            length += len(part)
            kept = (kept + part)[: MAX_TEXT + 1]
            if end >= 0:
                self._at = end + 1
                return kept if length <= MAX_TEXT else None
            if not self._fill():
                raise _Broken

    def skip(self, count: int) -> None:
        """Pass over *count* bytes."""
        rest = len(self._block) - self._at
        if count <= rest:
            self._at += count
            return
        count -= rest
        if self._seek:
            self._block, self._at = b"", 0
            self._stream.seek(count, 1)
            return
        while count > 0:
            if not self._fill():
                raise _Broken
            self._at = min(count, len(self._block))
            count -= self._at

    def ended(self) -> bool:
        """Whether nothing is left."""
        return self._at >= len(self._block) and not self._fill()

    def _fill(self) -> bool:
        if self._read >= MAX_BYTES:
            raise _Exhausted
        self._block, self._at = self._stream.read(BLOCK), 0
        self._read += len(self._block)
        return bool(self._block)


class _Global:
    """Something that was imported."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


_Value = str | _Global | None
"""A text that could be a name, something imported, or anything else."""

_SIZES: Mapping[int, int] = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_OPCODES: Mapping[int, pickletools.OpcodeInfo] = {
    ord(opcode.code): opcode for opcode in pickletools.opcodes
}
_TEXTS = frozenset(
    {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE"}
    | {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
)
_TAKES_MARK = frozenset({"LIST", "TUPLE", "DICT", "FROZENSET"})
_ADDS_MARK = frozenset({"APPENDS", "SETITEMS", "ADDITEMS"})
_POPS: Mapping[str, int] = {"APPEND": 1, "SETITEM": 2}
_TUPLES: Mapping[str, int] = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "BINPERSID": 1,
                              "READONLY_BUFFER": 1}  # fmt: skip
_CALLS: Mapping[str, int] = {"REDUCE": 1, "NEWOBJ": 1, "NEWOBJ_EX": 2}
"""Opcodes that call something, and how many arguments stand above it."""

_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})


class _Machine:
    """The stack machine, on placeholders."""

    def __init__(self, cursor: _Cursor) -> None:
        self._cursor = cursor
        self._stack: list[_Value] = []
        self._below: list[list[_Value]] = []
        self._memo: dict[int, _Value] = {}
        self._opcodes = 0
        self._binary = False
        self.imports: set[str] = set()
        self.outside: set[str] = set()
        self.calls = False
        self.exhausted = False
        self._effects: Mapping[str, Callable[[bytes | None], None]] = {
            "MARK": lambda _: self._mark(),
            "POP": lambda _: self._pop() if self._stack else self._to_mark(),
            "POP_MARK": lambda _: self._to_mark(),
            "DUP": lambda _: self._push(self._top()),
            "MEMOIZE": lambda _: self._remember(len(self._memo)),
            "GLOBAL": self._global,
            "STACK_GLOBAL": lambda _: self._stack_global(),
            "INST": self._inst,
            "OBJ": lambda _: self._obj(),
            "BUILD": lambda _: self._build(),
        }

    def run(self) -> bool:
        """Follow one pickle, and return whether it came to its end."""
        self._stack, self._below, self._memo = [], [], {}
        try:
            while self._step():
                self._opcodes += 1
                if self._opcodes >= MAX_OPCODES:
                    raise _Exhausted
        except (_Broken, LookupError):
            return False
        except _Exhausted:
            self.exhausted = True
            return False
        return True

    def _step(self) -> bool:
        opcode = _OPCODES.get(self._cursor.take(1)[0])
        if opcode is None:
            raise _Broken
        name = opcode.name
        argument = self._argument(opcode)
        if name == "STOP":
            self._pop()
            return False
        effect = self._effects.get(name)
        if effect is not None:
            effect(argument)
        elif name in _TEXTS:
            self._push(_text(name, argument))
        elif name in _GETS:
            self._push(self._memo[_index(name, argument)])
        elif name in _PUTS:
            self._remember(_index(name, argument))
        elif name in _CALLS:
            self._call(_CALLS[name])
        elif name in _TUPLES:
            self._drop(_TUPLES[name])
            self._push(None)
        elif name in _POPS:
            self._drop(_POPS[name])
            self._top()
        elif name in _TAKES_MARK:
            self._to_mark()
            self._push(None)
        elif name in _ADDS_MARK:
            self._to_mark()
            self._top()
        elif name.startswith("EXT"):
            # A number that stands for a name in a table of the process that reads.
            self._import("copyreg extension " + str(int.from_bytes(argument or b"", "little")))
        elif name == "PROTO":
            self._binary = True
        elif name != "FRAME":
            self._push(None)
        return True

    def _argument(self, opcode: pickletools.OpcodeInfo) -> bytes | None:
        """Return the opcode's argument, None where it is too long for a name."""
        if opcode.arg is None:
            return b""
        length = opcode.arg.n
        if length >= 0:
            return self._cursor.take(length)
        if length == pickletools.UP_TO_NEWLINE:
            first = self._cursor.line()
            if opcode.name not in ("GLOBAL", "INST"):
                return first
            second = self._cursor.line()
            return None if first is None or second is None else first + b"\n" + second
        count = int.from_bytes(
            self._cursor.take(_SIZES[length]),
            "little",
            signed=length == pickletools.TAKEN_FROM_ARGUMENT4,
        )
        if not 0 <= count < 2**63:
            raise _Broken
        if count <= MAX_TEXT:
            return self._cursor.take(count)
        self._cursor.skip(count)
        return None

    def _push(self, value: _Value) -> None:
        self._stack.append(value)

    def _pop(self) -> _Value:
        return self._stack.pop()

    def _top(self) -> _Value:
        return self._stack[-1]

    def _drop(self, count: int) -> None:
        for _ in range(count):
            self._stack.pop()

    def _mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _to_mark(self) -> list[_Value]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def _remember(self, index: int) -> None:
        self._memo[index] = self._top()

    def _import(self, name: str) -> None:
        self.imports.add(name)
        if name not in ALLOWED:
            self.outside.add(name)
        self._push(_Global(name))

    def _global(self, argument: bytes | None) -> None:
        if argument is None:
            self._import("a name that is too long to be shown")
            return
        module, _, name = argument.decode("utf-8", "replace").partition("\n")
        if not (self._binary or (_NAME.fullmatch(module) and _NAME.fullmatch(name))):
            # A line of text that begins with a c, and no name of a module.
            raise _Broken
        self._import(f"{module}.{name}")

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        known = isinstance(name, str) and isinstance(module, str)
        self._import(f"{module}.{name}" if known else "a name that is only known when it runs")

    def _inst(self, argument: bytes | None) -> None:
        self._to_mark()
        self._global(argument)
        self._call(0)

    def _obj(self) -> None:
        items = self._to_mark()
        self._push(items[0])
        self._call(0)

    def _call(self, arguments: int) -> None:
        self._drop(arguments)
        called = self._pop()
        self.calls = True
        if not isinstance(called, _Global):
            self.outside.add("a call of something that is only known when it runs")
        self._push(None)

    def _build(self) -> None:
        self._pop()
        changed = self._top()
        if isinstance(changed, _Global):
            # Not an object's state is set here, but an attribute of a class or module.
            self.calls = True
            self.outside.add(f"a change of {changed.name} itself")


def _text(name: str, argument: bytes | None) -> _Value:
    """Return the text that an opcode pushes, None where it must be worked out first."""
    if argument is None or b"\\" in argument:
        return None
    if name == "STRING":
        argument = argument.strip()[1:-1]
    try:
        return argument.decode()
    except UnicodeDecodeError:
        return None


def _index(name: str, argument: bytes | None) -> int:
    """Return the place in the memo that an opcode names."""
    if name in ("GET", "PUT"):
        try:
            return int(argument or b"")
        except ValueError:
            raise _Broken from None
    return int.from_bytes(argument or b"", "little")
