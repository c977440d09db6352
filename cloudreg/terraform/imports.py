"""What exists already and Terraform may take over, as import blocks.

Source: https://developer.hashicorp.com/terraform/language/import
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from cloudreg.provider import Importable


def blocks(found: Iterable[Importable]) -> Iterator[str]:
    """Yield the lines of an import block each; what is better left alone is a comment."""
    taken: set[str] = set()
    for one in found:
        if one.kept:
            yield f"# {one.type} {one.id}: {one.kept}"
            yield ""
            continue
        address = f"{one.type}.{_label(one, taken)}"
        taken.add(address)
        yield "import {"
        yield f"  to = {address}"
        yield f"  id = {_quoted(one.id)}"
        yield "}"
        yield ""


def _label(one: Importable, taken: set[str]) -> str:
    """Return a name that Terraform takes, and that no other block of the type has."""
    label = re.sub(r"[^A-Za-z0-9_-]", "_", one.name)
    if not re.match(r"[A-Za-z_]", label):
        label = f"_{label}"
    number, found = 1, label
    while f"{one.type}.{found}" in taken:
        number += 1
        found = f"{label}_{number}"
    return found


def _quoted(text: str) -> str:
    """Return a string of HCL, in which nothing is a template."""
    quoted = json.dumps(text, ensure_ascii=False)
    return quoted.replace("${", "$${").replace("%{", "%%{")
