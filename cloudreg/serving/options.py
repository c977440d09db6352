"""What can be asked of the server, and the platform that it finds itself on.

An argument beats the environment, which beats what the platform says, which beats the default.
Every option has a variable: SageMaker passes no arguments but ``serve``.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NoReturn

from cloudreg.errors import ConfigError, InvalidRequest
from cloudreg.manifest import MANIFEST_FILE
from cloudreg.names import check_digest, check_model
from cloudreg.serving.batching import Limits
from cloudreg.serving.runtimes import Compute

QUEUE_BATCHES = 32
"""Batches that may wait: a thousand rows, which is also the most in one request."""

_DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]{1,2})?")


class Platform(StrEnum):
    """Whose contract the server fulfils."""

    LOCAL = "local"
    SAGEMAKER = "sagemaker"
    VERTEX = "vertex"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Everything that the server is told.

    Attributes:
        platform: Whose contract it fulfils.
        model_dir: The version's files.
        manifest: The version's manifest.
        digest: The manifest's sha256: what has to be served.
        model: The model's name.
        number: The version's number; None for files that were never registered.
        host: The address it listens on.
        port: The port; 0 takes any that is free.
        health_route: Answered like ``/ping``, where it is another.
        predict_route: Answered like ``/invocations``, where it is another.
        exit_with_parent: Whether the end of standard input ends the server.
        limits: How much is done at once, and how much may wait.
        compute: Where and how the model computes.
        max_request_bytes: Of one request's body.
        drain_s: After SIGTERM, seconds in which health is refused and requests are answered.
        source: ``gs://`` folder that the files are fetched from first; None where they are there.
    """

    platform: Platform
    model_dir: Path
    manifest: Path
    digest: str
    model: str
    number: int | None
    host: str
    port: int
    health_route: str = "/ping"
    predict_route: str = "/invocations"
    exit_with_parent: bool = False
    limits: Limits = field(default_factory=Limits)
    compute: Compute = field(default_factory=Compute)
    max_request_bytes: int = 32 * 2**20
    drain_s: float = 5.0
    source: str | None = None


def detect(env: Mapping[str, str], *, serve: bool) -> Platform:
    """Return the platform: what cloudreg said, else what only one platform does.

    Args:
        env: The environment.
        serve: Whether the command line holds the word ``serve``.

    Raises:
        ConfigError: ``CLOUDREG_PROVIDER`` names none.
    """
    said = env.get("CLOUDREG_PROVIDER")
    if said:
        if said not in list(Platform):
            raise ConfigError(f"CLOUDREG_PROVIDER: {said!r} is none of {', '.join(Platform)}")
        return Platform(said)
    if env.get("AIP_MODE") == "PREDICTION":
        return Platform.VERTEX
    # There is no variable by which SageMaker says that it is SageMaker.
    if serve or _sagemaker_models(env).is_dir():
        return Platform.SAGEMAKER
    return Platform.LOCAL


def read(argv: Sequence[str], env: Mapping[str, str]) -> Options:
    """Return the options of a command line in an environment.

    Raises:
        ConfigError: An option is missing, unknown or impossible; the message names it.
    """
    given = vars(_parser().parse_args(list(argv)))
    platform = detect(env, serve=given.pop("serve") is not None)
    said = _Said(given, env)
    local, vertex = platform is Platform.LOCAL, platform is Platform.VERTEX
    folder = _model_dir(said, platform, env)
    max_batch = said.whole("max_batch", low=1, high=65536) or 32
    port = said.whole("port", low=0, high=65535)
    if port is None:
        variable = "AIP_HTTP_PORT" if vertex else "SAGEMAKER_BIND_TO_PORT"
        port = _whole(variable, env.get(variable) or "8080", low=0, high=65535)
    deterministic = said.flag("deterministic")
    drain_s = said.seconds("drain_s", low=0.0)
    return Options(
        platform=platform,
        model_dir=folder,
        source=None if said.text("model_dir") or not vertex else env.get("AIP_STORAGE_URI"),
        manifest=Path(said.text("manifest") or folder / MANIFEST_FILE),
        digest=said.needed("digest", check_digest),
        model=said.needed("model", check_model),
        number=said.whole("number", low=1, high=999_999_999),
        # Containers are reached from outside; a laptop's server is nobody else's business.
        host=said.text("host") or ("127.0.0.1" if local else "0.0.0.0"),  # noqa: S104 - see above
        port=port,
        health_route=(vertex and env.get("AIP_HEALTH_ROUTE")) or "/ping",
        predict_route=(vertex and env.get("AIP_PREDICT_ROUTE")) or "/invocations",
        exit_with_parent=bool(given["exit_with_parent"]),
        limits=Limits(
            max_batch=max_batch,
            max_queue=said.whole("max_queue", low=max_batch, high=2**24)
            or QUEUE_BATCHES * max_batch,
            timeout_s=said.seconds("request_timeout_s", low=0.1) or 60.0,
            together=not deterministic,
        ),
        compute=Compute(
            device=_device(said),
            threads=said.whole("threads", low=1, high=1024),
            deterministic=deterministic,
        ),
        max_request_bytes=said.whole("max_request_bytes", low=1024, high=2**31) or 32 * 2**20,
        # Load balancers need a few health checks; the local router has drained before.
        drain_s=drain_s if drain_s is not None else (0.5 if local else 5.0),
    )


