"""What every target's batch jobs must do, as tests; and the refusal where there are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from cloudreg.errors import NotFound, Unsupported
from cloudreg.jobs import BatchSpec
from cloudreg.provider import Provider
from cloudreg.testing.base import fresh
from cloudreg.testing.serving import Server, ServingTests
from cloudreg.types import ModelVersion, OperationState, OperationStatus


class BatchTests(ServingTests):
    """Data sets that are scored. The kit's own questions are the records."""

    @pytest.fixture(scope="class")
    @classmethod
    def batches(cls, provider: Provider) -> Provider:
        """Return a target with batch jobs."""
        if not provider.capabilities.batch:
            pytest.skip("no batch; test_batch checks that it is refused")
        return provider

    def test_batch(self, server: Server, provider: Provider) -> None:
        """A data set is scored object by object and line by line; else it is `Unsupported`."""
        version = server.version(2)
        if not provider.capabilities.batch:
            with pytest.raises(Unsupported) as caught:
                provider.batch.start(job(version), version=version)
            assert provider.capabilities.reasons["batch"] in caught.value.message
            return
        spec = self.fill(provider, job(version, replicas=2), [3, 1])
        assert self.run(server, spec, version).state is OperationState.SUCCEEDED

        answers = self.answers(provider, spec)
        assert [len(lines) for lines in answers] == [3, 1]
        assert [self.number(line) for lines in answers for line in lines] == [2, 2, 2, 2]

    def test_batch_with_bad_records(self, server: Server, batches: Provider) -> None:
        """A record that the model refuses has its error in its own line; the others are scored."""
        if self.refused_question is None:
            pytest.skip("the subclass gives no such question")
        version = server.version(1)
        spec = job(version)
        lines = [self.question, self.refused_question, self.question]
        batches.store.put(b"".join(line + b"\n" for line in lines), f"{spec.input}0.jsonl")
        assert self.run(server, spec, version).state is OperationState.SUCCEEDED

        (found,) = self.answers(batches, spec)
        assert ["error" in line for line in found] == [False, True, False]
        assert self.number(found[0]) == self.number(found[2]) == 1

    def test_batch_again(
        self, server: Server, batches: Provider, reopen: Callable[[], Provider] | None
    ) -> None:
        """A job that was begun is found by its name, and is not begun twice."""
        version = server.version(1)
        spec = self.fill(batches, job(version), [1])
        assert batches.batch.find(spec.name) is None
        batches.batch.start(spec, version=version)
        elsewhere = reopen() if reopen is not None else batches
        found = elsewhere.batch.find(spec.name)
        assert found is not None
        assert server.wait(found).state is OperationState.SUCCEEDED
        before = self.answers(batches, spec)
        batches.store.delete(f"{spec.input}0.jsonl")

        assert self.run(server, spec, version).state is OperationState.SUCCEEDED
        assert self.answers(batches, spec) == before

    def test_batch_that_fails(self, server: Server, batches: Provider) -> None:
        """A job whose model server does not start fails, with its last lines."""
        version = server.version(7, broken=True)
        spec = self.fill(batches, job(version), [1])
        status = self.run(server, spec, version)

        assert status.state is OperationState.FAILED
        assert status.message
        assert status.logs
        assert self.answers(batches, spec) == []

    def test_batch_that_is_stopped(self, server: Server, batches: Provider) -> None:
        """A job that is stopped ends as a failure; to stop what is not there is fine."""
        batches.batch.stop(fresh("kit-nobody"))
        if self.slow_question is None:
            pytest.skip("the subclass gives no such question")
        version = server.version(1)
        spec = job(version)
        batches.store.put((self.slow_question + b"\n") * 6, f"{spec.input}0.jsonl")
        operation = batches.batch.start(spec, version=version)
        batches.batch.stop(spec.name)

        assert server.wait(operation).state is OperationState.FAILED
        batches.batch.stop(spec.name)

    def test_batch_of_a_missing_file(self, server: Server, batches: Provider) -> None:
        """A version whose files are not in the store is `NotFound`, and no job is made."""
        made = self.make_version(batches.store, 9, model="kit", only=fresh("lost").encode())
        batches.store.delete(made.manifest.files[0].key)
        spec = self.fill(batches, job(made), [1])
        with pytest.raises(NotFound):
            batches.batch.start(spec, version=made)

        assert batches.batch.find(spec.name) is None

    def fill(self, provider: Provider, spec: BatchSpec, sizes: list[int]) -> BatchSpec:
        """Store an object for each of *sizes*, with as many records."""
        for index, size in enumerate(sizes):
            provider.store.put((self.question + b"\n") * size, f"{spec.input}{index}.jsonl")
        return spec

    def run(self, server: Server, spec: BatchSpec, version: ModelVersion) -> OperationStatus:
        """Start a job, and wait for its end."""
        return server.wait(server.provider.batch.start(spec, version=version))

    def answers(self, provider: Provider, spec: BatchSpec) -> list[list[Any]]:
        """Return the lines of each object, each of which has its name and ends in ``.out``."""
        found = []
        for index, stored in enumerate(provider.store.list(spec.output)):
            assert stored.key == f"{spec.output}{index}.jsonl.out"
            with provider.store.open(stored.key) as reader:
                found.append([json.loads(line) for line in reader if line.strip()])
        return found

    def number(self, line: Any) -> int:
        """Return the number of the version that answered in a line."""
        return self.answered_by(json.dumps(line["prediction"]).encode())


def job(version: ModelVersion, *, replicas: int = 1) -> BatchSpec:
    """Return a job of a name that nobody has used."""
    name = fresh("kit")
    return BatchSpec(
        name=name,
        model=version.model,
        number=version.number,
        digest=version.digest,
        input=f"batch/{name}/input/",
        output=f"batch/{name}/output/",
        replicas=replicas,
    )
