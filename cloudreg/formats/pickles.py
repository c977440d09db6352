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
from typing import Final

from cloudreg.formats.ranges import BLOCK, Stream

MAX_OPCODES = 2_000_000
MAX_BYTES = 32 * 1024 * 1024
"""Bytes of opcodes and of compressed payload that are read; plain payload is passed over."""

MAX_PROTOCOL = 7
"""Python 3.11 reads up to 5, and refuses what is newer than itself."""

MAX_PICKLES = 64
"""Pickles one behind another: torch's old format has five."""

MAX_LINE = 4 * 1024 * 1024
"""Bytes of a line that are read to find its end."""

MAX_TEXT = 200
"""Longer texts are no names, and are not kept."""


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


def scan(stream: Stream, *, skip: Callable[[int], None] | None = None) -> Scan:
    """Follow the opcodes of *stream*, which may hold anything.

    Args:
        stream: Read from where it stands, a bounded part of it.
        skip: Passes over payload without reading it, where that is possible.
    """
    cursor = _Cursor(stream, skip=skip)
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

    def __init__(self, stream: Stream, *, skip: Callable[[int], None] | None) -> None:
        self._stream = stream
        self._skip = skip
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
            if length > MAX_LINE:
                raise _Exhausted
            if not self._fill():
                raise _Broken

    def skip(self, count: int) -> None:
        """Pass over *count* bytes."""
        rest = len(self._block) - self._at
        if count <= rest:
            self._at += count
            return
        count -= rest
        if self._skip is not None:
            self._block, self._at = b"", 0
            self._skip(count)
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


class _Plain:
    """A number, a list, bytes: nothing that could be called, or be a name."""


_PLAIN = _Plain()

_Value = str | _Global | _Plain | None
"""A text that could be a name, something imported, something plain, or nobody knows what."""

_SIZES: Mapping[int, int] = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_OPCODES: Mapping[int, pickletools.OpcodeInfo] = {
    ord(opcode.code): opcode for opcode in pickletools.opcodes
}


