"""Images of AWS's own containers, by name: ``aws:pytorch:2.6.0``.

Which account holds an image in a region is data that the SageMaker SDK ships, one JSON file a
framework. It is found beside the SDK and read; the SDK itself, which takes seconds to import, is
not. Where it is not installed, the whole address has to be given.

Source: https://github.com/aws/sagemaker-python-sdk, ``sagemaker/core/image_uri_config``
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloudreg.errors import ConfigError
from cloudreg_sagemaker.machines import has_gpus
from cloudreg_sagemaker.partitions import partition_of

if TYPE_CHECKING:
    from cloudreg.types import ModelVersion, Resources
    from cloudreg_sagemaker.settings import SageMakerSettings

SCHEME = "aws:"
_NAME = re.compile(r"aws:([a-z0-9][a-z0-9-]*):([A-Za-z0-9][A-Za-z0-9._-]*)(?::(py[0-9]+))?")
_SCOPE = "inference"
_TRITON = "sagemaker-tritonserver"
"""Whose image for GPUs does not say so in its tag."""

EXTRA = "pip install 'cloudreg[sagemaker-sdk]'"
WHOLE = 'image = "<account>.dkr.ecr.<region>.amazonaws.com/<repository>:<tag>"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """The address of an image, but for its processor.

    Attributes:
        repository: With registry.
        prefix: What the tag begins with.
        python: Of the tag.
        processors: Those that there are; none where one image is for all.
        unsaid: Those that the tag does not name.
        suffixes: What the tag ends with, by processor.
    """

    repository: str
    prefix: str
    python: str | None
    processors: tuple[str, ...]
    unsaid: tuple[str, ...]
    suffixes: Mapping[str, str]

    def uri(self, processor: str) -> str:
        """Return the whole address."""
        is_said = processor in self.processors and processor not in self.unsaid
        said = processor if is_said else None
        parts = (self.prefix, said, self.python, self.suffixes.get(processor))
        return f"{self.repository}:{'-'.join(part for part in parts if part)}"


def image_for(
    version: ModelVersion,
    settings: SageMakerSettings,
    *,
    resources: Resources | None,
    target: str,
) -> str | None:
    """Return the image that serves a version: its own, else the target's; None without any.

    Args:
        version: Which one.
        settings: The target's.
        resources: What a replica runs on; without, the image for GPUs where there is one.
        target: For messages.

    Raises:
        ConfigError: A name of AWS's that cannot be resolved.
    """
    runtime = version.manifest.runtime
    image = (runtime.image if runtime else None) or settings.image
    if image is None or not image.startswith(SCHEME):
        return image
    gpus = None
    if resources is not None:
        gpus = resources.accelerator is not None or has_gpus(resources.machine_type or "")
    return resolve(image, region=settings.region, gpus=gpus, target=target)


def resolve(name: str, *, region: str, gpus: bool | None = None, target: str | None = None) -> str:
    """Return the address of one of AWS's images.

    Args:
        name: ``aws:FRAMEWORK:VERSION``, with ``:py310`` where there are several.
        region: The registry's.
        gpus: Whether the machine has GPUs; None takes the image for them where there is one.
        target: For messages.

    Raises:
        ConfigError: No such image, or the SDK's data is not here.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ConfigError(
            f"image {name!r} is not aws:FRAMEWORK:VERSION",
            target=target,
            hint='image = "aws:pytorch:2.6.0"',
        )
    root = folder()
    if root is None:
        raise ConfigError(
            f"image {name!r}: the data of AWS's images is not installed",
            target=target,
            hint=f"{EXTRA}, or {WHOLE}",
        )
    try:
        image = _found(root, region, *match.groups())
        return image.uri(_processor(image, gpus, framework=match[1]))
    except _NoImageError as error:
        raise ConfigError(f"image {name!r}: {error}", target=target, hint=error.hint) from None


def folder() -> Path | None:
    """Return where the SDK's data lies; None where it is not installed."""
    spec = find_spec("sagemaker")  # a package at the top is found without running it
    for place in (spec.submodule_search_locations if spec is not None else None) or ():
        found = Path(place) / "core" / "image_uri_config"
        if found.is_dir():
            return found
    return None


class _NoImageError(Exception):
    """There is no such image."""

    def __init__(self, message: str, *, hint: str = WHOLE) -> None:
        super().__init__(message)
        self.hint = hint


@cache
def _document(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _found(root: Path, region: str, framework: str, version: str, python: str | None) -> Image:
    path = root / f"{framework}.json"
    if not path.is_file():
        near = sorted(p.stem for p in root.glob(f"{framework.split('-', maxsplit=1)[0]}*.json"))
        raise _NoImageError(f"no framework {framework}" + _choices(near))
    document = _document(path)
    config = document if _SCOPE in document.get("scope", ()) else document.get(_SCOPE, {})
    versions: Mapping[str, Any] = config.get("versions", {})
    aliases: Mapping[str, str] = config.get("version_aliases", {})
    entry = versions.get(aliases.get(version, version))
    if entry is None:
        raise _NoImageError(f"no {version} of {framework} that predicts" + _choices(versions))
    if "repository" not in entry or "sdk_versions" in entry:
        # Of several frameworks at once, or of Neuron's releases: more than a name can say.
        raise _NoImageError(f"{framework} {version} is several images")
    registry = entry["registries"].get(region)
    if registry is None:
        raise _NoImageError(f"not in {region}", hint=f"{WHOLE}, in a registry that has it")
    repository = f"{registry}.dkr.ecr.{region}.{partition_of(region).suffix}/{entry['repository']}"
    processors = tuple(config.get("processors") or entry.get("processors") or ())
    unsaid = () if entry.get("processor_in_tag", True) else processors
    return Image(
        repository=repository,
        prefix=entry.get("tag_prefix", version),
        python=_python(entry.get("py_versions", ()), python, framework),
        processors=processors,
        unsaid=("gpu",) if framework == _TRITON else unsaid,
        suffixes=entry.get("container_version", {}),
    )


def _python(known: list[str], asked: str | None, framework: str) -> str | None:
    if asked is None and len(known) <= 1:
        return known[0] if known else None
    if asked not in known:
        hint = f'image = "aws:{framework}:VERSION:{known[-1]}"' if known else WHOLE
        raise _NoImageError(
            (f"no {asked}" if asked else "several versions of Python") + _choices(known), hint=hint
        )
    return asked


def _processor(image: Image, gpus: bool | None, *, framework: str) -> str:
    known = image.processors
    if gpus is None:
        gpus = "gpu" in known
    wanted = "gpu" if gpus else "cpu"
    if known and wanted not in known:
        raise _NoImageError(f"{framework} has no image for {wanted} machines" + _choices(known))
    return wanted


def _choices(known: Iterable[str]) -> str:
    last = list(known)[-8:]
    return f": there is {', '.join(last)}" if last else ""
