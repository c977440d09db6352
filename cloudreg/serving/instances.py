"""``{"instances": […]}`` to ``{"predictions": […]}``: the JSON that both clouds speak.

With one input an instance is the bare array, or ``{"name": array}``; with several it is an
object. With one output a prediction is the bare value; with several it is an object by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import orjson

from cloudreg.serving.checks import Array, SignatureCheck, Tensors, check_names, describe
from cloudreg.serving.http import Refusal, mismatch

OPTIONS = orjson.OPT_SERIALIZE_NUMPY


def decode(document: Any, checks: SignatureCheck) -> Tensors:
    """Return the inputs that *document* gives.

    Raises:
        Refusal: They are not what the signature says.
    """
    if not isinstance(document, dict):
        raise mismatch("body", wanted='an object with "instances"', got=describe(document))
    for key in document:
        if key not in ("instances", "parameters"):
            raise mismatch(key[:100], wanted="instances", got="another key")
    if document.get("parameters"):
        raise mismatch("parameters", wanted="none: this model takes no parameters", got="some")
    if "instances" not in document:
        raise Refusal(400, "instances is missing", field="instances", wanted="an array")
    instances = document["instances"]
    if not isinstance(instances, list):
        raise mismatch("instances", wanted="an array", got=describe(instances))
    if not instances:
        raise mismatch("instances", wanted="at least one instance", got="none")
    return columns(instances, checks)


def columns(instances: list[Any], checks: SignatureCheck) -> Tensors:
    """Return the inputs of *instances*, at least one, as tensors.

    Raises:
        Refusal: They are not what the signature says.
    """
    names = list(checks.inputs)
    if len(names) == 1 and not isinstance(instances[0], dict):
        return {names[0]: checks.inputs[names[0]].from_rows(instances, "instances[{}]".format)}
    keys = checks.inputs.keys()
    for index, instance in enumerate(instances):
        if not isinstance(instance, dict):
            wanted = f"an object with {', '.join(names)}"
            raise mismatch(f"instances[{index}]", wanted=wanted, got=describe(instance))
        if instance.keys() != keys:
            check_names(instance, names, f"instances[{index}]")
    return {
        name: check.from_rows([i[name] for i in instances], partial(_field, name))
        for name, check in checks.inputs.items()
    }


def _field(name: str, index: int) -> str:
    return f"instances[{index}].{name}"


def encode(outputs: Mapping[str, Array]) -> bytes:
    """Return the answer's JSON; floats keep the digits that their own precision has."""
    if len(outputs) == 1:
        (predictions,) = outputs.values()
        return orjson.dumps({"predictions": predictions}, option=OPTIONS)
    rows = zip(*outputs.values(), strict=True)
    return orjson.dumps(
        {"predictions": [dict(zip(outputs, row, strict=True)) for row in rows]}, option=OPTIONS
    )


def tile(inputs: Mapping[str, Array], rows: int) -> Tensors:
    """Return *rows* rows, made by repeating those of *inputs*."""
    return {name: np.resize(array, (rows, *array.shape[1:])) for name, array in inputs.items()}
