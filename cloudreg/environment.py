"""``CLOUDREG_*`` variables laid over the file: imported only where one of them is a setting.

pydantic-settings, with what it imports, takes as long as all else that a short command does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from cloudreg.errors import ConfigError
from cloudreg.place import PREFIX, unreadable_variable

Model = TypeVar("Model", bound=BaseModel)


def read(
    model: type[Model],
    document: Mapping[str, Any],
    overrides: Mapping[str, Any],
    *,
    below: Mapping[str, Any] | None = None,
) -> Model:
    """Return *model* filled from arguments, then variables, then the file, then *below*.

    Raises:
        ConfigError: A variable that must be JSON is none.
        pydantic.ValidationError: A value is not what the model wants.
    """

    class Everywhere(model, BaseSettings):  # type: ignore[valid-type,misc]
        model_config = SettingsConfigDict(
            env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
        )

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            # No dotenv, no secret files: they would be two more places where a value can hide.
            layers = (InitSettingsSource(settings_cls, dict(x)) for x in (document, below or {}))
            return init_settings, env_settings, *layers

    try:
        filled: Model = Everywhere(**overrides)
    except SettingsError as error:
        raise ConfigError(f"{unreadable_variable()}: not the JSON that it must be") from error
    return filled
