"""One model registry and one stage model, mapped onto the registries of the clouds.

::

    ws = cloudreg.Workspace.load()
    version = ws.register("churn", "build/model", metrics={"val_auc": 0.91})
    live = ws.promote(version, to="staging")

Importing this package imports no SDK and no settings: names are looked up when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from cloudreg.errors import CloudregError
    from cloudreg.live import LiveEndpoint, Preview, Promotion
    from cloudreg.names import ModelRef
    from cloudreg.plan import Plan
    from cloudreg.scoring import Scored
    from cloudreg.shown import LiveVersion
    from cloudreg.types import ModelVersion
    from cloudreg.workspace import Workspace

__all__ = [
    "CloudregError",
    "LiveEndpoint",
    "LiveVersion",
    "ModelRef",
    "ModelVersion",
    "Plan",
    "Preview",
    "Promotion",
    "Scored",
    "Workspace",
    "__version__",
]

_HOMES = {
    "CloudregError": "cloudreg.errors",
    "LiveEndpoint": "cloudreg.live",
    "LiveVersion": "cloudreg.shown",
    "ModelRef": "cloudreg.names",
    "ModelVersion": "cloudreg.types",
    "Plan": "cloudreg.plan",
    "Preview": "cloudreg.live",
    "Promotion": "cloudreg.live",
    "Scored": "cloudreg.scoring",
    "Workspace": "cloudreg.workspace",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'cloudreg' has no attribute {name!r}")
