"""Version 6 of Terraform's plugin protocol, as far as a provider needs it: messages and methods.

Only numbers and types of fields are on the wire, so that messages are written down here as a table
and need no compiler.

Source: https://github.com/hashicorp/terraform/blob/v1.11.4/docs/plugin-protocol/tfplugin6.8.proto
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "tfplugin6"

_SCALARS = {"string": 9, "bytes": 12, "bool": 8, "int64": 3, "enum": 5}
"""Numbers of protobuf's own types; an enum's numbers travel as those of an int32."""

_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Dynamic": {"msgpack": (1, "bytes"), "json": (2, "bytes")},
    "Step": {"attribute_name": (1, "string")},
    "Path": {"steps": (1, "*Step")},
    "Diagnostic": {"severity": (1, "enum"), "summary": (2, "string"), "detail": (3, "string"),
                   "attribute": (4, "Path")},
    "Attribute": {"name": (1, "string"), "type": (2, "bytes"), "required": (4, "bool"),
                  "optional": (5, "bool"), "computed": (6, "bool")},
    "Nested": {"type_name": (1, "string"), "block": (2, "Block"), "nesting": (3, "enum"),
               "min_items": (4, "int64"), "max_items": (5, "int64")},
    "Block": {"version": (1, "int64"), "attributes": (2, "*Attribute"),
              "block_types": (3, "*Nested")},
    "Schema": {"version": (1, "int64"), "block": (2, "Block")},
    "Entry": {"key": (1, "string"), "value": (2, "Schema")},
    "Capabilities": {"plan_destroy": (1, "bool")},
    "Raw": {"json": (1, "bytes")},
    "Imported": {"type_name": (1, "string"), "state": (2, "Dynamic"), "private": (3, "bytes")},
    "Nothing": {},
    # A map is a list of entries on the wire.
    "Schemas": {"provider": (1, "Schema"), "resource_schemas": (2, "*Entry"),
                "data_source_schemas": (3, "*Entry"), "diagnostics": (4, "*Diagnostic"),
                "server_capabilities": (6, "Capabilities")},
    "Config": {"config": (1, "Dynamic")},
    "Configure": {"terraform_version": (1, "string"), "config": (2, "Dynamic")},
    "Typed": {"type_name": (1, "string"), "config": (2, "Dynamic")},
    "Checked": {"diagnostics": (1, "*Diagnostic")},
    "CheckedSecond": {"diagnostics": (2, "*Diagnostic")},
    "Upgrade": {"type_name": (1, "string"), "version": (2, "int64"), "raw_state": (3, "Raw")},
    "State": {"state": (1, "Dynamic"), "diagnostics": (2, "*Diagnostic")},
    "Read": {"type_name": (1, "string"), "current_state": (2, "Dynamic")},
    "Plan": {"type_name": (1, "string"), "prior_state": (2, "Dynamic"),
             "proposed_new_state": (3, "Dynamic"), "config": (4, "Dynamic")},
    "Planned": {"planned_state": (1, "Dynamic"), "requires_replace": (2, "*Path"),
                "diagnostics": (4, "*Diagnostic")},
    "Apply": {"type_name": (1, "string"), "prior_state": (2, "Dynamic"),
              "planned_state": (3, "Dynamic"), "config": (4, "Dynamic")},
    "Applied": {"new_state": (1, "Dynamic"), "diagnostics": (3, "*Diagnostic")},
    "Import": {"type_name": (1, "string"), "id": (2, "string")},
    "ImportedAll": {"imported_resources": (1, "*Imported"), "diagnostics": (2, "*Diagnostic")},
}  # fmt: skip

METHODS = {
    "GetProviderSchema": ("Nothing", "Schemas"),
    "ValidateProviderConfig": ("Config", "CheckedSecond"),
    "ValidateResourceConfig": ("Typed", "Checked"),
    "ValidateDataResourceConfig": ("Typed", "Checked"),
    "UpgradeResourceState": ("Upgrade", "State"),
    "ConfigureProvider": ("Configure", "Checked"),
    "ReadResource": ("Read", "State"),
    "PlanResourceChange": ("Plan", "Planned"),
    "ApplyResourceChange": ("Apply", "Applied"),
    "ImportResourceState": ("Import", "ImportedAll"),
    "ReadDataSource": ("Typed", "State"),
    "StopProvider": ("Nothing", "Nothing"),
}
"""Each method's request and response."""


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="tfplugin6.proto", package=PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            element = kind.removeprefix("*")
            made = message.field.add(name=field, number=number, label=3 if kind[0] == "*" else 1)
            if element in _SCALARS:
                made.type = _SCALARS[element]  # type: ignore[assignment]
            else:
                made.type, made.type_name = 11, f".{PACKAGE}.{element}"  # type: ignore[assignment]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in _MESSAGES
    }


MESSAGES = _classes()
