"""Lists: filters, orders and pages.

Of the filter language (https://google.aip.dev/160) there is what the SDK's documentation of Vertex
AI's lists names: ``field = value`` and ``field != value`` joined by ``AND``, the comparisons of
times, ``labels.key = value``, ``labels.key:*`` and ``labels:key``. Strings may be quoted in either
way, and fields be spelt in either case. ``OR``, ``NOT``, brackets and functions are refused, where
the service has them.
"""

from __future__ import annotations

import base64
import hashlib
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf import timestamp_pb2

from cloudreg_emulator.google.vertex.masks import snake
from cloudreg_emulator.google.vertex.refusals import Refused, invalid

__all__ = ["MAX_PAGE", "PAGE", "listed", "paged"]

PAGE = 100
"""Of a list that asks for no size.

The SDK's documentation leaves it open; 100 is what its own lists ask for.
"""

MAX_PAGE = 1000

T = TypeVar("T")

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      |(?P<operator>!=|<=|>=|=|<|>|:)
      |(?P<word>[^\s"'!<>=:()]+)
      |(?P<other>.))""",
    re.VERBOSE | re.DOTALL,
)
_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _as_it_is(one: Any) -> Any:
    return one


@dataclass(frozen=True, slots=True, kw_only=True)
class _Term:
    field: str
    key: str | None
    sign: str
    value: str


def listed(
    found: Iterable[T],
    request: Any,
    *,
    fields: Mapping[str, str],
    orders: Mapping[str, str],
    shown: Callable[[T], T] = _as_it_is,
) -> tuple[list[T], str]:
    """Return one page of what a list request asks for, and the token of the next.

    Args:
        found: Everything there is, oldest first.
        request: With ``filter``, ``order_by``, ``page_size`` and ``page_token``, as far as it has
            them.
        fields: Names that a filter may use, and where each one's value is: a field, or ``id`` for
            the last part of the name. ``labels`` is a map.
        orders: Names that an order may use, and the field of each.
        shown: Returns what a client sees of one; that is what is filtered and ordered.

    Raises:
        Refused: INVALID_ARGUMENT.
    """
    terms = _terms(getattr(request, "filter", ""), fields)
    order = _order(getattr(request, "order_by", ""), orders)
    if not terms and not order:
        # Only the page is shown: a model may have ten thousand versions.
        page, token = paged(list(found), request)
        return [shown(one) for one in page], token
    chosen = [one for one in map(shown, found) if all(_holds(term, one, fields) for term in terms)]
    for name, down in reversed(order):
        chosen.sort(key=lambda one: _sortable(one, orders[name]), reverse=down)
    return paged(chosen, request)


def paged(chosen: list[T], request: Any) -> tuple[list[T], str]:
    """Return one page, and the token of the next; empty at the end.

    Raises:
        Refused: INVALID_ARGUMENT.
    """
    if request.page_size < 0:
        raise invalid("page_size", "The page size must not be negative.")  # unquoted
    size = min(request.page_size or PAGE, MAX_PAGE)
    mark = _mark(request)
    start = 0
    if request.page_token:
        start = _start(request.page_token, mark)
    token = ""
    if start + size < len(chosen):
        token = base64.urlsafe_b64encode(f"{start + size}.{mark}".encode()).decode()
    return chosen[start : start + size], token


def _mark(request: Any) -> str:
    """Return what tells requests apart: a token is good for the list that it came from."""
    asked = type(request)()
    asked.CopyFrom(request)
    asked.ClearField("page_token")
    asked.ClearField("page_size")
    return hashlib.sha256(asked.SerializeToString(deterministic=True)).hexdigest()[:12]


def _start(token: str, mark: str) -> int:
    try:
        start, _, wanted = base64.urlsafe_b64decode(token.encode()).decode().partition(".")
        if wanted == mark:
            return int(start)
    except ValueError:
        pass
    raise invalid("page_token", "The page token is invalid.")  # unquoted


def _terms(text: str, fields: Mapping[str, str]) -> list[_Term]:
    tokens = [found for found in _TOKEN.finditer(text.strip()) if found.group().strip()]
    terms: list[_Term] = []
    at = 0
    while at < len(tokens):
        if terms:
            if tokens[at].group("word") != "AND":
                raise _bad(text, f"{tokens[at].group().strip()!r} is no AND")
            at += 1
        if len(tokens) < at + 3:
            raise _bad(text, "a comparison is a field, an operator and a value")
        terms.append(_term(text, tokens[at : at + 3], fields))
        at += 3
        # labels."a key" = value comes in one more piece.
        if terms[-1].sign == "" and len(tokens) >= at + 1:
            terms[-1] = _quoted(text, terms[-1], tokens[at - 1 : at + 1])
            at += 1
    return terms


def _term(text: str, tokens: list[re.Match[str]], fields: Mapping[str, str]) -> _Term:
    name, sign, value = tokens
    word = name.group("word")
    if word is None:
        raise _bad(text, f"{name.group().strip()!r} is no field")
    field, dot, key = word.partition(".")
    field = snake(field)
    if field not in fields or (dot and field != "labels"):
        raise _bad(text, f"field {word!r} is not supported")
    if dot and not key and sign.group("string"):
        return _Term(field=field, key=_text(sign), sign="", value="")
    if sign.group("operator") is None or (value.group("word") or value.group("string")) is None:
        raise _bad(text, "a comparison is a field, an operator and a value")
    shown = _text(value)
    if field == "labels" and not dot:
        if sign.group("operator") != ":":
            raise _bad(text, "labels are compared by key")
        return _Term(field=field, key=shown, sign=":", value="*")
    term = _Term(field=field, key=key or None, sign=sign.group("operator"), value=shown)
    return _checked(text, term)


def _quoted(text: str, term: _Term, tokens: list[re.Match[str]]) -> _Term:
    sign, value = tokens
    if sign.group("operator") is None or (value.group("word") or value.group("string")) is None:
        raise _bad(text, "a comparison is a field, an operator and a value")
    whole = _Term(field=term.field, key=term.key, sign=sign.group("operator"), value=_text(value))
    return _checked(text, whole)


def _checked(text: str, term: _Term) -> _Term:
    if term.sign == ":" and not (term.key and term.value == "*"):
        raise _bad(text, "':' asks for a label's existence")
    if term.sign in "<>=" and term.field == "labels" and term.sign != "=":
        raise _bad(text, "labels support '=' and ':'")
    if term.sign == "!=" and term.field == "labels":
        raise _bad(text, "labels support '=' and ':'")
    if term.sign in ("<", "<=", ">", ">=") and not term.field.endswith("_time"):
        raise _bad(text, f"field {term.field!r} supports '=' and '!='")
    if term.field.endswith("_time"):
        _time(text, term.value)
    return term


def _text(token: re.Match[str]) -> str:
    string = token.group("string")
    if string is None:
        return token.group("word") or ""
    return re.sub(r"\\(.)", r"\1", string[1:-1])


def _holds(term: _Term, one: Any, fields: Mapping[str, str]) -> bool:
    if term.field == "labels":
        labels = getattr(one, fields["labels"])
        key = term.key or ""
        return key in labels and (term.sign == ":" or labels[key] == term.value)
    value = _value(one, fields[term.field])
    if isinstance(value, timestamp_pb2.Timestamp):
        return _OPERATORS[term.sign](value.ToNanoseconds(), _time("", term.value))
    if isinstance(value, bool):
        return _OPERATORS[term.sign](str(value).lower(), term.value.lower())
    return _OPERATORS[term.sign](str(value), term.value)


def _value(one: Any, field: str) -> Any:
    if field == "id":
        return one.name.rpartition("/")[2].partition("@")[0]
    found = getattr(one, field)
    enum = one.DESCRIPTOR.fields_by_name[field].enum_type
    return enum.values_by_number[found].name if enum is not None else found


def _time(text: str, value: str) -> int:
    moment = timestamp_pb2.Timestamp()
    try:
        moment.FromJsonString(value)
    except ValueError as error:
        raise _bad(text, f"{value!r} is no time in RFC 3339") from error
    nanoseconds: int = moment.ToNanoseconds()
    return nanoseconds


def _order(text: str, orders: Mapping[str, str]) -> list[tuple[str, bool]]:
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, direction = part.partition(" ")
        name, direction = snake(name), direction.strip().lower()
        if name not in orders or direction not in ("", "asc", "desc"):
            raise invalid("order_by", f"Cannot order by {part!r}.")  # unquoted
        found.append((name, direction == "desc"))
    return found


def _sortable(one: Any, field: str) -> Any:
    value = getattr(one, field)
    return value.ToNanoseconds() if isinstance(value, timestamp_pb2.Timestamp) else value


def _bad(text: str, why: str) -> Refused:
    return invalid("filter", f"Invalid filter {text!r}: {why}.")  # unquoted
