"""The requests of a batch prediction job, in threads of their own.

What is sent together fails together: a model server that refuses a request has refused all of its
instances, after a few attempts. Neither the order of the input nor that of a batch is kept: the
service promises none, and who relies on one should learn it here.

Source: https://cloud.google.com/vertex-ai/docs/predictions/get-batch-predictions
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from google.protobuf import json_format

from cloudreg_emulator.fleet import FleetError, Group, TimedOut
from cloudreg_emulator.google.vertex import jobs_data
from cloudreg_emulator.google.vertex.jobs_data import Bad, Record
from cloudreg_emulator.google.vertex.refusals import Refused
from cloudreg_emulator.google.world import World

__all__ = ["Work"]

ATTEMPTS = 3
TIMEOUT_S = 600.0
"""Google's front end gives a request up after ten minutes.

Source: https://cloud.google.com/vertex-ai/docs/general/troubleshooting, *Exceeded retries error*
"""


class Work:
    """Everything that the model servers of one job are asked.

    Attributes:
        succeeded: Instances with a prediction.
        failed: Instances with none, because of an error.
        total: Lines of the input; -1 while they are not counted.
    """

    def __init__(
        self,
        world: World,
        job: Any,
        group: Group,
        objects: Sequence[tuple[str, str]],
        folder: str,
    ) -> None:
        """Prepare; nothing is asked.

        Args:
            world: Where the objects are.
            job: The BatchPredictionJob.
            group: Its model servers.
            objects: Bucket and name of each object of the input.
            folder: ``gs://`` address of the output, without a slash.
        """
        self.succeeded = self.failed = 0
        self.total = -1
        self._world = world
        self._job = job
        self._group = group
        self._objects = objects
        self._folder = folder
        self._lock = threading.Lock()
        self._given_up = threading.Event()
        self._failure: Refused | None = None
        self._errors: list[str] = []
        self._thread = threading.Thread(target=self._run, name="batch", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def give_up(self) -> None:
        """Ask no more, and store nothing."""
        self._given_up.set()

    def done(self) -> bool:
        """Return whether everything is stored.

        Raises:
            Refused: Something went wrong that is no instance's fault.
        """
        if self._thread.is_alive():
            return False
        if self._failure is not None:
            raise self._failure
        return True

    def _run(self) -> None:
        try:
            self._ask_all()
        except Exception as error:
            # A thread has no caller: what goes wrong here becomes the error of the job.
            self._failure = Refused("INTERNAL", f"{type(error).__name__}: {error}")

    def _ask_all(self) -> None:
        records = self._records()
        size = self._job.manual_batch_tuning_parameters.batch_size
        batches = [records[at : at + size] for at in range(0, len(records), size)]
        shards = self._job.dedicated_resources.starting_replica_count
        with ThreadPoolExecutor(shards, thread_name_prefix="batch") as pool:
            answers = list(pool.map(self._ask, batches))
        if self._given_up.is_set():
            return
        results: list[list[bytes]] = [[] for _ in range(shards)]
        for number, lines in enumerate(reversed(answers)):
            results[number % shards] += reversed(lines)
        for number, lines in enumerate(results):
            self._store("results", number, shards, b"".join(lines))
        errors = "".join(f"{line}\n" for line in self._errors)
        self._store("errors_stats", 0, 1, errors.encode())

    def _store(self, kind: str, number: int, of: int, data: bytes) -> None:
        uri = f"{self._folder}/prediction.{kind}-{number:05}-of-{of:05}"
        jobs_data.write(self._world.storage, uri, data)

    def _records(self) -> list[Record]:
        found = []
        lines = list(self._lines())
        self.total = len(lines)
        for line in lines:
            try:
                found.append(jobs_data.record(line, self._job.instance_config))
            except Bad as error:
                self._fail(str(error), 1)
        return found

    def _lines(self) -> Iterator[bytes]:
        for bucket, name in self._objects:
            data = jobs_data.read(self._world.storage, bucket, name)
            yield from (line for line in data.splitlines() if line.strip())

    def _ask(self, batch: list[Record]) -> list[bytes]:
        document: dict[str, Any] = {"instances": [one.instance for one in batch]}
        if self._job.HasField("model_parameters"):
            document["parameters"] = json_format.MessageToDict(self._job.model_parameters)
        body = json.dumps(document).encode()
        began, why = time.monotonic(), ""
        for _ in range(ATTEMPTS):
            if self._given_up.is_set():
                return []
            status, said = self._post(body)
            if status == 200:
                return self._told(batch, said)
            words = said[:1000].decode(errors="replace")
            why = f"Non-OK result {status} ({words}) from server"
        took_s = time.monotonic() - began
        self._fail(
            f"Post request fails. Cannot get predictions. Error: Exceeded retries: {why}, "
            f"retry={ATTEMPTS}, elapsed={took_s:.2f}s.",
            len(batch),
        )
        return []

    def _post(self, body: bytes) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json"}
        try:
            answer = self._group.invoke(body, headers, timeout_s=TIMEOUT_S)
        except TimedOut:
            return 504, b"upstream request timeout"
        except FleetError as error:
            return 503, str(error).encode()
        return answer.status, answer.body

    def _told(self, batch: list[Record], body: bytes) -> list[bytes]:
        try:
            predictions = json.loads(body)["predictions"]
        except (ValueError, KeyError, TypeError):
            predictions = None
        if not isinstance(predictions, list):
            # In the form of https://github.com/GoogleCloudPlatform/vertex-ai-samples/issues/3965
            self._fail("Post request fails. Cannot decode the prediction response.", len(batch))
            return []
        if len(predictions) != len(batch):
            self._fail(  # unquoted
                f"Post request fails. {len(predictions)} predictions for {len(batch)} instances.",
                len(batch),
            )
            return []
        with self._lock:
            self.succeeded += len(batch)
        return [jobs_data.shown(one, said) for one, said in zip(batch, predictions, strict=True)]

    def _fail(self, message: str, count: int) -> None:
        with self._lock:
            self.failed += count
            self._errors.append(repr((message, count)))