class _Machine:
    """The stack machine, on placeholders."""

    def __init__(self, cursor: _Cursor) -> None:
        self._cursor = cursor
        self._stack: list[_Value] = []
        self._below: list[list[_Value]] = []
        self._memo: dict[int, _Value] = {}
        self._left = MAX_OPCODES
        self._binary = False
        self.imports: set[str] = set()
        self.outside: set[str] = set()
        self.calls = False
        self.exhausted = False

    def run(self) -> bool:
        """Follow one pickle, and return whether it came to its end."""
        self._stack, self._below, self._memo = [], [], {}
        try:
            while self._left:
                self._left -= 1
                opcode = _OPCODES[self._cursor.take(1)[0]]
                argument = self._argument(opcode)
                if opcode.name == "STOP":
                    self._stack.pop()
                    return True
                effect, count = _EFFECTS.get(opcode.name, (_Machine.replace, 0))
                effect(self, opcode.name, argument, count)
        except (_Broken, KeyError, IndexError):
            return False
        except _Exhausted:
            pass
        self.exhausted = True
        return False

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
        signed = length == pickletools.TAKEN_FROM_ARGUMENT4
        count = int.from_bytes(self._cursor.take(_SIZES[length]), "little", signed=signed)
        if not 0 <= count < 2**63:
            raise _Broken
        if count <= MAX_TEXT:
            return self._cursor.take(count)
        self._cursor.skip(count)
        return None

    # What opcodes do. Each gets its name, its argument, and how many values it takes.

    def replace(self, _: str, __: bytes | None, count: int) -> None:
        """Take *count* values and push a plain one."""
        for _taken in range(count):
            self._stack.pop()
        self._stack.append(_PLAIN)

    def persistent(self, _: str, __: bytes | None, count: int) -> None:
        """Take *count* values and push what the reader gives for them."""
        self.replace("", None, count)
        self._stack[-1] = None

    def change(self, _: str, __: bytes | None, count: int) -> None:
        """Take *count* values for the one below."""
        for _taken in range(count):
            self._stack.pop()
        self._need()

    def text(self, name: str, argument: bytes | None, _: int) -> None:
        """Push a text."""
        self._stack.append(_text(name, argument))

    def get(self, name: str, argument: bytes | None, _: int) -> None:
        """Push what was remembered."""
        self._stack.append(self._memo[_index(name, argument)])

    def put(self, name: str, argument: bytes | None, _: int) -> None:
        """Remember what is on top."""
        index = len(self._memo) if name == "MEMOIZE" else _index(name, argument)
        self._memo[index] = self._stack[-1]

    def mark(self, _: str, __: bytes | None, ___: int) -> None:
        """Begin a row of values."""
        self._below.append(self._stack)
        self._stack = []

    def unmark(self, _: str, __: bytes | None, kept: int) -> None:
        """Take the row; push one value for it, or leave the one below."""
        self._row()
        if kept:
            self._need()
        else:
            self._stack.append(_PLAIN)

    def pop(self, name: str, _: bytes | None, __: int) -> None:
        """Take a value, or the row that has none."""
        if self._stack and name == "POP":
            self._stack.pop()
        else:
            self._row()

    def double(self, _: str, __: bytes | None, ___: int) -> None:
        """Push what is on top once more."""
        self._stack.append(self._stack[-1])

    def binary(self, _: str, argument: bytes | None, __: int) -> None:
        """Learn that this is no text."""
        if not argument or argument[0] > MAX_PROTOCOL:
            raise _Broken
        self._binary = True

    def nothing(self, _: str, __: bytes | None, ___: int) -> None:
        """Do nothing."""

    def find(self, _: str, argument: bytes | None, __: int) -> None:
        """Import what two lines name."""
        if argument is None:
            self._import("a name that is too long to be shown")
            return
        module, ___, name = argument.decode("utf-8", "replace").partition("\n")
        if not (self._binary or (_NAME.fullmatch(module) and _NAME.fullmatch(name))):
            # A line of text that begins with a c, and no name of a module.
            raise _Broken
        self._import(f"{module}.{name}")

    def find_on_stack(self, _: str, __: bytes | None, ___: int) -> None:
        """Import what two values name."""
        name, module = self._stack.pop(), self._stack.pop()
        if isinstance(name, _Plain | _Global) or isinstance(module, _Plain | _Global):
            raise _Broken
        known = isinstance(name, str) and isinstance(module, str)
        self._import(f"{module}.{name}" if known else "a name that is only known when it runs")

    def extension(self, _: str, argument: bytes | None, __: int) -> None:
        """Import what a number stands for in a table of the process that reads."""
        name = f"copyreg extension {int.from_bytes(argument or b'', 'little')}"
        # No import yet: in most processes the table is empty, and this is the end.
        self.outside.add(name)
        self._stack.append(_Global(name))

    def call(self, _: str, __: bytes | None, count: int) -> None:
        """Call what stands below *count* arguments."""
        for _taken in range(count):
            self._stack.pop()
        called = self._stack.pop()
        if isinstance(called, str | _Plain):
            raise _Broken
        self.calls = True
        if not isinstance(called, _Global):
            self.outside.add("a call of something that is only known when it runs")
        self._stack.append(None)

    def call_row(self, name: str, argument: bytes | None, _: int) -> None:
        """Call the first of a row, or what two lines name, with the row."""
        row = self._row()
        if name == "INST":
            self.find(name, argument, 0)
        else:
            self._stack.append(row[0])
        self.call(name, argument, 0)

    def build(self, _: str, __: bytes | None, ___: int) -> None:
        """Set the state of what is on top."""
        self._stack.pop()
        changed = self._stack[-1]
        if isinstance(changed, _Global):
            # Not an object's state is set here, but an attribute of a class or module.
            self.calls = True
            self.outside.add(f"a change of {changed.name} itself")

    def _need(self) -> None:
        if not self._stack:
            raise _Broken

    def _row(self) -> list[_Value]:
        row, self._stack = self._stack, self._below.pop()
        return row

    def _import(self, name: str) -> None:
        self.imports.add(name)
        if name not in ALLOWED:
            self.outside.add(name)
        self._stack.append(_Global(name))


_EFFECTS: Mapping[str, tuple[Callable[[_Machine, str, bytes | None, int], None], int]] = {
    name: (effect, count)
    for effect, count, names in (
        (_Machine.binary, 0, "PROTO"),
        (_Machine.nothing, 0, "FRAME"),
        (_Machine.text, 0, "STRING BINSTRING SHORT_BINSTRING UNICODE"),
        (_Machine.text, 0, "SHORT_BINUNICODE BINUNICODE BINUNICODE8"),
        (_Machine.get, 0, "GET BINGET LONG_BINGET"),
        (_Machine.put, 0, "PUT BINPUT LONG_BINPUT MEMOIZE"),
        (_Machine.mark, 0, "MARK"),
        (_Machine.pop, 0, "POP POP_MARK"),
        (_Machine.double, 0, "DUP"),
        (_Machine.unmark, 0, "LIST TUPLE DICT FROZENSET"),
        (_Machine.unmark, 1, "APPENDS SETITEMS ADDITEMS"),
        (_Machine.change, 1, "APPEND"),
        (_Machine.change, 2, "SETITEM"),
        (_Machine.replace, 1, "TUPLE1 READONLY_BUFFER"),
        (_Machine.replace, 2, "TUPLE2"),
        (_Machine.replace, 3, "TUPLE3"),
        (_Machine.persistent, 0, "PERSID"),
        (_Machine.persistent, 1, "BINPERSID"),
        (_Machine.find, 0, "GLOBAL"),
        (_Machine.find_on_stack, 0, "STACK_GLOBAL"),
        (_Machine.extension, 0, "EXT1 EXT2 EXT4"),
        (_Machine.call, 1, "REDUCE NEWOBJ"),
        (_Machine.call, 2, "NEWOBJ_EX"),
        (_Machine.call_row, 0, "INST OBJ"),
        (_Machine.build, 0, "BUILD"),
    )
    for name in names.split()
}
"""What an opcode does, and how many values it takes; all others push something plain."""


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
