"""A provider in memory: sound as it stands, and made of parts small enough to break one by one.

Resources become ready after a number of polls, not of seconds.
"""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from cloudreg.capabilities import Capabilities
from cloudreg.errors import (
    AlreadyExists,
    Conflict,
    InvalidRequest,
    NotFound,
    OperationFailed,
    OperationTimeout,
    Unavailable,
    Unsupported,
)
from cloudreg.jobs import BatchSpec
from cloudreg.provider import (
    LINES,
    BatchBackend,
    NoBatch,
    NoTransfer,
    StoredObject,
    TransferBackend,
)
from cloudreg.testing.conformance import ServingTests, make_version
from cloudreg.types import (
    CustomMetric,
    Endpoint,
    EndpointKind,
    EndpointSpec,
    EndpointStatus,
    ModelVersion,
    OperationState,
    OperationStatus,
    PublishedVersion,
    Rollout,
    ScalingMetric,
    Variant,
    VariantMetrics,
    VariantStatus,
)

POLLS = 3
"""How often an operation says that it runs."""

MAX_BYTES = 16 * 1024 * 1024


@dataclass
class World:
    """What outlives a provider that is closed."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    objects: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    versions: dict[str, dict[int, PublishedVersion]] = field(default_factory=dict)
    stages: dict[tuple[str, str], str] = field(default_factory=dict)
    endpoints: dict[str, Served] = field(default_factory=dict)
    jobs: dict[str, Batched] = field(default_factory=dict)


class MemoryStore:
    def __init__(self, world: World) -> None:
        self.world = world
        self.objects = world.objects

    def put(
        self,
        source: Path | bytes | Iterable[bytes],
        key: str,
        *,
        if_absent: bool = False,
        resume: str | None = None,
    ) -> StoredObject:
        key = self.check(key)
        data = self.gather(source, key)
        with self.world.lock:
            if if_absent and key in self.objects:
                raise AlreadyExists(key)
            self.objects[key] = (data, time.time())
            return self.shown(key)

    def gather(self, source: Path | bytes | Iterable[bytes], key: str) -> bytes:
        if isinstance(source, Path):
            return source.read_bytes()
        return source if isinstance(source, bytes) else b"".join(source)

    def check(self, key: str) -> str:
        try:
            size = len(key.encode())
        except UnicodeEncodeError as error:
            raise InvalidRequest("surrogates") from error
        parts = key.split("/")
        if not 1 <= size <= 1024 or {"", ".", ".."} & set(parts) or "\0" in key or "\\" in key:
            raise InvalidRequest(key)
        return key

    def shown(self, key: str) -> StoredObject:
        data, at = self.objects[key]
        return StoredObject(key=key, size=len(data), modified_at=at)

    def bytes_of(self, key: str) -> bytes:
        with self.world.lock:
            if key not in self.objects:
                raise NotFound(key)
            return self.objects[key][0]

    def get(self, key: str, dest: Path) -> None:
        data = self.bytes_of(self.check(key))
        try:
            with dest.open("xb") as writer:
                writer.write(data)
        except FileExistsError as error:
            raise AlreadyExists(str(dest)) from error

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> BinaryIO:
        key = self.check(key)
        if offset < 0 or (length is not None and length < 0):
            raise InvalidRequest("negative")
        return io.BytesIO(self.cut(self.bytes_of(key), offset, length))

    def cut(self, data: bytes, offset: int, length: int | None) -> bytes:
        return data[offset:][:length]

    def copy(self, key: str, to: str, *, if_absent: bool = False) -> StoredObject:
        return self.put(self.bytes_of(self.check(key)), self.check(to), if_absent=if_absent)

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        with self.world.lock:
            found = [key for key in self.objects if self.wanted(key, prefix, after)]
        for key in self.in_order(found):
            with self.world.lock:
                if key in self.objects:
                    yield self.shown(key)

    def wanted(self, key: str, prefix: str, after: str) -> bool:
        return key.startswith(prefix) and key.encode() > after.encode()

    def in_order(self, keys: list[str]) -> list[str]:
        return sorted(keys, key=str.encode)

    def delete(self, key: str) -> None:
        with self.world.lock:
            self.objects.pop(self.check(key), None)


class MemoryRegistry:
    def __init__(self, world: World) -> None:
        self.world = world
        self.stages = world.stages

    def versions(self, model: str) -> dict[int, PublishedVersion]:
        return self.world.versions.setdefault(model, {})

    def publish(self, version: ModelVersion) -> PublishedVersion:
        with self.world.lock:
            known = self.versions(version.model)
            there = known.get(version.number)
            if there is not None and there.digest != version.digest:
                raise AlreadyExists(version.ref)
            known[version.number] = PublishedVersion(
                model=version.model, number=version.number, digest=version.digest
            )
            return self.shown(known[version.number])

    def shown(self, version: PublishedVersion) -> PublishedVersion:
        stages = sorted(
            stage
            for (model, stage), digest in self.stages.items()
            if model == version.model and digest == version.digest
        )
        return replace(version, stages=tuple(stages))

    def published(self, model: str) -> Iterator[PublishedVersion]:
        with self.world.lock:
            known = self.versions(model)
            yield from [self.shown(known[number]) for number in self.in_order(known)]

    def in_order(self, numbers: Iterable[int]) -> list[int]:
        return sorted(numbers, reverse=True)

    def has(self, model: str, digest: str) -> bool:
        return any(v.digest == digest for v in self.versions(model).values())

    def point(self, model: str, stage: str, digest: str | None) -> None:
        with self.world.lock:
            if digest is None:
                self.stages.pop((model, stage), None)
            elif self.has(model, digest):
                self.stages[model, stage] = digest
            else:
                raise NotFound(digest)

    def withdraw(self, model: str, digest: str) -> None:
        with self.world.lock:
            for number, version in list(self.versions(model).items()):
                if version.digest == digest:
                    if self.shown(version).stages:
                        raise Conflict(digest)
                    del self.versions(model)[number]

    def native(self, model: str, digest: str) -> dict[str, Any]:
        with self.world.lock:
            for version in self.versions(model).values():
                if version.digest == digest:
                    return {"number": version.number, "digest": digest}
            raise NotFound(digest)


@dataclass
class Served:
    """One endpoint."""

    wanted: EndpointSpec
    artifacts: dict[str, ModelVersion]
    polls: int = 0
    current: EndpointSpec | None = None
    state: OperationState = OperationState.RUNNING
    logs: list[str] = field(default_factory=list)
    counts: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    credits: dict[str, int] = field(default_factory=dict)
    queue: list[bytes] = field(default_factory=list)
    looks: int = 0


class MemoryOperation:
    def __init__(self, backend: MemoryEndpoints, name: str) -> None:
        self.backend = backend
        self.name = name

    def poll(self) -> OperationStatus:
        with self.backend.world.lock:
            served = self.backend.served.get(self.name)
            if served is None:
                return OperationStatus(state=OperationState.SUCCEEDED)
            if served.state is OperationState.RUNNING:
                served.polls += 1
                if served.polls >= POLLS:
                    self.backend.finish(served)
            if served.state is OperationState.FAILED:
                return self.backend.failure(served)
            return OperationStatus(state=served.state)


class MemoryEndpoints:
    def __init__(self, world: World, store: MemoryStore) -> None:
        self.world = world
        self.store = store
        self.served = world.endpoints

    def endpoints(self) -> Iterator[Endpoint]:
        for name in self.in_order(list(self.served)):
            found = self.endpoint(name)
            if found is not None:
                yield found

    def in_order(self, names: list[str]) -> list[str]:
        return sorted(names)

    def endpoint(self, name: str) -> Endpoint | None:
        with self.world.lock:
            served = self.served.get(name)
            if served is None:
                return None
            spec = served.current or served.wanted
            return Endpoint(
                spec=self.spec_shown(spec),
                status=self.status(served),
                variants=tuple(self.variant_shown(v) for v in spec.variants)
                if served.current
                else (),
            )

    def spec_shown(self, spec: EndpointSpec) -> EndpointSpec:
        return spec

    def status(self, served: Served) -> EndpointStatus:
        if served.current is None:
            failed = served.state is OperationState.FAILED
            return EndpointStatus.FAILED if failed else EndpointStatus.CREATING
        running = served.state is OperationState.RUNNING
        return EndpointStatus.UPDATING if running else EndpointStatus.READY

    def variant_shown(self, variant: Variant) -> VariantStatus:
        return VariantStatus(
            name=variant.name,
            digest=variant.digest,
            # It scales as fast as thought.
            ready_replicas=variant.scaling.max_replicas,
            desired_replicas=variant.scaling.min_replicas,
            weight=variant.weight,
        )

    def check(self, spec: EndpointSpec, artifacts: Mapping[str, ModelVersion]) -> None:
        for variant in spec.variants:
            version = artifacts.get(variant.digest)
            if version is None:
                raise InvalidRequest(variant.digest)
            for entry in version.manifest.files:
                self.store.bytes_of(entry.key)

    def create(
        self, spec: EndpointSpec, *, artifacts: Mapping[str, ModelVersion]
    ) -> MemoryOperation:
        self.check(spec, artifacts)
        with self.world.lock:
            there = self.served.get(spec.name)
            if there is not None and there.wanted != spec:
                raise AlreadyExists(spec.name)
            if there is None:
                self.served[spec.name] = Served(wanted=spec, artifacts=dict(artifacts))
        return MemoryOperation(self, spec.name)

    def update(
        self,
        spec: EndpointSpec,
        *,
        artifacts: Mapping[str, ModelVersion],
        rollout: Rollout | None = None,
    ) -> MemoryOperation:
        if rollout is not None:
            SOUND.require_rollout(rollout, spec, target="conformance")
        self.check(spec, artifacts)
        with self.world.lock:
            served = self.served.get(spec.name)
            if served is None:
                raise NotFound(spec.name)
            if served.wanted != spec:
                served.wanted, served.polls = spec, 0
                served.state = OperationState.RUNNING
                served.artifacts.update(artifacts)
        return MemoryOperation(self, spec.name)

    def finish(self, served: Served) -> None:
        """Put in force what is wanted, if it starts."""
        for variant in served.wanted.variants:
            for entry in served.artifacts[variant.digest].manifest.files:
                if self.store.bytes_of(entry.key).startswith(b"crash"):
                    served.logs.append("the weights make no sense")
                    served.state = OperationState.FAILED
                    return
        served.logs.append(f"serving {served.wanted.variants[0].number}")
        served.current, served.state = served.wanted, OperationState.SUCCEEDED
        kept = {(v.name, v.digest) for v in served.wanted.variants}
        served.counts = {key: served.counts.get(key, [0, 0]) for key in kept}

    def failure(self, served: Served) -> OperationStatus:
        return OperationStatus(
            state=OperationState.FAILED, message="it crashed", logs=tuple(served.logs)
        )

    def delete(self, name: str) -> MemoryOperation:
        with self.world.lock:
            self.served.pop(name, None)
        return MemoryOperation(self, name)

    def invoke(
        self,
        name: str,
        body: bytes,
        *,
        content_type: str,
        timeout_s: float,
        variant: str | None = None,
    ) -> bytes:
        with self.world.lock:
            served = self.served.get(name)
            if served is None:
                raise NotFound(name)
            if not self.takes_requests(served) or served.current is None:
                raise Unavailable(name)
            if len(body) > MAX_BYTES:
                raise InvalidRequest("too large")
            chosen = self.chosen(served, served.current, variant)
            return self.answer(served, chosen, body, timeout_s)

    def takes_requests(self, served: Served) -> bool:
        return served.current is not None

    def chosen(self, served: Served, spec: EndpointSpec, name: str | None) -> Variant:
        if name is not None:
            found = spec.variant(name)
            if found is None:
                raise NotFound(name)
            return found
        for variant in spec.variants:
            served.credits[variant.name] = served.credits.get(variant.name, 0) + variant.weight
        best = max(spec.variants, key=lambda v: (v.weight > 0, served.credits[v.name]))
        served.credits[best.name] -= 100
        return best

    def answer(self, served: Served, variant: Variant, body: bytes, timeout_s: float) -> bytes:
        counts = served.counts[variant.name, variant.digest]
        counts[0] += 1
        try:
            asked = json.loads(body)
        except ValueError as error:
            raise InvalidRequest("no JSON") from error
        if asked.get("sleep_s", 0.0) > timeout_s:
            raise OperationTimeout("too slow")
        if asked.get("status", 200) >= 500:
            counts[1] += 1
            served.logs.append("it hurts")
            raise OperationFailed("it hurts", logs=served.logs)
        return json.dumps({"number": variant.number}).encode()

    def stream(
        self,
        name: str,
        body: bytes,
        *,
        content_type: str,
        timeout_s: float,
        accept: str = LINES,
        variant: str | None = None,
    ) -> Generator[bytes, None, None]:
        self.invoke(name, body, content_type=content_type, timeout_s=timeout_s, variant=variant)
        asked = json.loads(body)
        for number in range(asked["stream"]):
            yield b"row %d\n" % number
        if asked.get("broken"):
            raise OperationFailed("it broke off")

    def submit(self, name: str, body: bytes, *, content_type: str, timeout_s: float) -> str:
        with self.world.lock:
            served = self.served.get(name)
            if served is None:
                raise NotFound(name)
            if served.wanted.kind is not EndpointKind.ASYNCHRONOUS:
                raise Unsupported(name)
            served.queue.append(body)
            return f"{len(served.queue):04}"

    def result(self, name: str, request_id: str) -> bytes | None:
        with self.world.lock:
            served = self.served.get(name)
            known = request_id.isdecimal() and served is not None
            if served is None or not known or not 0 < int(request_id) <= len(served.queue):
                raise NotFound(request_id)
            served.looks += 1
            if served.looks % 2 or served.current is None:
                return None
            body = served.queue[int(request_id) - 1]
            try:
                return self.answer(served, served.current.variants[0], body, 60.0)
            except InvalidRequest as error:
                raise OperationFailed(f"{request_id}: {error.message}") from error
            except OperationFailed as error:
                raise OperationFailed(f"{request_id}: {error.message}") from error

    def metrics(
        self, name: str, *, window_s: float, custom: Sequence[CustomMetric] = ()
    ) -> Mapping[str, VariantMetrics]:
        SOUND.require_metrics(custom, name=name, target="conformance")
        with self.world.lock:
            return {
                label: VariantMetrics(
                    requests=requests,
                    errors=errors,
                    p50_ms=1.0 if requests else None,
                    p95_ms=2.0 if requests else None,
                )
                for (label, _), (requests, errors) in self.served[name].counts.items()
            }

    def logs(self, name: str, *, variant: str | None = None, lines: int = 100) -> list[str]:
        with self.world.lock:
            return self.served[name].logs[-lines:] if lines else []

    def native(self, name: str) -> dict[str, Any]:
        with self.world.lock:
            if name not in self.served:
                raise NotFound(name)
            return {"name": name}


SOUND = Capabilities(
    accelerators=frozenset({"T4", "L4"}),
    scale_to_zero=True,
    autoscaling=True,
    scaling_metrics=frozenset({ScalingMetric.CONCURRENCY, ScalingMetric.GPU_UTILIZATION}),
    step_scaling=True,
    pools=True,
    gpu_fallback=1,
    traffic_split=3,
    max_replicas=4,
    max_request_bytes=MAX_BYTES,
    variant_metrics=True,
    streaming=True,
    batch=True,
    kinds=frozenset(EndpointKind),
    serverless_memory_mib=(1024, 3072),
    serverless_concurrency=5,
    queue_scaling=True,
    queue_metrics=frozenset({ScalingMetric.CONCURRENCY}),
    queue_expires_s=(60, 43_200),
    reasons={
        "max_request_bytes": "memory is not endless",
        "serverless_memory_mib": "it comes in threes",
        "serverless_concurrency": "memory is not endless",
        "scaling_metrics": "memory has no processors",
        "queue_metrics": "memory knows who waits, and nothing else",
        "queue_expires_s": "memory forgets",
        "custom_metrics": "memory knows what was asked, and nothing else",
        "native_rollouts": "memory does as it is told, at once",
        "shadow": "memory casts none",
        "managed_transfer": "nobody but this process writes here",
    },
    nearest={"A10G": "L4 is the nearest (24 GB)"},
)

BARE = Capabilities(
    max_request_bytes=MAX_BYTES,
    machine_types=False,
    reasons={
        "accelerators": "no GPU here",
        "scale_to_zero": "nothing sleeps here",
        "autoscaling": "nothing runs here",
        "scaling_metrics": "nothing is measured here",
        "step_scaling": "nothing steps here",
        "pools": "nothing is shared here",
        "gpu_fallback": "no GPU, no other GPU",
        "traffic_split": "one at a time",
        "max_replicas": "one at a time",
        "max_request_bytes": "memory is not endless",
        "variant_metrics": "nobody counts",
        "custom_metrics": "nobody counts anything else",
        "native_rollouts": "nobody is there to do it",
        "shadow": "one at a time",
        "managed_transfer": "nobody but this process writes here",
        "streaming": "it thinks before it speaks",
        "kinds": "it knows one way",
        "batch": "one at a time",
        "machine_types": "they have no names here",
    },
)
"""As little as a provider may have."""


class BareEndpoints(MemoryEndpoints):
    def check(self, spec: EndpointSpec, artifacts: Mapping[str, ModelVersion]) -> None:
        BARE.require(spec, target="conformance")
        super().check(spec, artifacts)

    def metrics(self, name: str, **how: Any) -> Mapping[str, VariantMetrics]:
        raise Unsupported("nobody counts")

    def stream(self, name: str, body: bytes, **how: Any) -> Generator[bytes, None, None]:
        raise Unsupported("it thinks before it speaks")


@dataclass
class Batched:
    """One job."""

    spec: BatchSpec
    version: ModelVersion
    polls: int = 0
    state: OperationState = OperationState.RUNNING


class MemoryJob:
    def __init__(self, backend: MemoryBatch, name: str) -> None:
        self.backend = backend
        self.name = name

    def poll(self) -> OperationStatus:
        with self.backend.world.lock:
            job = self.backend.jobs[self.name]
            job.polls += 1
            if job.state is OperationState.RUNNING and job.polls >= POLLS:
                self.backend.finish(job)
            if job.state is OperationState.FAILED:
                return self.backend.failure()
            return OperationStatus(state=job.state)


class MemoryBatch:
    def __init__(self, world: World, store: MemoryStore) -> None:
        self.world = world
        self.store = store
        self.jobs: dict[str, Batched] = world.jobs

    def start(self, spec: BatchSpec, *, version: ModelVersion) -> MemoryJob:
        for entry in version.manifest.files:
            self.store.bytes_of(entry.key)
        with self.world.lock:
            self.jobs.setdefault(spec.name, Batched(spec=spec, version=version))
        return MemoryJob(self, spec.name)

    def find(self, name: str) -> MemoryJob | None:
        return MemoryJob(self, name) if name in self.jobs else None

    def stop(self, name: str) -> None:
        job = self.jobs.get(name)
        if job is not None and job.state is OperationState.RUNNING:
            job.state = OperationState.FAILED

    def finish(self, job: Batched) -> None:
        for entry in job.version.manifest.files:
            if self.store.bytes_of(entry.key).startswith(b"crash"):
                job.state = OperationState.FAILED
                return
        for stored in list(self.store.list(job.spec.input)):
            lines = self.store.bytes_of(stored.key).splitlines()
            key = f"{job.spec.output}{stored.key.removeprefix(job.spec.input)}.out"
            self.store.put(b"".join(self.scored(job, line) for line in lines), key)
        job.state = OperationState.SUCCEEDED

    def scored(self, job: Batched, line: bytes) -> bytes:
        try:
            json.loads(line)
        except ValueError:
            return b'{"error": "no JSON"}\n'
        return b'{"prediction": {"number": %d}}\n' % job.spec.number

    def failure(self) -> OperationStatus:
        return OperationStatus(state=OperationState.FAILED, message="it crashed", logs=("ouch",))


class MemoryProvider:
    def __init__(
        self,
        world: World | None = None,
        *,
        store: type[MemoryStore] = MemoryStore,
        registry: type[MemoryRegistry] = MemoryRegistry,
        endpoints: type[MemoryEndpoints] = MemoryEndpoints,
        batch: type[MemoryBatch] = MemoryBatch,
        capabilities: Capabilities = SOUND,
    ) -> None:
        self.parts: dict[str, Any] = {
            "store": store,
            "registry": registry,
            "endpoints": endpoints,
            "batch": batch,
            "capabilities": capabilities,
        }
        self.world = world or World()
        self.store = store(self.world)
        self.registry = registry(self.world)
        self.endpoints = endpoints(self.world, self.store)
        self.batch: BatchBackend = batch(self.world, self.store)
        if capabilities is BARE:
            self.batch = NoBatch("one at a time", target="conformance")
        self.capabilities = capabilities
        self.location = ""
        self.transfers: TransferBackend = NoTransfer(
            "nobody but this process writes here", target="conformance"
        )

    def reopen(self) -> MemoryProvider:
        return MemoryProvider(self.world, **self.parts)

    def close(self) -> None:
        pass


class MemoryTests(ServingTests):
    """What the kit wants to know of this provider."""

    endpoint_timeout_s = 5.0
    poll_interval_s = 0.01
    metrics_timeout_s = 0.2
    autoscaling_timeout_s = 0.5
    poll_limit_s = 0.1
    refused_question = b"no JSON"
    failing_question = b'{"status": 500}'
    slow_question = b'{"sleep_s": 1.0}'
    parts: Mapping[str, Any] = {}

    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls) -> MemoryProvider:
        return MemoryProvider(**cls.parts)

    @pytest.fixture(scope="class")
    @classmethod
    def reopen(cls, provider: MemoryProvider) -> Callable[[], MemoryProvider]:
        return provider.reopen

    @pytest.fixture(scope="class")
    @classmethod
    def servable(cls, provider: MemoryProvider) -> Callable[..., ModelVersion]:
        def make(number: int, *, broken: bool = False) -> ModelVersion:
            data = b"crash" if broken else b"weights of %d" % number
            return make_version(provider.store, number, weights=data)

        return make

    @classmethod
    def answered_by(cls, answer: bytes) -> int:
        return int(json.loads(answer)["number"])
