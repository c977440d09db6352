"""Reading the configuration: ``cloudreg.toml``, ``CLOUDREG_*``, arguments.

Precedence: arguments, then ``CLOUDREG_*``, then ``cloudreg.toml``, then what Terraform says, then
defaults.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from cloudreg.errors import ConfigError
from cloudreg.outputs import Outputs
from cloudreg.outputs import read as read_outputs
from cloudreg.place import PREFIX, Sources, position
from cloudreg.settings.checks import Misplaced, check
from cloudreg.settings.endpoints import EndpointSettings, RolloutSettings
from cloudreg.settings.tables import (
    DEFAULT_STAGES,
    KeySettings,
    ModelSettings,
    Settings,
    StageSettings,
    TerraformSettings,
)
from cloudreg.settings.wishes import GpuSettings, ScheduleSettings

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
    sources = Sources(path=path, text=text, overrides=overrides or {})
    try:
        outputs = _outputs(path.resolve().parent, document, overrides or {}, variables=variables)
        sources = replace(sources, outputs=outputs)
        below: Mapping[str, Any] = outputs.document if outputs is not None else {}
        settings = _merged(Settings, document, below, overrides or {}, variables=variables)
        check(settings)
    except ValidationError as error:
        first = error.errors()[0]
        where = sources.place(first["loc"])
        raise ConfigError(
            f"{where}: {_reason(first)}", hint=_nearest(first) or _unspeakable(where)
        ) from error
    except Misplaced as error:
        where = sources.place(error.where)
        raise ConfigError(
            f"{where}: {error.reason}", hint=error.hint or _unspeakable(where)
        ) from error
    settings._origin, settings._source = sources.place, sources.source
    settings._facts = outputs.facts if outputs is not None else {}
    return settings


Model = TypeVar("Model", bound=BaseModel)


def _merged(
    model: type[Model],
    document: Mapping[str, Any],
    below: Mapping[str, Any],
    overrides: Mapping[str, Any],
    *,
    variables: bool,
) -> Model:
    """Return *model* filled from all sources, each laid over the next.

    Raises:
        ConfigError: A variable that must be JSON is none.
        ValidationError: A value is not what the model wants.
    """
    missing = {key: value for key, value in DEFAULTS.items() if key not in {*document, *below}}
    bottom = {**missing, **below}
    if variables:
        from cloudreg import environment

        return environment.read(model, document, overrides, below=bottom)
    return model.model_validate(_over(_over(bottom, document), overrides))


class _Terraformed(BaseModel):
    """As much of the configuration as says where the rest is."""

    terraform: TerraformSettings = TerraformSettings()


_LOOKS = ("outputs", "chdir", "state")


def _outputs(
    root: Path, document: Mapping[str, Any], overrides: Mapping[str, Any], *, variables: bool
) -> Outputs | None:
    """Return what Terraform says; None where nothing tells where to look.

    Raises:
        ConfigError: It cannot be read.
        Misplaced: Several places are named by the same source.
        ValidationError: A value is not what it has to be.
    """
    given = {"terraform": document.get("terraform", {})}
    above = {"terraform": overrides["terraform"]} if "terraform" in overrides else {}
    if variables:
        from cloudreg import environment

        found = environment.read(_Terraformed, given, above).terraform
    else:
        found = _Terraformed.model_validate(_over(given, above)).terraform
    named = [key for key in _LOOKS if getattr(found, key) is not None]
    if len(named) > 1:
        raise Misplaced(
            ("terraform", named[1]),
            f"{' and '.join(named)}: what Terraform says is read in one place",
            f"leave {named[1]} out",
        )
    return read_outputs(root, **dict(found))


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
        "keys": KeySettings,
        "models": ModelSettings,
        "endpoints": EndpointSettings,
    }
    where = [str(part) for part in error["loc"]]
    model: type[BaseModel] = Settings
    inner = [part for part in where[:-1] if part in _TABLES]
    if inner and where[0] == "endpoints":
        model = _TABLES[inner[-1]]
    elif len(where) > 1 and where[0] in sections:
        model = sections[where[0]]
    known = [field.alias or name for name, field in model.model_fields.items()]
    return f"known are {', '.join(known)}"


_TABLES: Mapping[str, type[BaseModel]] = {
    "rollout": RolloutSettings,
    "gpu": GpuSettings,
    "schedule": ScheduleSettings,
}
"""Tables of an endpoint that have keys of their own."""
