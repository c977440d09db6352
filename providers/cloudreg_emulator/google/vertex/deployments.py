"""Deployed models as real processes, each started exactly as Vertex AI starts a container.

Sources: https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements for the
variables, the probes and the routes, and the documentation of ModelContainerSpec in the SDK's
protos.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cloudreg_emulator.fleet import Contract, Fleet, Group, Launch
from cloudreg_emulator.fleet.fleet import PATIENCE_S
from cloudreg_emulator.fleet.instance import NO_CAPACITY
from cloudreg_emulator.google.vertex import managed, protos, reasons
from cloudreg_emulator.google.vertex.names import parse
from cloudreg_emulator.google.vertex.refusals import Refused
from cloudreg_emulator.google.vertex.traffic import Traffic
from cloudreg_emulator.google.world import World

__all__ = ["Deployment", "Deployments", "contract_of", "environment_of"]

PORT = 8080
HEALTH_S = 10.0
MISSES = 4
PERIOD_S = 10.0
"""Between two health checks."""

LEAST_PERIOD_S, MOST_PERIOD_S = 0.2, 1.0
"""Real seconds: nobody is to wait here for what takes 40 seconds there, nor to be asked always."""

LIVE_S = 40.0
"""Four TCP probes, ten seconds apart."""

DEPLOYMENT_S = 1800.0
"""What a deployment may take where the container does not say."""

_REFERENCE = re.compile(r"\$(\$)?\(([A-Za-z_][A-Za-z0-9_]*)\)")


class Deployment:
    """The replicas of one deployed model.

    Attributes:
        deployed: What was asked for, with its bounds as they are now.
        group: The processes.
        traffic: What it was asked, and how it went.
        predicts: Whether its container has a route for predictions.
    """

    def __init__(
        self, deployed: Any, group: Group, traffic: Traffic, world: World, *, predicts: bool
    ) -> None:
        """Take charge of a group that was just started."""
        self.deployed = deployed
        self.predicts = predicts
        self.group = group
        self.traffic = traffic
        self._world = world

    @property
    def ready(self) -> int:
        """How many replicas take requests."""
        return self.group.ready

    @property
    def failure(self) -> str:
        """Why replicas cannot come up; empty while they may."""
        failure = self.group.failure
        return self._reason(failure).message if failure else ""

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the most replicas."""
        resources = self.deployed.dedicated_resources
        return resources.min_replica_count, max(1, resources.max_replica_count)

    def is_up(self) -> bool:
        """Return whether enough replicas are ready.

        Raises:
            Refused: They never will be, in Google's words.
        """
        resources = self.deployed.dedicated_resources
        needed = resources.required_replica_count or max(1, resources.min_replica_count)
        if self.group.ready >= needed:
            return True
        failure = self.group.failure
        if failure:
            raise self._reason(failure)
        return False

    def stop(self) -> None:
        """Let the replicas end in the background."""
        self.group.stop()

    def _reason(self, failure: str) -> Refused:
        if failure == NO_CAPACITY:
            return reasons.refusal("quota", self.deployed, self._world.place)
        if "cannot be pulled" in failure:
            return Refused("FAILED_PRECONDITION", failure)
        ended = [line for line in self.group.logs(50) if line.startswith("the container ended: ")]
        word = "not_ready" if ended and "is not healthy" in ended[-1] else "exited"
        return reasons.refusal(word, self.deployed, self._world.place)


