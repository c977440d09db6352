"""The emulated clouds, as the command line starts them."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol

from cloudreg_emulator.faults import CONTROL_PATH

__all__ = ["CLOUDS", "Aws", "Cloud", "GoogleCloud", "opened"]


class Cloud(Protocol):
    """One emulated cloud that answers inside its ``with`` block."""

    name: str

    @property
    def facts(self) -> dict[str, Any]:
        """What programs want to know of it."""
        ...

    def environment(self) -> dict[str, str]:
        """Return the variables to set."""
        ...

    def taken_away(self) -> list[str]:
        """Return the variables of this process that lead clients elsewhere."""
        ...

    def merged(self, present: Mapping[str, str]) -> dict[str, str]:
        """Return *present* as a process inside must have it."""
        ...

    def __enter__(self) -> Cloud: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Aws:
    """Amazon Web Services."""

    name = "aws"

    def __init__(self, options: argparse.Namespace) -> None:
        """Prepare; moto takes a second to import."""
        from cloudreg_emulator.aws.server import AwsServer

        self._options = options
        self._server = AwsServer(
            port=options.port,
            host=options.host,
            region=options.region,
            images=dict(options.image),
            scale=options.scale,
            describes=options.describes,
        )

    @property
    def facts(self) -> dict[str, Any]:
        url = self._server.url
        return {
            "cloud": self.name,
            "url": url,
            "started_in_s": round(self._server.started_in_s, 3),
            "faults": f"{url}{CONTROL_PATH}",
        }

    def environment(self) -> dict[str, str]:
        return self._server.environment()

    def taken_away(self) -> list[str]:
        from cloudreg_emulator.aws.environment import taken_away

        return taken_away()

    def merged(self, present: Mapping[str, str]) -> dict[str, str]:
        from cloudreg_emulator.aws.environment import merged

        return merged(self.environment(), present)

    def __enter__(self) -> Aws:
        self._away = self.taken_away()
        self._server.__enter__()
        # The cloud that is started after it copies from here.
        self._options.s3_url = self._options.s3_url or self._server.url
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.__exit__(kind, error, trace)


class GoogleCloud:
    """Google Cloud: Cloud Storage and Vertex AI."""

    name = "google"

    def __init__(self, options: argparse.Namespace) -> None:
        """Prepare; the SDK's messages take a second to import."""
        self._options = options
        self._google: Any = None
        self._started_in_s = 0.0

    @property
    def facts(self) -> dict[str, Any]:
        url = self._google.url
        return {
            "cloud": self.name,
            "url": url,
            "grpc": self._google.grpc_address,
            "started_in_s": round(self._started_in_s, 3),
            "faults": f"{url}{CONTROL_PATH}",
        }

    def environment(self) -> dict[str, str]:
        from cloudreg_emulator.google.environment import environment

        return environment(self._google)

    def taken_away(self) -> list[str]:
        from cloudreg_emulator.google.environment import taken_away

        return taken_away()

    def merged(self, present: Mapping[str, str]) -> dict[str, str]:
        from cloudreg_emulator.google.environment import merged

        return merged(self.environment(), present)

    def __enter__(self) -> GoogleCloud:
        began = time.perf_counter()
        from cloudreg_emulator.google.emulator import Google

        options = self._options
        try:
            self._google = Google(
                project=options.project,
                regions=(options.google_region,),
                images=dict(options.image),
                scale=options.scale,
                polls=options.describes,
                state=options.state,
                s3=options.s3_url,
                host=options.host,
                port=options.google_port,
            )
        except OSError as error:
            where = f"{options.host} port {options.google_port}"
            raise OSError(error.errno, f"cannot listen on {where}: {error.strerror}") from error
        self._started_in_s = time.perf_counter() - began
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._google.close()


CLOUDS: Mapping[str, type[Aws] | type[GoogleCloud]] = {"aws": Aws, "google": GoogleCloud}


def opened(options: argparse.Namespace) -> list[Cloud]:
    """Return the clouds that are asked for, not started yet."""
    names = list(CLOUDS) if options.cloud == "both" else [options.cloud]
    return [CLOUDS[name](options) for name in names]


def environment_of(clouds: list[Cloud]) -> dict[str, str]:
    """Return the variables of all clouds."""
    found: dict[str, str] = {}
    for cloud in clouds:
        found |= cloud.environment()
    return found


def process_environment(clouds: list[Cloud]) -> dict[str, str]:
    """Return a whole environment for a process that is to reach all clouds."""
    found = dict(os.environ)
    for cloud in clouds:
        found = cloud.merged(found)
    return found
