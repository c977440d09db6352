"""What endpoints cost, and until when they are up, on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloudreg import plugins
from cloudreg.machines import Machine, Price
from cloudreg.types import Resources
from cloudreg_local import PLUGIN

Call = Callable[..., Any]

RENTED = """
[targets.cloud]
provider = "rented"
path = ".cloud"
server_command = ["true"]

[endpoints.churn-prod]
model = "churn"
stage = "prod"
target = "cloud"
max_replicas = 3

[endpoints.churn-night]
model = "churn"
stage = "prod"
target = "cloud"
schedule = {days = "mon-fri", from = "07:00", to = "19:00"}

[endpoints.churn-large]
model = "churn"
stage = "staging"
target = "cloud"
min_replicas = 2

[endpoints.churn-dev]
model = "churn"
stage = "dev"
"""
"""A large endpoint, whose number of replicas has no price, and one that costs nothing."""


def machines(_: Any, resources: Resources, target: str) -> tuple[Machine, ...]:
    price = Price(usd_per_hour=2.0, region="r", as_of="2026-09-01", source="https://example.com")
    return (Machine(name="m", price=price),)


@pytest.fixture
def rented() -> Iterator[None]:
    """A provider that costs something, and is in a cloud as far as anybody can tell."""
    plugins.register(replace(PLUGIN, name="rented", machines=machines, remote=True))
    yield
    plugins._registered.pop("rented")


def test_cost(rented: None, project: Any, cloudreg: Call) -> None:
    """Each endpoint has a row; what they come to is told by target, by stage and in all."""
    project.configure(RENTED)
    said = cloudreg("cost")

    assert said.code == 0
    rows = {line.split()[0]: line.split()[1:] for line in said.out.splitlines() if line}
    assert rows["churn-prod"] == ["prod", "cloud", "m", *["$2.00", "to", "$6.00"], *["$1,460", "to", "$4,380"], "2026-09-01"]  # fmt: skip  # noqa: E501
    assert rows["churn-night"][-4:] == ["$521", "(261", "h)", "2026-09-01"]
    assert "target cloud: $8.00 to $12.00 an hour" in said.out
    assert "target local: $0.00 an hour, $0 a month" in said.out
    assert "stage prod: $4.00 to $8.00 an hour" in said.out
    assert "together: $8.00 to $12.00 an hour, $4,901 to $7,821 a month" in said.out


def test_cost_as_json(rented: None, project: Any, cloudreg: Call) -> None:
    """The facts are those of the text, as numbers."""
    project.configure(RENTED)
    facts = cloudreg("cost", "--json").json

    prod = next(e for e in facts["endpoints"] if e["endpoint"] == "churn-prod")
    assert (prod["target"], prod["stage"], prod["machines"]) == ("cloud", "prod", ["m"])
    assert prod["usd_per_hour"] == {"min": 2.0, "max": 6.0}
    assert prod["as_of"] == "2026-09-01"
    assert facts["targets"]["cloud"]["usd_per_hour"] == {"min": 8.0, "max": 12.0}
    assert facts["stages"]["staging"]["usd_per_month"] == {"min": 2920.0, "max": 2920.0}
    assert facts["total"]["unknown"] == {}


def test_cost_that_nobody_knows(project: Any, cloudreg: Call) -> None:
    """An endpoint without a price is named, with the reason and what says the price."""
    plugins.register(replace(PLUGIN, name="silent", machines=None))
    try:
        project.configure(RENTED.replace('"rented"', '"silent"'))
        said = cloudreg("cost")
    finally:
        plugins._registered.pop("silent")

    assert said.code == 0
    assert "and churn-large, churn-night, churn-prod of unknown price" in said.out
    assert "churn-prod: price unknown: the provider 'silent' tells of no prices" in said.out
    assert '[prices.cloud] "cpu" = 1.23' in said.out


def test_nothing_is_configured(project: Any, cloudreg: Call) -> None:
    """Without endpoints there is nothing to pay."""
    said = cloudreg("cost")

    assert (said.code, said.out) == (0, "no endpoint is configured\n")


def test_cost_asks_no_cloud(project: Any, tmp_path: Path, cloudreg: Call) -> None:
    """The price of endpoints in both clouds is told without credentials, and without a request."""
    project.configure(
        """