class Deployments:
    """All deployed models of one emulator. Thread-safe."""

    def __init__(
        self,
        world: World,
        *,
        images: Mapping[str, Sequence[str]],
        storage_url: Callable[[], str],
        log: Callable[[Launch, str, str], None],
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Begin without any.

        Args:
            world: What is shared.
            images: Patterns of image URIs, and the command of each.
            storage_url: Where the emulated Cloud Storage answers.
            log: Takes what was started, a replica's name and each line that it writes.
            patience_s: Real seconds that a start may take at least, whatever the scale.
        """
        self._world = world
        self._storage_url = storage_url
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], Deployment] = {}
        self._fleet = Fleet(
            lambda bucket, key, kind: iter(()),
            images,
            scale=world.scale,
            faults=world.faults,
            patience_s=patience_s,
            ping_pause_s=min(MOST_PERIOD_S, max(LEAST_PERIOD_S, PERIOD_S * world.scale)),
            log=log,
        )

    def start(self, endpoint: str, deployed: Any, version: Any) -> Deployment:
        """Begin to start the replicas of a deployed model.

        Args:
            endpoint: The endpoint's name.
            deployed: What is deployed.
            version: The model's version, as the registry keeps it.
        """
        resources = deployed.dedicated_resources
        beta = protos.as_version(resources, protos.V1BETA1)
        count = max(1, resources.min_replica_count, beta.initial_replica_count)
        launch = self._launch(endpoint, deployed, version)
        deployment = self._deployment(deployed, version, launch, count)
        with self._lock:
            self._kept[endpoint, deployed.id] = deployment
        return deployment

    def run(self, job: str, deployed: Any, version: Any) -> Deployment:
        """Begin to start the replicas of a batch job, which are nobody's else.

        Args:
            job: The job's name.
            deployed: What would be deployed.
            version: The model's version.
        """
        launch = replace(self._launch(job, deployed, version), job=True)
        count = deployed.dedicated_resources.min_replica_count
        return self._deployment(deployed, version, launch, count)

    def get(self, endpoint: str, deployed_id: str) -> Deployment | None:
        """Return a deployed model's replicas; None where there are none."""
        with self._lock:
            return self._kept.get((endpoint, deployed_id))

    def items(self) -> Iterator[tuple[str, Deployment]]:
        """Yield the endpoint's name and the replicas of all that is deployed, or will be."""
        with self._lock:
            kept = list(self._kept.items())
        for (endpoint, _), deployment in kept:
            yield endpoint, deployment

    def bound(self, endpoint: str, deployed: Any) -> None:
        """Take over other bounds."""
        found = self.get(endpoint, deployed.id)
        if found is None:
            return
        found.deployed = deployed
        least, most = found.bounds
        wanted = min(max(found.group.desired, least), most)
        if wanted != found.group.desired:
            found.group.resize(wanted)

    def stop(self, endpoint: str, deployed_id: str) -> None:
        """Let the replicas of a deployed model end, requests first."""
        found = self.get(endpoint, deployed_id)
        self.forget(endpoint, deployed_id)
        if found is not None:
            found.stop()

    def forget(self, endpoint: str, deployed_id: str) -> None:
        """Forget a deployed model; its processes are somebody else's business."""
        with self._lock:
            self._kept.pop((endpoint, deployed_id), None)

    @property
    def pids(self) -> list[int]:
        """The processes that run."""
        return self._fleet.pids

    def close(self) -> None:
        """End every process."""
        self._fleet.close()

    def _deployment(self, deployed: Any, version: Any, launch: Launch, count: int) -> Deployment:
        return Deployment(
            deployed,
            self._fleet.start(launch, count),
            Traffic(self._world.clock),
            self._world,
            predicts=not version.container_spec.invoke_route_prefix,
        )

    def _launch(self, endpoint: str, deployed: Any, version: Any) -> Launch:
        spec = version.container_spec
        timeout_s = DEPLOYMENT_S
        if spec.HasField("deployment_timeout"):
            timeout_s = spec.deployment_timeout.ToTimedelta().total_seconds()
        if spec.HasField("startup_probe"):
            probe = spec.startup_probe
            budget = (probe.failure_threshold or 1) * (probe.period_seconds or 10)
            timeout_s = min(timeout_s, float(budget))
        machine = deployed.dedicated_resources.machine_spec
        contract = contract_of(
            self._world, endpoint, deployed, version, storage_url=self._storage_url()
        )
        return Launch(
            endpoint=endpoint.rpartition("/")[2],
            variant=deployed.id,
            image=spec.image_uri,
            environment={one.name: one.value for one in spec.env},
            bucket=None,
            key=None,
            kind="prefix",
            compressed=False,
            instance_type=machine.machine_type,
            startup_timeout_s=timeout_s,
            download_timeout_s=timeout_s,
            account=self._world.place.project,
            region=_region(endpoint),
            contract=contract,
        )


def contract_of(
    world: World, endpoint: str, deployed: Any, version: Any, *, storage_url: str
) -> Contract:
    """Return how a container of a deployed model is started."""
    spec = version.container_spec
    endpoint_id = endpoint.rpartition("/")[2]
    usual = f"/v1/endpoints/{endpoint_id}/deployedModels/{deployed.id}"
    routes = (spec.health_route or usual, spec.predict_route or f"{usual}:predict")
    own = {one.name: one.value for one in spec.env}

    def environment(folder: Path, port: int) -> Mapping[str, str]:
        given = environment_of(world, endpoint, deployed, version, port=port, routes=routes)
        # Where the container finds Cloud Storage, and a disk of its own.
        extra = {"STORAGE_EMULATOR_HOST": storage_url, "TMPDIR": str(folder)}
        known = {**given, **own}
        return {**{k: _expanded(v, known) for k, v in own.items()}, **given, **extra}

    return Contract(
        command=tuple(spec.command),
        arguments=tuple(_expanded(one, own) for one in spec.args),
        environment=environment,
        health=routes[0],
        health_s=HEALTH_S,
        misses=MISSES,
        replaces=False,
        predict=routes[1],
        is_mirrored=False,
        live_s=LIVE_S,
    )


def environment_of(
    world: World,
    endpoint: str,
    deployed: Any,
    version: Any,
    *,
    port: int,
    routes: tuple[str, str],
) -> dict[str, str]:
    """Return the variables that Vertex AI gives every container."""
    machine = deployed.dedicated_resources.machine_spec
    endpoint_id = endpoint.rpartition("/")[2]
    artifacts = ""
    if version.artifact_uri:
        artifacts = managed.of(world, version.name, version.version_id, _region(version.name))
    found = {
        "AIP_MODE": "PREDICTION",
        "AIP_MODE_VERSION": "1.0.0",
        "AIP_FRAMEWORK": "CUSTOM_CONTAINER",
        "AIP_ENDPOINT_ID": endpoint_id,
        "AIP_DEPLOYED_MODEL_ID": deployed.id,
        "AIP_MODEL_NAME": endpoint_id,
        "AIP_VERSION_NAME": deployed.id,
        "AIP_PROJECT_NUMBER": str(world.place.number),
        "AIP_MACHINE_TYPE": machine.machine_type,
        # A container's own port is 8080 or what it asks for; here many share one machine.
        "AIP_HTTP_PORT": str(port),
        "AIP_HEALTH_ROUTE": routes[0],
        "AIP_PREDICT_ROUTE": routes[1],
        "AIP_STORAGE_URI": artifacts,
    }
    if machine.accelerator_type:
        names = machine.DESCRIPTOR.fields_by_name["accelerator_type"].enum_type
        found["AIP_ACCELERATOR_TYPE"] = names.values_by_number[machine.accelerator_type].name
    return found


def _expanded(text: str, known: Mapping[str, str]) -> str:
    """Return *text* with ``$(NAME)`` replaced where the name is known; ``$$(NAME)`` stays."""

    def value(found: re.Match[str]) -> str:
        if found[1]:
            return f"$({found[2]})"
        return known.get(found[2], found[0])

    return _REFERENCE.sub(value, text)


def _region(name: str) -> str:
    parts = parse(name)
    assert parts is not None
    return parts.location
