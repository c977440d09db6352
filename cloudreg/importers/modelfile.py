"""``model.toml``: what a folder of files says about itself, read strictly and written exactly.

::

    [runtime]
    kind = "torch"
    entrypoint = "churn_model:build"
    arguments = {hidden = 16}
    weights = "model.safetensors"

    [signature]
    inputs = [{name = "x", dtype = "float32", shape = [-1, 30]}]
    outputs = [{name = "probability", dtype = "float32", shape = [-1]}]

    [metrics]
    val_auc = 0.91

    [card]
    intended_use = "Which customers to call before their contract ends."

Tables beside these are ``[labels]`` and ``[lineage]``. Nothing is required and nothing else is
allowed: a key that nobody reads is a wish that nobody hears.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from cloudreg.errors import CloudregError, InvalidRequest, NotFound
from cloudreg.importers import Description
from cloudreg.manifest import Lineage, ModelCard, Runtime, Signature, TensorSpec, check_metric
from cloudreg.names import canonical_json

FILE = "model.toml"

T = TypeVar("T")

_TABLES: Mapping[str, type] = {
    "signature": Signature,
    "runtime": Runtime,
    "lineage": Lineage,
    "card": ModelCard,
}
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def read(path: Path) -> Description:
    """Read a ``model.toml``.

    Raises:
        NotFound: There is no such file.
        InvalidRequest: Syntax, with line and column; an unknown key or a wrong value, with the
            key.
    """
    return _description(_document(path), path.name)


def read_card(path: Path) -> ModelCard:
    """Read a model card: its keys at the top of a TOML file, or in the table ``[card]``.

    Raises:
        NotFound: There is no such file.
        InvalidRequest: Syntax, with line and column; an unknown key or a wrong value, with the
            key.
    """
    document = _document(path)
    if "card" in document:
        return _description(document, path.name).card or ModelCard()
    return _noun(document, ModelCard, path.name, "")


def write(description: Description, path: Path) -> None:
    """Write *description* so that `read` returns it.

    Raises:
        InvalidRequest: It holds something that TOML has no word for, such as a null.
    """
    document = {
        name: value
        for name, value in msgspec.to_builtins(description).items()
        if value not in (None, {})
    }
    for name in _TABLES:
        if name in document:
            table = {k: v for k, v in document[name].items() if v not in (None, "", {}, [])}
            document[name] = table
    path.write_text(dumps(document), encoding="utf-8")


def _document(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise NotFound(f"no file {path}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path.name} cannot be read: {error}") from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line, column = _position(str(error), text)
        reason = re.sub(r" \(at .*\)$", "", str(error))
        raise InvalidRequest(f"{path.name}, line {line}, column {column}: {reason}") from error
    except RecursionError as error:
        raise InvalidRequest(f"{path.name}: nested too deeply") from error


def _position(message: str, text: str) -> tuple[int, int]:
    match = re.search(r"at line (\d+), column (\d+)", message)
    if match:
        return int(match[1]), int(match[2])
    lines = text.splitlines() or [""]
    return len(lines), len(lines[-1]) + 1


def _description(document: Mapping[str, Any], file: str) -> Description:
    _known(document, [f.name for f in fields(Description)], file, "")
    parts: dict[str, Any] = {
        name: _noun(document[name], cls, file, name)
        for name, cls in _TABLES.items()
        if name in document
    }
    metrics = _table(document.get("metrics", {}), file, "metrics")
    try:
        parts["metrics"] = {name: check_metric(name, value) for name, value in metrics.items()}
    except InvalidRequest as error:
        raise InvalidRequest(f"{file}, {error.message}") from error
    labels = _table(document.get("labels", {}), file, "labels")
    parts["labels"] = _converted(labels, dict[str, str], file, "labels")
    return Description(**parts)


def _noun(value: object, cls: type[T], file: str, where: str) -> T:
    """Return the noun that a table describes, whose keys are its fields."""
    table = _table(value, file, where)
    known = [f.name for f in fields(cls)]  # type: ignore[arg-type]  # nouns are dataclasses
    _known(table, known, file, where)
    if cls is Signature:
        for side in ("inputs", "outputs"):
            tensors = table.get(side, [])
            for index, tensor in enumerate(tensors if isinstance(tensors, list) else []):
                place = f"{where}.{side}[{index}]"
                names = [f.name for f in fields(TensorSpec)]
                _known(_table(tensor, file, place), names, file, place)
    for key in ("arguments", "parameters"):
        if key in table:
            # TOML has dates and infinities, which the manifest's JSON has not.
            try:
                canonical_json(table[key])
            except InvalidRequest as error:
                raise InvalidRequest(f"{file}, {where}.{key}: {error.message}") from error
    return _converted(table, cls, file, where)


def _table(value: object, file: str, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest(f"{file}, {where}: a table is wanted, {value!r} is there")
    return value


def _known(table: Mapping[str, Any], known: Sequence[str], file: str, where: str) -> None:
    for key in table:
        if key not in known:
            place = f"{where}.{key}" if where else key
            raise InvalidRequest(
                f"{file}, {place}: unknown key", hint=f"known are {', '.join(known)}"
            )


def _converted(value: object, cls: type[T], file: str, where: str) -> T:
    try:
        return msgspec.convert(value, cls)
    except CloudregError as error:
        raise InvalidRequest(f"{file}, {where}: {error.message}", hint=error.hint) from error
    except msgspec.ValidationError as error:
        cause = error.__cause__
        reason, _, path = str(error).partition(" - at `$")
        key = f"{where}{path.rstrip('`')}".lstrip(".") if path else where
        if isinstance(cause, CloudregError):
            raise InvalidRequest(f"{file}, {key}: {cause.message}", hint=cause.hint) from error
        place = f"{file}, {key}" if key else file
        raise InvalidRequest(f"{place}: {reason[0].lower()}{reason[1:]}") from error


def dumps(document: Mapping[str, Any]) -> str:
    """Return *document* as TOML: its tables as sections, whatever is below them in line.

    Raises:
        InvalidRequest: A value that TOML has no word for; the message names its place.
    """
    lines = [
        f"{_key(name)} = {_value(value, name)}"
        for name, value in document.items()
        if not isinstance(value, Mapping)
    ]
    for name, table in document.items():
        if not isinstance(table, Mapping):
            continue
        lines += ["", f"[{_key(name)}]"] if lines else [f"[{_key(name)}]"]
        for key, value in table.items():
            place = f"{name}.{key}"
            text = _long(value) if _is_long(value) else _value(value, place)
            lines.append(f"{_key(key)} = {text}")
    return "\n".join(lines) + "\n"


def _key(name: object) -> str:
    if not isinstance(name, str):
        raise InvalidRequest(f"key {name!r} is not a string")
    return name if _BARE_KEY.fullmatch(name) else _string(name)


def _value(value: object, where: str) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _string(value)
        case int() | float():
            return repr(value)
        case Mapping():
            pairs = (f"{_key(k)} = {_value(v, f'{where}.{k}')}" for k, v in value.items())
            return "{" + ", ".join(pairs) + "}"
        case list() | tuple():
            items = (_value(item, f"{where}[{i}]") for i, item in enumerate(value))
            return "[" + ", ".join(items) + "]"
        case None:
            raise InvalidRequest(f"{where} is None: TOML has no null", hint="leave the key out")
        case _:
            raise InvalidRequest(f"{where}: {type(value).__name__} has no word in TOML")


def _is_long(value: object) -> bool:
    return isinstance(value, str) and "\n" in value


def _string(text: str) -> str:
    return '"' + "".join(_character(c) for c in _encodable(text)) + '"'


def _long(text: str) -> str:
    # The newline behind the opening quotes is not part of the string.
    body = "\n".join("".join(_character(c) for c in line) for line in _encodable(text).split("\n"))
    return f'"""\n{body}"""'


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"{text[:40]!r} cannot be written as UTF-8") from error
    return text


def _character(c: str) -> str:
    # A carriage return would be read back as a line's end, so that it too is escaped.
    if c in '"\\':
        return f"\\{c}"
    if ord(c) < 0x20 or ord(c) == 0x7F:
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(c, f"\\u{ord(c):04x}")
    return c
