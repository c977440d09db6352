"""JSON of REST to messages and back, as strict as Google's front end.

Every unknown name and every value of the wrong type is told with its path, all of them at once,
in the front end's own words.

Sources: https://github.com/googleapis/python-aiplatform/issues/4333 (unknown names),
https://github.com/decolua/9router/issues/1081 (values), and google/api/http.proto for what goes
where.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf import field_mask_pb2, json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from cloudreg_emulator.google.http import Request
from cloudreg_emulator.google.vertex import values as json_values
from cloudreg_emulator.google.vertex.masks import snake
from cloudreg_emulator.google.vertex.refusals import Refused, unimplemented
from cloudreg_emulator.google.vertex.routes import Match

__all__ = ["answer", "decode", "enum_numbers"]

_SYSTEM = frozenset(
    {"$alt", "alt", "key", "access_token", "oauth_token", "prettyPrint", "quotaUser", "$.xgafv"}
)
"""https://cloud.google.com/apis/docs/system-parameters"""

_KINDS = {
    getattr(FieldDescriptor, name): name
    for name in vars(FieldDescriptor)
    if name.startswith("TYPE_") and name not in ("TYPE_MESSAGE", "TYPE_ENUM", "TYPE_GROUP")
}
_HTTP_BODY = "google.api.HttpBody"
_VALUE = "google.protobuf.Value"


def decode(match: Match, request: Request) -> Any:
    """Return the message that a request stands for.

    Raises:
        Refused: INVALID_ARGUMENT, with all that is wrong.
    """
    kind = match.route.rpc.request
    raw = _raw_field(kind.DESCRIPTOR)
    document: dict[str, Any] = {}
    if raw is None:
        document = _body(match, kind.DESCRIPTOR, request.read())
    lists = _lists(document, kind.DESCRIPTOR)
    problems = list(_problems(document, kind.DESCRIPTOR, ""))
    problems += _query(document, kind.DESCRIPTOR, request.query)
    if problems:
        raise _refused(problems)
    for name, value in match.values.items():
        # What the path says stands, whatever the body says.
        _put(document, kind.DESCRIPTOR, name, value)
    message = kind()
    try:
        json_format.ParseDict(document, message)
    except json_format.ParseError as error:
        raise _refused([("", f"Invalid JSON payload received. {error}")]) from error
    for name, items in lists.items():
        _fill(getattr(message, name), items, name)
    if raw is not None:
        # rawPredict's body is the container's, not ours to read.
        body = getattr(message, raw)
        body.data, body.content_type = request.read(), request.headers.get("content-type", "")
    return message


def answer(message: Message, *, numbers: bool = False) -> dict[str, Any]:
    """Return what REST answers; *numbers* for enums as clients of the SDK ask for them."""
    fields = [
        field
        for field in message.DESCRIPTOR.fields
        if _of_values(field) and getattr(message, field.name)
    ]
    lists = {
        field.json_name: [json_values.plain(one) for one in getattr(message, field.name)]
        for field in fields
    }
    if fields:
        rest = type(message)()
        rest.CopyFrom(message)
        for field in fields:
            rest.ClearField(field.name)
        message = rest
    made: dict[str, Any] = json_format.MessageToDict(message, use_integers_for_enums=numbers)
    return made | lists


def enum_numbers(request: Request) -> bool:
    """Return whether the client asked for the numbers of enums in place of their names."""
    asked = request.arg("$alt") or request.arg("alt") or ""
    return "enum-encoding=int" in asked


def _body(match: Match, kind: Descriptor, data: bytes) -> dict[str, Any]:
    if not data.strip():
        return {}
    try:
        said = json.loads(data)
    except ValueError as error:
        text = f"Invalid JSON payload received. {error}"
        raise _refused([("", text)]) from error
    if not isinstance(said, dict):
        text = 'Invalid JSON payload received. Unknown name "": Root element must be a message.'
        raise _refused([("", text)])
    if match.route.body == "*":
        return said
    if match.route.body is None:
        if said:
            raise _refused([("", _unknown(next(iter(said)), ""))])
        return {}
    return {kind.fields_by_name[match.route.body].json_name: said}


def _lists(document: dict[str, Any], kind: Descriptor) -> dict[str, list[Any]]:
    """Take the lists of values out of *document*: any JSON fits them, and they can be long."""
    found: dict[str, list[Any]] = {}
    for field in kind.fields:
        if _of_values(field):
            for name in {field.name, field.json_name} & set(document):
                if isinstance(document[name], list):
                    found[field.name] = document.pop(name)
    return found


def _of_values(field: FieldDescriptor) -> bool:
    inner = field.message_type
    return field.is_repeated and inner is not None and inner.full_name == _VALUE


def _fill(made: Any, items: list[Any], name: str) -> None:
    for at, item in enumerate(items):
        try:
            json_values.fill(made.add(), item)
        except ValueError as error:
            where = f"{name}[{at}]"
            raise _refused([(where, f"Invalid JSON payload received. {error}")]) from error


