"""``cloudreg.auto.tfvars.json``: models, stages and endpoints are named once, in our file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloudreg.settings import Settings

FILE = "cloudreg.auto.tfvars.json"
"""Terraform reads every ``*.auto.tfvars.json`` of a root by itself."""

NAME = "cloudreg"
"""The variable's, as ``terraform/README.md`` declares it."""


def variables(settings: Settings) -> dict[str, Any]:
    """Return the variables of a root.

    Args:
        settings: What is configured; what Terraform itself said of the targets is not repeated.
    """
    endpoints = {
        name: {
            "model": endpoint.model,
            "stage": endpoint.stage,
            "target": settings.endpoint_target(name),
            "max_error_rate": endpoint.rollout.max_error_rate,
            "max_p95_ms": endpoint.rollout.max_p95_ms,
        }
        for name, endpoint in sorted(settings.endpoints.items())
    }
    models = {*settings.models, *(endpoint.model for endpoint in settings.endpoints.values())}
    targets = {
        name: {
            "provider": section.provider,
            "stages": [s for s in settings.order if name in settings.stage_targets(s)],
        }
        for name, section in sorted(settings.targets.items())
    }
    return {
        NAME: {
            "models": sorted(models),
            "stages": list(settings.order),
            "endpoints": endpoints,
            "targets": targets,
        }
    }


def rendered(settings: Settings) -> str:
    """Return the file's text: the same for the same configuration, so that it can be committed."""
    return json.dumps(variables(settings), indent=2, sort_keys=True) + "\n"
