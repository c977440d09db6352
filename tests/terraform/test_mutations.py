"""Deliberate mistakes in the modules are refused by `terraform validate`."""

from __future__ import annotations

import json
import runpy
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
MODULES = HERE.parents[1] / "terraform" / "modules"
MUTATIONS = runpy.run_path(str(HERE / "mutations.py"))

VERSIONS = {"6": "6.50.0", "7": "7.46.1", "8": "8.7.0"}
EACH = 80
"""Mutants of the Google module in each version; they are spread over all kinds."""

SHARE = 0.95
SHARE_OF_AWS = 0.9
"""The provider leaves some words to the service: of budgets, versioning, lifecycles and ECR."""

GIVEN = {
    "gcp": 'project = "our-project"\n  location = "europe-west4"\n  bucket = "their-models"',
    "aws": 'bucket = "our-models"',
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def chosen(module: str, schemas: Any, count: int) -> list[Any]:
    """Return some mutants of every kind, and of all of the module."""
    found = list(MUTATIONS["mutants"](MODULES / module, schemas))
    kinds: dict[str, list[Any]] = {}
    for one in found:
        kinds.setdefault(one.kind, []).append(one)
    taken: list[Any] = []
    share = count // len(kinds)
    for of_kind in sorted(kinds.values(), key=len):
        step = max(1.0, len(of_kind) / share)
        taken += [of_kind[int(i * step)] for i in range(min(share, len(of_kind)))]
    return taken


def judged(root: Callable[..., Any], module: str, mutants: list[Any], text: str) -> Iterator[bool]:
    """Yield of each mutant whether it was refused; all stand side by side in one root."""
    calls = [
        f'module "m{i}" {{\n  source = "./m{i}"\n  cloudreg = var.cloudreg\n  {GIVEN[module]}\n}}'
        for i in range(len(mutants) + 1)
    ]
    made = root("\n".join([text, 'variable "cloudreg" { type = any }', *calls]))
    for i, mutant in enumerate([None, *mutants]):
        folder = made.folder / f"m{i}"
        shutil.copytree(MODULES / module, folder)
        if mutant is not None:
            (folder / mutant.file).write_text(mutant.text)
    # A block that is misspelt or doubled is found by some versions of terraform while they load.
    made.init()
    said = json.loads(made.run("validate", "-json", code=None))
    files = [one["range"]["filename"] for one in said["diagnostics"] if one["severity"] == "error"]
    refused = {Path(name).parts[0] for name in files}
    assert "m0" not in refused, "the module itself is refused"
    for i in range(1, len(mutants) + 1):
        yield f"m{i}" in refused


def test_google(root: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    """In each major version, of mistakes of six kinds nearly all are refused."""
    tried, caught = Counter[str](), Counter[str]()
    for major, version in VERSIONS.items():
        schemas = json.loads((HERE / "google" / "schemas" / f"{major}.json").read_text())
        mutants = chosen("gcp", schemas["resources"], EACH)
        text = (
            "terraform {\n  required_providers {\n"
            f'    google = {{ source = "hashicorp/google", version = "{version}" }}\n  }}\n}}'
        )

        def make(main: str, version: str = version) -> Any:
            return root(main, name=f"v{version}")

        for mutant, refused in zip(mutants, judged(make, "gcp", mutants, text), strict=True):
            tried[mutant.kind] += 1
            caught[mutant.kind] += refused
            if not refused:
                print(f"not refused: google {version}, {mutant.kind}, {mutant.file}:{mutant.line}")

    report("google", tried, caught, capsys)
    assert sum(tried.values()) >= 200
    assert set(tried) == kinds()
    assert sum(caught.values()) >= SHARE * sum(tried.values())


@pytest.mark.usefixtures("aws_provider")
def test_aws(root: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    """AWS's own provider refuses nearly all of them too."""
    mutants = chosen("aws", aws_schemas(root), 90)
    text = 'terraform {\n  required_providers {\n    aws = { source = "hashicorp/aws" }\n  }\n}'
    tried, caught = Counter[str](), Counter[str]()
    for mutant, refused in zip(mutants, judged(root, "aws", mutants, text), strict=True):
        tried[mutant.kind] += 1
        caught[mutant.kind] += refused
        if not refused:
            print(f"not refused: aws, {mutant.kind}, {mutant.file}:{mutant.line}")

    report("aws", tried, caught, capsys)
    assert sum(tried.values()) >= 50
    assert sum(caught.values()) >= SHARE_OF_AWS * sum(tried.values())


def aws_schemas(root: Callable[..., Any]) -> dict[str, Any]:
    """Return the provider's own schemas of what the module uses, in the shape of Google's."""
    made = root(
        'terraform {\n  required_providers {\n    aws = { source = "hashicorp/aws" }\n  }\n}',
        name="schemas",
    )
    made.init()
    said = json.loads(made.run("providers", "schema", "-json"))
    (provider,) = said["provider_schemas"].values()
    used = "".join(path.read_text() for path in (MODULES / "aws").glob("*.tf"))
    return {
        name: shaped(one["block"])
        for name, one in provider["resource_schemas"].items()
        if f'"{name}"' in used
    }


def shaped(block: Any) -> dict[str, Any]:
    """Return a block; which strings are enums the provider does not say, it refuses others."""
    attributes = {
        name: {**one, "enum": name in ENUMS} for name, one in block.get("attributes", {}).items()
    }
    blocks = {
        name: {"block": shaped(one["block"]), "max_items": one.get("max_items")}
        for name, one in block.get("block_types", {}).items()
    }
    return {"attributes": attributes, "blocks": blocks}


ENUMS = {
    "budget_type",
    "comparison_operator",
    "encryption_type",
    "image_tag_mutability",
    "notification_type",
    "object_ownership",
    "sse_algorithm",
    "status",
    "threshold_type",
    "time_unit",
    "vpc_endpoint_type",
}


def kinds() -> set[str]:
    names = ("RENAMED", "MISSING", "TYPED", "DOUBLED", "UNKNOWN", "WORD")
    return {MUTATIONS[name] for name in names}


def report(
    cloud: str, tried: Counter[str], caught: Counter[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Print what was caught, also where the test passes."""
    with capsys.disabled():
        total, all_caught = sum(tried.values()), sum(caught.values())
        print(f"\n{cloud}: {all_caught} of {total} mistakes refused ({all_caught / total:.1%})")
        for kind in sorted(tried):
            print(f"  {caught[kind]:3} of {tried[kind]:3}  {kind}")
