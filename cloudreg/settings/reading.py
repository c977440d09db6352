"""Reading the configuration: ``cloudreg.toml``, ``CLOUDREG_*``, arguments.

Precedence: arguments, then ``CLOUDREG_*``, then ``cloudreg.toml``, then defaults.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from cloudreg.errors import ConfigError
from cloudreg.place import PREFIX, place, position
from cloudreg.settings.checks import Misplaced, check
from cloudreg.settings.tables import (
    DEFAULT_STAGES,
    EndpointSettings,
    ModelSettings,
    RolloutSettings,
    Settings,
    StageSettings,
)

FILE = "cloudreg.toml"

OTHER_VARIABLES = frozenset(
    {"CONFIG", "ACTOR", "TRACEBACK"}
    | {"MODEL_DIR", "MANIFEST", "DIGEST", "MODEL", "NUMBER", "PROVIDER", "HOST", "PORT"}
    | {"DEVICE", "THREADS", "MAX_BATCH", "MAX_QUEUE", "MAX_REQUEST_BYTES"}
    | {"REQUEST_TIMEOUT_S", "DRAIN_S", "DETERMINISTIC"}
)
"""``CLOUDREG_*`` variables that are no settings: the command line's and the model server's."""

DEFAULTS: Mapping[str, Any] = {
    "targets": {"local": {"provider": "local"}},
    "stages": {name: {} for name in DEFAULT_STAGES},
}
"""What stands in for a table that the file does not have, so that a variable adds to it."""


def find(start: Path | None = None) -> Path:
    """Return the ``cloudreg.toml`` of *start* or of the nearest folder above it.

    Without *start*, the one that ``CLOUDREG_CONFIG`` names, or else that of the working folder.

    Raises:
        ConfigError: There is none.
    """
    named = os.environ.get(f"{PREFIX}CONFIG") if start is None else None
    if named:
        path = Path(named)
        if not path.is_file():
            raise ConfigError(f"{PREFIX}CONFIG names {named}, which is no file")
        return path.resolve()
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / FILE).is_file():
            return folder / FILE
    raise ConfigError(f"there is no {FILE} in {here} or above it", hint="cloudreg init")


def load(path: Path, *, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read the configuration.

    Args:
        path: A ``cloudreg.toml``.
        overrides: Arguments; they beat everything else.

    Raises:
        ConfigError: Syntax, an unknown key, a wrong value, a name that leads nowhere; with the
            line and the column, or the name of the environment variable.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} cannot be read: {error}") from error
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line, column = position(str(error), text)
        reason = re.sub(r" \(at .*\)$", "", str(error))
        raise ConfigError(f"{path.name}, line {line}, column {column}: {reason}") from error
    variables = _known_variables()
    document = {**DEFAULTS, **document}
    try:
        if variables:
            from cloudreg import environment

            settings = environment.read(Settings, document, overrides or {})
        else:
            settings = Settings.model_validate(_over(document, overrides or {}))
        check(settings)
    except ValidationError as error:
        first = error.errors()[0]
        where = place(path, text, first["loc"], overrides or {})
        raise ConfigError(
            f"{where}: {_reason(first)}", hint=_nearest(first) or _unspeakable(where)
        ) from error
    except Misplaced as error:
        where = place(path, text, error.where, overrides or {})
        raise ConfigError(
            f"{where}: {error.reason}", hint=error.hint or _unspeakable(where)
        ) from error
    settings._origin = lambda where: place(path, text, where, overrides or {})
    return settings


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return *below* with the values of *above*; tables are merged, key by key."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        if isinstance(under, Mapping) and isinstance(value, Mapping):
            merged[key] = _over(under, value)
        else:
            merged[key] = value
    return merged


def _known_variables() -> bool:
    """Return whether a variable is a setting.

    Raises:
        ConfigError: A ``CLOUDREG_*`` variable is read by nothing: it would be silently ignored.
    """
    found = False
    for name in os.environ:
        # The settings are read without regard to case, so the unknown ones are too.
        if not name.upper().startswith(PREFIX):
            continue
        field, nested, _ = name.upper().removeprefix(PREFIX).partition("__")
        known = field.lower() in Settings.model_fields
        found = found or known
        if not known and (nested or field not in OTHER_VARIABLES):
            raise ConfigError(
                f"environment variable {name} is no setting",
                hint=f"known are {', '.join(PREFIX + f.upper() for f in Settings.model_fields)}",
            )
        if nested and field in ("HOME", "STATE"):
            raise ConfigError(f"environment variable {name}: {field.lower()} has no parts")
        if re.fullmatch(rf"{PREFIX}ENDPOINTS__.+?__ENV__.+", name.upper()):
            # Names of variables come in lower case from here, and A is not a.
            raise ConfigError(
                f"environment variable {name} would lose the case of its last part",
                hint=f"""{name[: name.upper().rindex("__ENV__")]}__ENV='{{"NAME": "value"}}'""",
            )
    return found


def _unspeakable(where: str) -> str | None:
    """Return why a variable may have named something that is not there."""
    if re.match(rf"environment variable {PREFIX}[A-Z]+__[^_]+_[^_]", where, re.IGNORECASE):
        return f"a name with a hyphen is set in {FILE}: no shell can export a variable with one"
    return None


def _reason(error: Mapping[str, Any]) -> str:
    key = error["loc"][-1] if error["loc"] else ""
    match error["type"]:
        case "extra_forbidden":
            return f"unknown key {key!r}"
        case "missing":
            return f"the key {key!r} is missing"
        case _:
            return f"{key}: {error['msg'][0].lower()}{error['msg'][1:]}, got {error['input']!r}"


def _nearest(error: Mapping[str, Any]) -> str | None:
    if error["type"] != "extra_forbidden":
        return None
    sections: dict[str, type[BaseModel]] = {
        "stages": StageSettings,
        "models": ModelSettings,
        "endpoints": EndpointSettings,
    }
    where = [str(part) for part in error["loc"]]
    model: type[BaseModel] = Settings
    if "rollout" in where[:-1]:
        model = RolloutSettings
    elif len(where) > 1 and where[0] in sections:
        model = sections[where[0]]
    return f"known are {', '.join(model.model_fields)}"
