"""The google provider as far as its schemas tell: it checks, plans, and makes up the rest.

Buckets and endpoints are really made, where the provider is pointed at an emulator by the
arguments and variables of the real one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import live
from inventing import invented
from protocol import MESSAGES
from values import UNKNOWN, decoded, encoded

NESTING = {"single": 1, "list": 2, "set": 3, "map": 4}
ERROR = 1
EMULATOR = "Refused by the emulator"


def _schemas() -> dict[str, Any]:
    here = Path(__file__).resolve().parent
    major = os.environ.get("GOOGLE_SCHEMAS", "8")
    document: dict[str, Any] = json.loads((here / "schemas" / f"{major}.json").read_text())
    return document


class Provider:
    """The methods of the protocol; each takes a request and returns the fields of its answer."""

    def __init__(self) -> None:
        self._schemas = _schemas()
        self._config: dict[str, Any] = {}

    def _schema(self, name: str, kind: str = "resources") -> dict[str, Any]:
        found: dict[str, Any] = self._schemas[kind][name]
        return found

    def GetProviderSchema(self, _request: Any) -> dict[str, Any]:
        return {
            "provider": _schema(self._schemas["provider"]),
            "resource_schemas": _entries(self._schemas["resources"]),
            "data_source_schemas": _entries(self._schemas["data"]),
            "server_capabilities": MESSAGES["Capabilities"](),
        }

    def ValidateProviderConfig(self, request: Any) -> dict[str, Any]:
        found = _problems(self._schemas["provider"], _value(request.config))
        return {"diagnostics": [_diagnostic(text) for text in found]}

    def ValidateResourceConfig(self, request: Any) -> dict[str, Any]:
        found = _problems(self._schema(request.type_name), _value(request.config))
        return {"diagnostics": [_diagnostic(text) for text in found]}

    def ValidateDataResourceConfig(self, request: Any) -> dict[str, Any]:
        found = _problems(self._schema(request.type_name, "data"), _value(request.config))
        return {"diagnostics": [_diagnostic(text) for text in found]}

    def ConfigureProvider(self, request: Any) -> dict[str, Any]:
        self._config = {
            key: value for key, value in _value(request.config).items() if value not in (None, [])
        }
        return {}

    def UpgradeResourceState(self, request: Any) -> dict[str, Any]:
        return {"state": _dynamic(json.loads(request.raw_state.json))}

    def ReadResource(self, request: Any) -> dict[str, Any]:
        state = _value(request.current_state)
        kind = live.find(request.type_name, self._config)
        return {"state": _dynamic(state if kind is None else kind.read(state))}

    def PlanResourceChange(self, request: Any) -> dict[str, Any]:
        planned, prior = _value(request.proposed_new_state), _value(request.prior_state)
        if planned is not None and prior is None:
            for name, one in self._schema(request.type_name)["attributes"].items():
                if one.get("computed") and planned.get(name) is None:
                    planned[name] = UNKNOWN
        return {"planned_state": _dynamic(planned)}

    def ApplyResourceChange(self, request: Any) -> dict[str, Any]:
        state, prior = _value(request.planned_state), _value(request.prior_state)
        kind = live.find(request.type_name, self._config)
        try:
            if kind is not None and state is None:
                kind.remove(prior)
            elif kind is not None:
                kind.put(state, prior)
        except live.Refused as error:
            return {
                "new_state": _dynamic(prior),
                "diagnostics": [_diagnostic(str(error), EMULATOR)],
            }
        if state is not None:
            attributes = self._schema(request.type_name)["attributes"]
            state = invented(request.type_name, state, attributes, self._config)
        return {"new_state": _dynamic(state)}

    def ReadDataSource(self, request: Any) -> dict[str, Any]:
        state = _value(request.config)
        attributes = self._schema(request.type_name, "data")["attributes"]
        for name, one in attributes.items():
            if one.get("computed") and state.get(name) is None:
                state[name] = UNKNOWN
        name = f"data.{request.type_name}"
        return {"state": _dynamic(invented(name, state, attributes, self._config))}

    def ImportResourceState(self, request: Any) -> dict[str, Any]:
        schema = self._schema(request.type_name)
        state: dict[str, Any] = dict.fromkeys(schema["attributes"])
        state |= {
            name: None if one["nesting"] == "single" else []
            for name, one in schema["blocks"].items()
        }
        state["id"] = request.id
        made = {"type_name": request.type_name, "state": _dynamic(state)}
        return {"imported_resources": [MESSAGES["Imported"](**made)]}

    def StopProvider(self, _request: Any) -> dict[str, Any]:
        return {}


def _value(dynamic: Any) -> Any:
    return decoded(dynamic.msgpack) if dynamic.msgpack else None


def _dynamic(value: Any) -> Any:
    return MESSAGES["Dynamic"](msgpack=encoded(value))


def _diagnostic(text: str, summary: str = "Refused by the schema") -> Any:
    return MESSAGES["Diagnostic"](severity=ERROR, summary=summary, detail=text)


def _problems(schema: Mapping[str, Any], value: Any, path: str = "") -> Iterator[str]:
    """Yield what Terraform itself cannot see: values that are Google's to set, and enums."""
    if not isinstance(value, dict):
        return
    for name, one in schema["attributes"].items():
        given = value.get(name)
        if given is None or given is UNKNOWN:
            continue
        if one.get("computed") and not one.get("optional"):
            yield f"{path}{name}: its value is decided automatically"
        values = one.get("values")
        if values and isinstance(given, str) and given not in values:
            yield f"{path}{name}: expected one of {values}, got {given!r}"
    for name, one in schema["blocks"].items():
        given = value.get(name)
        for inner in given if isinstance(given, list) else [given]:
            yield from _problems(one["block"], inner, f"{path}{name}.")


def _entries(schemas: Mapping[str, Any]) -> list[Any]:
    return [MESSAGES["Entry"](key=name, value=_schema(one)) for name, one in schemas.items()]


def _schema(schema: Mapping[str, Any]) -> Any:
    return MESSAGES["Schema"](block=_block(schema))


def _block(schema: Mapping[str, Any]) -> Any:
    return MESSAGES["Block"](
        attributes=[
            MESSAGES["Attribute"](
                name=name,
                type=json.dumps(one["type"]).encode(),
                **{key: True for key in ("required", "optional", "computed") if one.get(key)},
            )
            for name, one in schema["attributes"].items()
        ],
        block_types=[
            MESSAGES["Nested"](
                type_name=name,
                block=_block(one["block"]),
                nesting=NESTING[one["nesting"]],
                min_items=one.get("min_items", 0),
                max_items=one.get("max_items", 0),
            )
            for name, one in schema["blocks"].items()
        ],
    )
