"""Model servers as real processes: what stands behind every emulated endpoint.

A `Fleet` starts `Group` after group of alike instances; each instance is one process, started
exactly as its cloud starts a container. Nothing in this folder knows a cloud's API.
"""

from cloudreg_emulator.fleet.contract import SAGEMAKER, Contract
from cloudreg_emulator.fleet.fleet import DEFAULT_IMAGES, Fleet
from cloudreg_emulator.fleet.group import Group
from cloudreg_emulator.fleet.launch import (
    Answer,
    Broken,
    FleetError,
    Launch,
    NoInstance,
    TimedOut,
)

__all__ = [
    "DEFAULT_IMAGES",
    "SAGEMAKER",
    "Answer",
    "Broken",
    "Contract",
    "Fleet",
    "FleetError",
    "Group",
    "Launch",
    "NoInstance",
    "TimedOut",
]
