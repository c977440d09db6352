"""One image for a version: in its package, in every model, on every endpoint and in every job."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cloudreg.manifest import Runtime
from cloudreg.names import sha256
from cloudreg.testing.batches import job
from cloudreg.testing.serving import spec, variant
from cloudreg.types import EndpointKind, ModelVersion, Scaling, Serverless

PINNED = "123456789012.dkr.ecr.us-east-1.amazonaws.com/pinned@sha256:" + "5" * 64
RESTING = Scaling(min_replicas=0, max_replicas=1, scale_in_cooldown_s=86_400.0)


def test_everything_names_one_image(desk: Any, cloud: Any, model: str) -> None:
    """What a manifest pins is in all that is written of a version, else the target's image."""
    plain = desk.version(1, model=model)
    own = pinned(desk, desk.version(2, model=model))
    packages = {
        version.digest: desk.registry.publish(version).native_id for version in (plain, own)
    }
    names = {version.digest: list(served(desk, version)) for version in (plain, own)}
    both = variants(plain, own)
    together = desk.start(spec(desk.server.name(), *both)).name
    for number, version in enumerate((plain, own)):
        asked = replace(job(version), name=f"{model}-{number}")
        desk.provider.store.put(b"{}\n", f"{asked.input}0.jsonl")
        desk.provider.batch.start(asked, version=version)

    found: dict[str, set[str]] = defaultdict(set)
    counted = 0
    for digest, image in models(desk):
        if digest in packages:
            found[digest].add(image)
            counted += 1
    for digest, arn in packages.items():
        package = desk.client.describe_model_package(ModelPackageName=arn)
        (container,) = package["InferenceSpecification"]["Containers"]
        found[digest].add(container["Image"])
        for name in names[digest]:
            found[digest] |= running(desk, name)

    # Of each version: an endpoint, one that rests, a serverless one, a share of another, a job.
    assert counted >= 2 * 4
    assert found == {plain.digest: {cloud.section["image"]}, own.digest: {PINNED}}
    assert running(desk, together) == {cloud.section["image"], PINNED}


def pinned(desk: Any, version: ModelVersion) -> ModelVersion:
    """Return the version with an image of its own in its manifest."""
    manifest = replace(version.manifest, runtime=Runtime(kind="custom", image=PINNED))
    data = manifest.encode()
    desk.provider.store.put(data, f"manifests/{sha256(data).removeprefix('sha256:')}")
    return replace(version, manifest=manifest, digest=manifest.digest)


def served(desk: Any, version: ModelVersion) -> Iterator[str]:
    """Serve a version in every shape, and yield the names."""
    desk.server.artifacts[version.digest] = version
    (plain,) = variants(version)
    shapes = (
        spec(desk.server.name(), plain),
        spec(desk.server.name(), replace(plain, scaling=RESTING)),
        replace(
            spec(desk.server.name(), plain),
            kind=EndpointKind.SERVERLESS,
            serverless=Serverless(memory_mib=2048, max_concurrency=4),
        ),
    )
    for shape in shapes:
        yield desk.start(shape).name


def variants(*versions: ModelVersion) -> list[Any]:
    """Return a variant for each version, with equal shares."""
    return [
        variant(name, version, 100 // len(versions))
        for name, version in zip(("primary", "canary"), versions, strict=False)
    ]


def models(desk: Any) -> Iterator[tuple[str, str]]:
    """Yield digest and image of every model of the account that cloudreg made."""
    for page in desk.client.get_paginator("list_models").paginate():
        for listed in page["Models"]:
            model = desk.client.describe_model(ModelName=listed["ModelName"])
            container = model["PrimaryContainer"]
            yield container["Environment"]["CLOUDREG_DIGEST"], container["Image"]


def running(desk: Any, name: str) -> set[str]:
    """Return what an endpoint says that it runs, of its variants and of its components."""
    variants = desk.describe(name)["ProductionVariants"]
    found = {image["SpecifiedImage"] for one in variants for image in one.get("DeployedImages", ())}
    listed = desk.client.list_inference_components(EndpointNameEquals=name)["InferenceComponents"]
    for component in listed:
        seen = desk.client.describe_inference_component(
            InferenceComponentName=component["InferenceComponentName"]
        )
        deployed = seen["Specification"].get("Container", {}).get("DeployedImage", {})
        found |= {deployed["SpecifiedImage"]} if "SpecifiedImage" in deployed else set()
    return found
