"""What the user configured: ``cloudreg.toml``, ``CLOUDREG_*``, arguments."""

from cloudreg.settings.endpoints import EndpointSettings
from cloudreg.settings.reading import FILE, OTHER_VARIABLES, find, load
from cloudreg.settings.tables import DEFAULT_STAGES, Settings, StageSettings

__all__ = [
    "DEFAULT_STAGES",
    "FILE",
    "OTHER_VARIABLES",
    "EndpointSettings",
    "Settings",
    "StageSettings",
    "find",
    "load",
]
