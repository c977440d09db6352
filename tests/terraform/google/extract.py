"""Read the google provider's schemas out of its bindings for CDK Terrain.

``python tests/terraform/google/extract.py WHEEL`` writes ``schemas/<major>.json`` for the types
that the modules use. The wheels are ``cdktn-provider-google`` on PyPI: 18.0.0 has google 6.50.0,
20.3.1 has 7.46.1 and 21.1.0 has 8.7.0. They were generated from the provider's own
``providers schema -json``, and say of every attribute its name, its type, whether it is a block,
required or computed, and in prose which values it takes.

What they do not say is not checked by whoever reads these files: patterns, attributes that exclude
each other, and attributes that are optional and computed at once.
"""

from __future__ import annotations

import io
import json
import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCHEMAS = Path(__file__).with_name("schemas")

RESOURCES = (
    "artifact_registry_repository",
    "artifact_registry_repository_iam_member",
    "billing_budget",
    "iam_workload_identity_pool",
    "iam_workload_identity_pool_provider",
    "kms_crypto_key",
    "kms_crypto_key_iam_member",
    "kms_key_ring",
    "monitoring_alert_policy",
    "monitoring_notification_channel",
    "project_iam_custom_role",
    "project_iam_member",
    "project_service",
    "service_account",
    "service_account_iam_member",
    "storage_bucket",
    "storage_bucket_iam_member",
    "vertex_ai_endpoint",
)
DATA = ("project", "storage_project_service_account", "storage_transfer_project_service_account")

PRIMITIVES = {"string": "string", "number": "number", "boolean": "bool", "any": "string"}

_ATTRIBUTE = re.compile(
    r"^( {8}| {12})\"?([A-Za-z0-9_]+)\"?: \{\n\s+value: (.*),\n\s+isBlock: (true|false),\n"
    r"\s+type: \"(\w+)\",\n\s+storageClassType: \"(\w+)\",",
    re.MULTILINE,
)
_COMPUTED = re.compile(
    r"// (\w+) - computed: true, optional: false, required: false\n\s+(.*?)\n(?=\s+(.*?)\n)"
)
_GETTERS = (
    ("getStringAttribute", "string"),
    ("getNumberAttribute", "number"),
    ("getBooleanAttribute", "bool"),
    ("Fn.tolist(this.getListAttribute", ["set", "string"]),
    ("getListAttribute", ["list", "string"]),
    ("BooleanMap(", ["map", "bool"]),
    ("NumberMap(", ["map", "number"]),
    ("StringMap", ["map", "string"]),
    ("AnyMap(", ["map", "string"]),
)


class Bindings:
    """One resource, data source or provider, as its two files have it."""

    def __init__(self, code: str, types: str) -> None:
        self.functions = dict(
            re.findall(
                r"^function (\w+)ToHclTerraform\(struct\) \{\n(.*?)\n\}\n", code, re.M | re.S
            )
        )
        self.classes = dict(
            re.findall(r"^class (\w+) extends [\w.]+ \{\n(.*?)^\}\n", code, re.M | re.S)
        )
        self.main = re.findall(
            r"^class (\w+) extends cdkt[fn]\.Terraform(?:Resource|DataSource|Provider)", code, re.M
        )[0]
        self.interfaces = {
            name: dict(_properties(body))
            for name, body in re.findall(
                r"^export interface (\w+)(?: extends [\w.]+)? \{\n(.*?)^\}", types, re.M | re.S
            )
        }

    def schema(self) -> dict[str, Any]:
        body = self.classes[self.main]
        start = body.index("synthesizeHclAttributes()")
        end = body.find("remove undefined attributes", start)
        return self._block(body[start:end], self.main + "Config", body)

    def _block(self, body: str, interface: str, reader: str) -> dict[str, Any]:
        known = self.interfaces.get(interface, {})
        found: dict[str, Any] = {"attributes": {}, "blocks": {}}
        for _, name, value, is_block, kind, storage in _ATTRIBUTE.findall(body):
            optional, values = known.get(name, (True, []))
            function = re.search(r"(\w+)ToHclTerraform\b", value)
            if is_block == "true" and function and function[1] in self.functions:
                self._nested(found, name, function[1], value, kind, required=not optional)
                continue
            attribute: dict[str, Any] = {"type": _type(kind, storage)}
            attribute["optional" if optional else "required"] = True
            if name == "id" and optional:
                attribute["computed"] = True
            if values:
                attribute["values"] = values
            found["attributes"][name] = attribute
        for name, first, second in _COMPUTED.findall(reader):
            if name not in found["attributes"] and name not in found["blocks"]:
                found["attributes"][name] = {"type": self._read(first + second), "computed": True}
        return found

    def _nested(
        self,
        found: dict[str, Any],
        name: str,
        function: str,
        value: str,
        kind: str,
        *,
        required: bool,
    ) -> None:
        interface = function[0].upper() + function[1:]
        inner = self._block(
            self.functions[function], interface, self.classes.get(interface + "OutputReference", "")
        )
        many = "listMapperHcl(" in value
        if many and re.search(
            r"listMapperHcl\(\w+, false\)", value
        ):  # an attribute in a block's clothes
            shape = ["object", {key: one["type"] for key, one in inner["attributes"].items()}]
            found["attributes"][name] = {
                "type": [kind, shape],
                "required" if required else "optional": True,
            }
            return
        nesting = {"list": "list", "set": "set", "struct": "single", "map": "map"}[kind]
        block: dict[str, Any] = {"nesting": nesting, "block": inner}
        if nesting in ("list", "set"):
            block |= {} if many else {"max_items": 1}
            block |= {"min_items": 1} if required else {}
        found["blocks"][name] = block

    def _read(self, text: str) -> Any:
        """Return the type of an attribute that is only read."""
        for getter, kind in _GETTERS:
            if getter in text:
                return kind
        listed = re.search(r"new (\w+?)List\(this, \"\w+\", (true|false)\)", text)
        if listed:
            return ["set" if listed[2] == "true" else "list", self._object(listed[1])]
        one = re.search(r"new (\w+?)OutputReference\(", text)
        return self._object(one[1]) if one else "string"

    def _object(self, name: str) -> list[Any]:
        body = self.classes.get(name + "OutputReference", "")
        return ["object", {n: self._read(a + b) for n, a, b in _COMPUTED.findall(body)}]


