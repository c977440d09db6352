"""What an instance type has."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import moto

__all__ = ["accelerators"]

_P3 = {"p3.2xlarge": 1, "p3.8xlarge": 4, "p3.16xlarge": 8}
"""Gone from moto's data. Source: https://aws.amazon.com/ec2/instance-types/p3/"""


def accelerators(instance_type: str) -> int:
    """Return how many GPUs or Neuron devices ``ml.…`` has; 0 where none or unknown."""
    name = instance_type.removeprefix("ml.")
    entry = _catalogue().get(name, {})
    devices = [
        *entry.get("GpuInfo", {}).get("Gpus", ()),
        *entry.get("NeuronInfo", {}).get("NeuronDevices", ()),
    ]
    return sum(int(one["Count"]) for one in devices) or _P3.get(name, 0)


@cache
def _catalogue() -> dict[str, Any]:
    # moto ships a dump of ec2:DescribeInstanceTypes: 1395 types, Apache-2.0. The file alone is
    # read: importing moto.ec2 takes two seconds, for it loads its images.
    path = Path(str(moto.__file__)).parent / "ec2" / "resources" / "instance_types.json.gz"
    entries: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return entries