def _sagemaker_models(env: Mapping[str, str]) -> Path:
    return Path(env.get("SAGEMAKER_BASE_DIR") or "/opt/ml") / "model"


def _model_dir(said: _Said, platform: Platform, env: Mapping[str, str]) -> Path:
    text = said.text("model_dir")
    if text:
        return Path(text).absolute()
    if platform is Platform.SAGEMAKER:
        return _sagemaker_models(env)
    if platform is Platform.VERTEX and env.get("AIP_STORAGE_URI"):
        # A folder of this process: a container has one, and here many share a machine.
        return Path(tempfile.gettempdir()) / f"cloudreg-model-{os.getpid()}"
    raise ConfigError("--model-dir is missing", hint="--model-dir DIR, or CLOUDREG_MODEL_DIR")


def _device(said: _Said) -> str:
    text = said.text("device") or "auto"
    if not _DEVICE.fullmatch(text):
        raise ConfigError(f"--device: {text!r} is none of auto, cpu, cuda, cuda:0, cuda:1, …")
    return text


def _whole(name: str, text: str, *, low: int, high: int) -> int:
    if not re.fullmatch("[0-9]{1,12}", text) or not low <= int(text) <= high:
        raise ConfigError(f"{name}: {text!r} is not a whole number from {low} to {high}")
    return int(text)


class _Said:
    """What arguments and environment say of one option, the arguments first."""

    def __init__(self, given: Mapping[str, object], env: Mapping[str, str]) -> None:
        self._given = given
        self._env = env

    def text(self, name: str) -> str | None:
        given = self._given[name]
        return str(given) if given not in (None, False) else self._env.get(_variable(name)) or None

    def needed(self, name: str, check: Callable[[str], str]) -> str:
        text = self.text(name)
        if text is None:
            raise ConfigError(
                f"{_flag(name)} is missing", hint=f"{_flag(name)}, or {_variable(name)}"
            )
        try:
            return check(text)
        except InvalidRequest as error:
            raise ConfigError(f"{_flag(name)}: {error.message}") from error

    def whole(self, name: str, *, low: int, high: int) -> int | None:
        text = self.text(name)
        return None if text is None else _whole(_flag(name), text, low=low, high=high)

    def seconds(self, name: str, *, low: float) -> float | None:
        text = self.text(name)
        if text is None:
            return None
        if not re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,3})?", text) or float(text) < low:
            raise ConfigError(f"{_flag(name)}: {text!r} is not a number of seconds from {low:g}")
        return float(text)

    def flag(self, name: str) -> bool:
        text = (self.text(name) or "false").lower()
        if text not in ("true", "false", "1", "0"):
            raise ConfigError(f"{_variable(name)}: {text!r} is neither true nor false")
        return text in ("true", "1")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _variable(name: str) -> str:
    return f"CLOUDREG_{name.upper()}"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message, hint=f"{self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="cloudreg-serve",
        description="Serve one version of a model.",
        epilog="Each option has a variable: --max-batch is CLOUDREG_MAX_BATCH. "
        "Exit codes: 3 the files are not what the manifest says, 4 no model came of them, "
        "64 the options make no sense.",
        allow_abbrev=False,
    )
    parser.add_argument("serve", nargs="?", choices=["serve"], help="SageMaker says it; no effect")
    for name, meta, text in (
        ("model_dir", "DIR", "the version's files"),
        ("manifest", "FILE", f"the version's manifest (default DIR/{MANIFEST_FILE})"),
        ("digest", "SHA256", "the manifest's digest: what has to be served"),
        ("model", "NAME", "the model's name"),
        ("number", "N", "the version's number"),
        ("host", "ADDRESS", "where to listen (default 127.0.0.1; 0.0.0.0 in a container)"),
        ("port", "PORT", "0 takes any free port (default 8080)"),
        ("device", "DEVICE", "auto, cpu, cuda or cuda:N (default auto)"),
        ("threads", "N", "CPU threads of one batch (default: the runtime's own choice)"),
        ("max_batch", "ROWS", "rows of a batch (default 32)"),
        ("max_queue", "ROWS", f"rows that may wait (default {QUEUE_BATCHES} batches)"),
        ("max_request_bytes", "BYTES", "of one request's body (default 32 MiB)"),
        ("request_timeout_s", "SECONDS", "from arrival to answer (default 60)"),
        ("drain_s", "SECONDS", "served on after SIGTERM (default 0.5; 5 in a container)"),
    ):
        parser.add_argument(_flag(name), metavar=meta, help=text)
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="one request a batch, deterministic algorithms, one thread unless --threads",
    )
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="end when standard input does"
    )
    return parser