def _properties(body: str) -> Iterator[tuple[str, tuple[bool, list[str]]]]:
    """Yield each property with whether it is optional, and the values that its prose lists."""
    for prose, name, optional in re.findall(
        r"/\*\*((?:(?!\*/).)*)\*/\s+readonly (\w+)(\??):", body, re.DOTALL
    ):
        link = re.search(r"\{@link \S+?#(\w+) ", prose)
        listed = re.search(r"Possible values: (\[[^\]]*\])", prose)
        values = re.findall(r'"([^"]+)"', listed[1]) if listed else []
        yield (link[1] if link else name), (optional == "?", values)


def _type(kind: str, storage: str) -> Any:
    if kind == "simple":
        return PRIMITIVES.get(storage, "string")
    if storage.endswith("MapList"):
        return [kind, ["map", "string"]]
    element = re.match(r"(string|number|boolean|any)(List|Map|Set)$", storage)
    return [kind, PRIMITIVES[element[1]] if element else "string"]


def extract(wheel: Path) -> tuple[str, dict[str, Any]]:
    """Return the provider's version, and its schemas."""
    places = {"provider": "provider"}
    places |= {f"google_{name}": name.replace("_", "-") for name in RESOURCES}
    places |= {f"data.google_{name}": "data-google-" + name.replace("_", "-") for name in DATA}
    with zipfile.ZipFile(wheel) as outer:
        inner = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        packed = io.BytesIO(outer.read(inner))
    found: dict[str, str] = {}
    wanted = {
        f"package/lib/{folder}/index.{end}" for folder in places.values() for end in ("js", "d.ts")
    }
    with tarfile.open(fileobj=packed, mode="r:gz") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.name in wanted else None
            if content is not None:
                found[member.name] = content.read().decode()
    schemas: dict[str, Any] = {"provider": {}, "resources": {}, "data": {}}
    version = ""
    for name, folder in places.items():
        code = found[f"package/lib/{folder}/index.js"]
        schema = Bindings(code, found[f"package/lib/{folder}/index.d.ts"]).schema()
        said = re.search(r"providerVersion: '([\d.]+)'", code)
        version = said[1] if said else version
        if name == "provider":
            schemas["provider"] = schema
        else:
            kind = "data" if name.startswith("data.") else "resources"
            schemas[kind][name.removeprefix("data.")] = schema
    return version, schemas


def main(wheels: list[str]) -> int:
    """Write a file for each wheel."""
    for wheel in wheels:
        version, schemas = extract(Path(wheel))
        text = json.dumps({"version": version, **schemas}, separators=(",", ":"), sort_keys=True)
        (SCHEMAS / f"{version.partition('.')[0]}.json").write_text(text + "\n")
        print(version, len(schemas["resources"]), "resources", len(schemas["data"]), "data sources")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
