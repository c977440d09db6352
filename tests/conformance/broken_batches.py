"""Batch jobs that are broken in one way each."""

from __future__ import annotations

from dataclasses import replace

from memory import SOUND, Batched, MemoryBatch, MemoryJob
from mutants import claims, noticed_by

from cloudreg.jobs import BatchSpec
from cloudreg.types import ModelVersion, OperationState, OperationStatus

claims("ScoresInSecret", "test_batch", replace(SOUND, batch=False))


@noticed_by("test_batch", kit="capabilities")
class LosesAnObject(MemoryBatch):
    def finish(self, job: Batched) -> None:
        super().finish(job)
        self.store.delete(f"{job.spec.output}1.jsonl.out")


@noticed_by("test_batch_with_bad_records", kit="capabilities")
class SkipsBadRecords(MemoryBatch):
    def scored(self, job: Batched, line: bytes) -> bytes:
        said = super().scored(job, line)
        return b"" if b"error" in said else said


@noticed_by("test_batch_again", kit="capabilities")
class BeginsAgain(MemoryBatch):
    def start(self, spec: BatchSpec, *, version: ModelVersion) -> MemoryJob:
        if self.jobs.pop(spec.name, None) is not None:
            for stored in list(self.store.list(spec.output)):
                self.store.delete(stored.key)
        return super().start(spec, version=version)


@noticed_by("test_batch_that_fails", kit="capabilities")
class FailsWithoutWords(MemoryBatch):
    def failure(self) -> OperationStatus:
        return OperationStatus(state=OperationState.FAILED, message="it crashed")


@noticed_by("test_batch_that_is_stopped", kit="capabilities")
class CannotBeStopped(MemoryBatch):
    def stop(self, name: str) -> None:
        pass


@noticed_by("test_batch_of_a_missing_file", kit="capabilities")
class LooksLater(MemoryBatch):
    def start(self, spec: BatchSpec, *, version: ModelVersion) -> MemoryJob:
        with self.world.lock:
            self.jobs.setdefault(spec.name, Batched(spec=spec, version=version))
        return MemoryJob(self, spec.name)