def _problems(value: Mapping[str, Any], kind: Descriptor, path: str) -> Iterator[tuple[str, str]]:
    """Yield (path, words) of everything in *value* that is no *kind*."""
    for name, said in value.items():
        field = _field(kind, name)
        if field is None:
            yield path, _unknown(name, path)
        elif said is not None:
            where = f"{path}.{field.name.rstrip('_')}".lstrip(".")
            yield from _field_problems(said, field, name, where)


def _field_problems(
    said: Any, field: FieldDescriptor, name: str, path: str
) -> Iterator[tuple[str, str]]:
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        entry = inner.fields_by_name["value"]
        if isinstance(said, dict) and _walked(entry):
            for key, item in said.items():
                if isinstance(item, dict):
                    yield from _problems(item, entry.message_type, f"{path}[{key}]")
            return
    elif _walked(field):
        items = said if field.is_repeated else [said]
        if isinstance(items, list) and all(isinstance(item, dict) for item in items):
            for at, item in enumerate(items):
                where = f"{path}[{at}]" if field.is_repeated else path
                yield from _problems(item, inner, where)
            return
    if not _fits(said, field, name):
        yield path, _misfit(said, field, path)


def _walked(field: FieldDescriptor) -> bool:
    """Return whether the value is an object of named fields, and not one of the well-known."""
    inner = field.message_type
    return inner is not None and not inner.full_name.startswith("google.protobuf.")


def _fits(said: Any, field: FieldDescriptor, name: str) -> bool:
    owner = _class(field.containing_type)
    try:
        json_format.ParseDict({name: _mask(said, field)}, owner())
    except (json_format.ParseError, TypeError, ValueError):
        return False
    return True


def _class(kind: Descriptor) -> Any:
    return kind._concrete_class


def _misfit(said: Any, field: FieldDescriptor, path: str) -> str:
    named = field.message_type or field.enum_type
    kind = f"type.googleapis.com/{named.full_name}" if named else _KINDS[field.type]
    if isinstance(said, list | dict) and not (field.is_repeated or field.message_type):
        return f"Invalid value at '{path}' ({kind}), Proto field is not repeating."
    return f"Invalid value at '{path}' ({kind}), {json.dumps(said)}"


def _unknown(name: str, path: str) -> str:
    where = f" at '{path}'" if path else ""
    return f'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.'


def _query(
    document: dict[str, Any], kind: Descriptor, query: Mapping[str, tuple[str, ...]]
) -> list[tuple[str, str]]:
    problems = []
    for name, values in query.items():
        if name in _SYSTEM:
            continue
        if name in ("fields", "$fields"):
            raise unimplemented(f"The system parameter {name}")
        field = _dotted(kind, name)
        if field is None:
            problems.append(
                (
                    "",
                    f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query '
                    f"parameter. Field '{name}' could not be found in request message.",
                )
            )
            continue
        said: Any = [_text(value, field) for value in values]
        said = said if field.is_repeated else said[-1]
        if not _fits(said, field, field.json_name):
            problems.append((name, _misfit(said, field, name)))
            continue
        _put(document, kind, name, _mask(said, field))
    return problems


def _text(value: str, field: FieldDescriptor) -> Any:
    """Return a value of the query as JSON would have it."""
    if field.type == FieldDescriptor.TYPE_BOOL and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return value


def _mask(said: Any, field: FieldDescriptor) -> Any:
    """Return a field mask in camel case: Google takes both cases, and protobuf only this one."""
    inner = field.message_type
    if inner is None or inner.full_name != "google.protobuf.FieldMask" or not isinstance(said, str):
        return said
    paths = [snake(path.strip()) for path in said.split(",") if path.strip()]
    try:
        return field_mask_pb2.FieldMask(paths=paths).ToJsonString()
    except ValueError:
        return said


def _field(kind: Descriptor, name: str) -> FieldDescriptor | None:
    if name.endswith("_"):
        # The SDK's spelling of Python's own words, such as exec_; the service knows only exec.
        return None
    for field in kind.fields:
        if name in (field.name, field.json_name, field.camelcase_name):
            return field
    return None


def _dotted(kind: Descriptor, name: str) -> FieldDescriptor | None:
    *above, last = name.split(".")
    for part in above:
        field = _field(kind, part)
        if field is None or field.is_repeated or field.message_type is None:
            return None
        kind = field.message_type
    return _field(kind, last)


def _put(document: dict[str, Any], kind: Descriptor, dotted: str, value: Any) -> None:
    *above, last = dotted.split(".")
    for part in above:
        field = _field(kind, part)
        assert field is not None
        # The body may spell it the other way.
        name = field.name if field.name in document else field.json_name
        document = document.setdefault(name, {})
        kind = field.message_type
    field = _field(kind, last)
    assert field is not None
    document.pop(field.name, None)
    document[field.json_name] = value


def _raw_field(kind: Descriptor) -> str | None:
    for field in kind.fields:
        if field.message_type is not None and field.message_type.full_name == _HTTP_BODY:
            return str(field.name)
    return None


def _refused(problems: list[tuple[str, str]]) -> Refused:
    violations = [
        error_details_pb2.BadRequest.FieldViolation(field=path, description=words)
        for path, words in problems
    ]
    return Refused(
        "INVALID_ARGUMENT",
        "\n".join(words for _, words in problems),
        details=[error_details_pb2.BadRequest(field_violations=violations)],
    )
