"""What a target's section may say beside ``provider = "local"``."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Port = Annotated[int, Field(ge=1, le=65535)]
Device = Annotated[str, Field(pattern=r"^cuda:([0-9]{1,3}|(GPU|MIG)-[0-9A-Za-z-]+)$")]


class LocalSettings(BaseModel):
    """A local target.

    Attributes:
        path: The folder that holds everything; relative to ``cloudreg.toml``.
        host: Address that endpoints listen on. Nobody is asked for a password there.
        port_range: First and last port of endpoints; without it, any free one.
        emulate_accelerators: Accept every GPU class and machine, and serve on what this
            machine has.
        devices: GPUs that model servers get, each the one that the fewest others have; without it,
            those that this machine shows. None at all is ``[]``.
        server_command: Starts the model server; the options of ``cloudreg.serving`` are added.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(default=".cloudreg", min_length=1)
    host: str = Field(default="127.0.0.1", min_length=1)
    port_range: tuple[Port, Port] | None = None
    emulate_accelerators: bool = False
    devices: tuple[Device, ...] | None = None
    server_command: tuple[str, ...] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _check(self) -> LocalSettings:
        if self.port_range and self.port_range[0] > self.port_range[1]:
            raise ValueError("port_range: the first port is above the last")
        if self.devices and len(set(self.devices)) < len(self.devices):
            raise ValueError("devices: one of them stands there twice")
        return self