[targets.aws]
provider = "sagemaker"
region = "us-west-2"
bucket = "models-of-ours"

[targets.gcp]
provider = "vertex"
project = "our-project"
location = "us-central1"
bucket = "models-of-ours"

[endpoints.on-aws]
model = "churn"
stage = "prod"
target = "aws"
gpu = {min_memory_gib = 24}
max_replicas = 2

[endpoints.on-gcp]
model = "churn"
stage = "prod"
target = "gcp"
gpu = "T4:2"

[endpoints.dear]
model = "churn"
stage = "prod"
target = "gcp"
gpu = "A100"
"""
    )
    facts = {e["endpoint"]: e for e in cloudreg("cost", "--json").json["endpoints"]}

    assert facts["on-aws"]["machines"] == ["ml.g6.xlarge"]
    assert facts["on-aws"]["usd_per_hour"] == {"min": 1.127, "max": 2.254}
    assert facts["on-gcp"]["machines"] == ["n1-standard-16"]
    assert "no list price of n1-standard-16 in us-central1" in facts["on-gcp"]["unknown"]
    assert "no list price of a2-highgpu-1g" in facts["dear"]["unknown"]


def test_downgrade_is_refused_before_anything_is_asked(project: Any, cloudreg: Call) -> None:
    """A GPU that a cloud does not have is refused with the nearest and with what to type."""
    project.configure(
        """
[targets.gcp]
provider = "vertex"
project = "our-project"
location = "us-central1"
bucket = "models-of-ours"

[endpoints.churn-prod]
model = "churn"
stage = "prod"
target = "gcp"
gpu = "A10G"
"""
    )
    said = cloudreg("cost")

    assert said.code == 1
    assert "no A10G on this provider, and the nearest, L4, is a downgrade" in said.err
    assert 'hint: gpu = "L4", or allow_downgrade = true' in said.err


def test_touch_and_status(project: Any, cloudreg: Call) -> None:
    """A touch says until when, and status says the same; history tells of it."""
    project.configure('[endpoints.churn-dev]\nmodel = "churn"\nstage = "dev"\nttl = "8h"\n')
    assert cloudreg("register", "churn", project.model("one")).code == 0
    said = cloudreg("touch", "churn-dev", "--json")

    until = said.json["touched"]["churn-dev"]["until"]
    assert said.json["touched"]["churn-dev"]["up"]
    assert f"churn-dev: up until {until} (its ttl)" in cloudreg("status").out
    rows = cloudreg("status", "--json").json["stages"]
    assert rows[0]["endpoints"][0]["until"] == until
    assert "touched churn-dev: its ttl begins anew" in cloudreg("history", "churn").out
    assert cloudreg("touch", "nobody").code == 1


def test_saved_plan_shows_its_price(rented: None, project: Any, cloudreg: Call) -> None:
    """A plan that is applied from a file shows the price that was saved, and no edited one."""
    project.configure(RENTED)
    folder = project.model("one")
    assert cloudreg("register", "churn", folder).code == 0
    words = ("promote", "churn:1", "--to", "staging", "--dry-run", "--out", "plan.json")
    said = cloudreg(*words)
    assert said.code == 2
    assert "churn-large on cloud (m): $4.00 an hour, $2,920 a month" in said.out

    path = project.root / "plan.json"
    document = json.loads(path.read_bytes())
    document["price"]["endpoints"][0]["after"]["usd_per_hour"]["max"] = 0.01
    path.write_text(json.dumps(document))
    edited = cloudreg("apply", "plan.json", "--yes")
    assert edited.code != 0
    assert "was edited after it was saved" in edited.err
