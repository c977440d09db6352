"""Write what the Terraform modules take from cloudreg, and the tables of their READMEs.

``python tests/terraform/generate.py`` writes; the tests compare what is there with what it would
write. What a deployer may do has one source, the lists beside the calls in the providers.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cloudreg.provider import Deployed
from cloudreg_sagemaker import policy as sagemaker_policy
from cloudreg_sagemaker.settings import RETIRED, STAGE_NAMES, UNSTAGED, SageMakerSettings
from cloudreg_vertex.policy import TRANSFER
from cloudreg_vertex.policy import policy_for as vertex_policy_for
from cloudreg_vertex.settings import VertexSettings

MODULES = Path(__file__).parents[2] / "terraform" / "modules"
MARKS = "<!-- {name}: begin -->", "<!-- {name}: end -->"


def aws_deployer() -> dict[str, Any]:
    """Return what the policy of a deployer on AWS is made of."""
    settings = SageMakerSettings(
        region="us-east-1",
        bucket="some-bucket",
        account="123456789012",
        kms_key="arn:aws:kms:us-east-1:123456789012:key/0",
        role="arn:aws:iam::123456789012:role/r",
    )
    deployed = Deployed(models=("m",), endpoints=("e",), stages=("dev",), others=("prod",))
    statements = sagemaker_policy.policy_for(settings, deployed)["Statement"]
    of = {one["Sid"]: one for one in statements}
    return {
        "actions": {sid: one["Action"] for sid, one in of.items()},
        "alarms": [arn.rpartition(":alarm:")[2][:-1] for arn in of["Alarms"]["Resource"]],
        "retired": RETIRED,
        "scaling_role": of["ScalingRole"]["Resource"][0].partition("123456789012:")[2],
        "stage_names": STAGE_NAMES,
        "stem": sagemaker_policy.STEM,
        "unstaged": UNSTAGED,
    }


def gcp_deployer() -> dict[str, Any]:
    """Return the permissions of each custom role on Google Cloud, and more of them for copies."""
    settings = VertexSettings(project="some-project", location="europe-west4", bucket="some-bucket")
    roles = vertex_policy_for(settings, Deployed())["roles"]
    return {
        "roles": {name: role["includedPermissions"] for name, role in roles.items()},
        "transfer": sorted(TRANSFER),
    }


def documents() -> Iterator[tuple[Path, str]]:
    """Yield each generated file with its content."""
    made: dict[str, Callable[[], dict[str, Any]]] = {"aws": aws_deployer, "gcp": gcp_deployer}
    for module, content in made.items():
        text = json.dumps(content(), indent=2, sort_keys=True) + "\n"
        yield MODULES / module / "deployer.json", text
    for module in sorted(path for path in MODULES.iterdir() if (path / "README.md").exists()):
        yield module / "README.md", with_tables(module)


def with_tables(module: Path) -> str:
    """Return a module's README with its tables of inputs and outputs as its files have them."""
    text = (module / "README.md").read_text()
    for name, rows in (("inputs", inputs(module)), ("outputs", outputs(module))):
        begin, end = (mark.format(name=name) for mark in MARKS)
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        text = "\n".join([f"{head}{begin}", *rows, f"{end}{tail}"])
    return text


def inputs(module: Path) -> Iterator[str]:
    """Yield the table of a module's variables."""
    yield "| input | type | default | what |"
    yield "|---|---|---|---|"
    for name, body in blocks(module, "variable"):
        kind = _short(attribute(body, "type") or "")
        default = attribute(body, "default")
        shown = "**required**" if default is None else f"`{_short(default)}`"
        yield f"| `{name}` | `{kind}` | {shown} | {_prose(body)} |"


def outputs(module: Path) -> Iterator[str]:
    """Yield the table of a module's outputs."""
    yield "| output | what |"
    yield "|---|---|"
    for name, body in blocks(module, "output"):
        yield f"| `{name}` | {_prose(body)} |"


def blocks(module: Path, kind: str) -> Iterator[tuple[str, str]]:
    """Yield name and body of every top-level block of a kind, as `terraform fmt` lays them out."""
    pattern = re.compile(rf'^{kind} "([^"]+)" {{\n(.*?)^}}$', re.MULTILINE | re.DOTALL)
    for path in sorted(module.glob("*.tf")):
        yield from pattern.findall(path.read_text())


def attribute(body: str, name: str) -> str | None:
    """Return the text of an attribute of a block, over as many lines as it has."""
    found = re.search(rf"^  {name}\s*= (.*(?:\n    .*)*(?:\n  [)}}\]]+)?)", body, re.MULTILINE)
    return found[1] if found else None


def _short(text: str) -> str:
    one = re.sub(r"\s*\n\s*", " ", text.strip())
    one = re.sub(r"\b(\w+)\s+= ", r"\1 = ", one)
    return one.replace("|", "\\|")


def _prose(body: str) -> str:
    text = attribute(body, "description")
    return str(json.loads(text)).replace("|", "\\|") if text else ""


def main() -> int:
    """Write all, and tell what changed."""
    for path, text in documents():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
