from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from cloudreg.manifest import Signature, TensorSpec
from cloudreg.serving.batching import Batcher, Limits
from cloudreg.serving.checks import ModelFault, SignatureCheck, Tensors
from cloudreg.serving.device import Device
from cloudreg.serving.http import Refusal
from cloudreg.serving.metrics import Metrics
from cloudreg.serving.runtimes import DeviceLost

SPEC = TensorSpec(name="x", dtype="float32", shape=(-1, -1))
CHECKS = SignatureCheck(Signature(inputs=(SPEC,), outputs=(SPEC,)))


class Scripted:
    """A runtime that doubles, waits at a gate, and fails on request."""

    device = "cpu"
    streams = True

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[int] = []

    def predict(self, inputs: Mapping[str, Any]) -> Tensors:
        x = inputs["x"]
        self.batches.append(len(x))
        assert self.gate.wait(10.0)
        for value, error in ((666, ValueError), (667, StopIteration), (668, SystemExit)):
            if (x == value).any():
                raise error("as asked")
        if (x == 911).any():
            raise DeviceLost("gone")
        return {"x": np.where(x == 999, np.float32(np.nan), x * 2)}

    def stream(self, inputs: Mapping[str, Any]) -> Iterator[Tensors]:
        for step in range(int(inputs["x"][0, 0])):
            assert self.gate.wait(10.0)
            yield {"x": inputs["x"] + np.float32(step)}


def row(*values: float) -> Tensors:
    return {"x": np.array([values], np.float32)}


class Bench:
    """A batcher on a running loop, and what it calls."""

    def __init__(self, **limits: Any) -> None:
        self.runtime = Scripted()
        self.metrics = Metrics()
        self.lost: list[DeviceLost] = []
        self.batcher = Batcher(
            self.runtime,
            CHECKS,
            device=Device(asyncio.get_running_loop()),
            limits=Limits(**limits),
            metrics=self.metrics,
            lost=self.lost.append,
        )

    def ask(self, inputs: Tensors) -> asyncio.Future[Tensors]:
        """Return a future of the outputs; who cancels it no longer waits."""
        future: asyncio.Future[Tensors] = asyncio.get_running_loop().create_future()

        def done(outcome: Tensors | Exception) -> None:
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        job = self.batcher.infer(inputs, done)
        future.add_done_callback(lambda _: job.cancel())
        return future

    async def busy(self) -> asyncio.Future[Tensors]:
        """Close the gate, and return a request that the device is held by."""
        self.runtime.gate.clear()
        held = self.ask(row(1.0))
        await until(lambda: self.runtime.batches)
        self.runtime.batches.clear()
        return held

    def count(self, name: str) -> float:
        return self.metrics.registry.get_sample_value(f"cloudreg_{name}") or 0.0


async def until(ask: Callable[[], Any]) -> None:
    async with asyncio.timeout(10.0):
        while not ask():
            await asyncio.sleep(0.001)


def run(scene: Callable[..., Awaitable[None]], **limits: Any) -> None:
    async def play() -> None:
        bench = Bench(**limits)
        try:
            await scene(bench)
        finally:
            bench.runtime.gate.set()
            bench.batcher.close()

    asyncio.run(play())


def test_requests_gather_while_the_device_is_busy() -> None:
    """What arrives during a batch is the next batch, up to its limit, in order."""

    async def scene(bench: Bench) -> None:
        held = await bench.busy()
        futures = [bench.ask(row(float(i))) for i in range(10)]
        bench.runtime.gate.set()
        answers = await asyncio.gather(*futures)
        await held
        assert [float(a["x"][0, 0]) for a in answers] == [2.0 * i for i in range(10)]
        assert bench.runtime.batches == [4, 4, 2]
        assert bench.count("batch_rows_count") == 4
        assert bench.count("queue_rows") == 0
        assert bench.count("device_busy_seconds_total") > 0

    run(scene, max_batch=4, max_queue=64)


def test_an_idle_device_answers_at_once() -> None:
    """A lone request waits for no other."""

    async def scene(bench: Bench) -> None:
        for _ in range(3):
            await bench.ask(row(1.0))
        assert bench.runtime.batches == [1, 1, 1]

    run(scene)


def test_shapes_are_not_mixed() -> None:
    """A batch holds rows of one shape; nobody is overtaken for ever."""

    async def scene(bench: Bench) -> None:
        held = await bench.busy()
        futures = [bench.ask(row(*range(1 + i % 2))) for i in range(6)]
        bench.runtime.gate.set()
        answers = await asyncio.gather(held, *futures)
        assert [a["x"].shape for a in answers[1:]] == [(1, 1), (1, 2)] * 3
        assert bench.runtime.batches == [3, 3]

    run(scene)


def test_one_at_a_time() -> None:
    """Without sharing, every request is a batch of its own."""

    async def scene(bench: Bench) -> None:
        held = await bench.busy()
        futures = [bench.ask(row(1.0)) for _ in range(3)]
        bench.runtime.gate.set()
        await asyncio.gather(held, *futures)
        assert bench.runtime.batches == [1, 1, 1]

    run(scene, together=False)


def test_a_large_request_goes_in_parts() -> None:
    """No batch is larger than the limit, and the rows come back in order."""

    async def scene(bench: Bench) -> None:
        x = np.arange(10, dtype=np.float32).reshape(10, 1)
        answer = await bench.ask({"x": x})
        assert np.array_equal(answer["x"], x * 2)
        assert bench.runtime.batches == [4, 4, 2]

    run(scene, max_batch=4, max_queue=64)


@pytest.mark.parametrize("poison", [666.0, 667.0, 668.0, 999.0])
def test_one_bad_request_spoils_no_other(poison: float) -> None:
    """In a batch, only the request that the model fails on fails."""

    async def scene(bench: Bench) -> None:
        held = await bench.busy()
        futures = [bench.ask(row(v)) for v in (1.0, poison, 3.0)]
        bench.runtime.gate.set()
        answers = await asyncio.gather(held, *futures, return_exceptions=True)
        assert isinstance(answers[2], ModelFault)
        assert [float(a["x"][0, 0]) for a in (answers[1], answers[3])] == [2.0, 6.0]  # type: ignore[index]
        assert float((await bench.ask(row(5.0)))["x"][0, 0]) == 10.0

    run(scene)


def test_a_full_queue_refuses() -> None:
    """Beyond the bound a request is refused at once, with the time to come again."""

    async def scene(bench: Bench) -> None:
        held = await bench.busy()
        futures = [bench.ask(row(1.0)) for _ in range(4)]
        assert bench.batcher.full
        with pytest.raises(Refusal) as caught:
            bench.ask(row(1.0))
        assert caught.value.status == 503
        assert (b"retry-after", b"1") in caught.value.headers
        assert bench.count("shed_total") == 1
        bench.runtime.gate.set()
        await asyncio.gather(held, *futures)
        assert not bench.batcher.full
        await bench.ask(row(1.0))

    run(scene, max_batch=2, max_queue=4)


def test_a_request_larger_than_the_queue() -> None:
    """What could never be accepted is refused as too large, not as unlucky."""

    async def scene(bench: Bench) -> None:
        with pytest.raises(Refusal) as caught:
            bench.ask({"x": np.zeros((5, 1), np.float32)})
        assert caught.value.status == 413

    run(scene, max_batch=2, max_queue=4)


def test_a_stuck_device_is_noticed() -> None:
    """Requests that wait too long are answered, and health sees the device."""

    async def scene(bench: Bench) -> None:
        held = await bench.busy()
        waiting = bench.ask(row(1.0))
        assert not bench.batcher.stuck
        for future in (held, waiting):
            with pytest.raises(Refusal) as caught:
                await future
            assert caught.value.status == 504
        assert bench.batcher.stuck
        assert bench.count("expired_total") == 2
        assert bench.count("queue_rows") == 0
        bench.runtime.gate.set()
        await bench.ask(row(1.0))
        assert not bench.batcher.stuck

    run(scene, timeout_s=0.1)


def test_a_cancelled_request_is_not_computed() -> None:
    """Who no longer waits costs the device nothing."""

    async def scene(bench: Bench) -> None:
        held = await bench.busy()
        gone, stays = bench.ask(row(1.0)), bench.ask(row(2.0))
        gone.cancel()
        await asyncio.sleep(0)
        bench.runtime.gate.set()
        await asyncio.gather(held, stays)
        assert bench.runtime.batches == [1]

    run(scene)


def test_a_lost_device_is_reported() -> None:
    """After the device is lost, its requests fail and the server is told."""

    async def scene(bench: Bench) -> None:
        with pytest.raises(ModelFault, match="gone"):
            await bench.ask(row(911.0))
        assert [str(error) for error in bench.lost] == ["gone"]

    run(scene)


def test_streams_give_every_piece() -> None:
    """Pieces come in order, and the device serves others afterwards."""

    async def scene(bench: Bench) -> None:
        pipe = bench.batcher.stream(row(3.0))
        other = bench.ask(row(1.0))
        pieces = [float(piece["x"][0, 0]) async for piece in pipe.read()]
        assert pieces == [3.0, 4.0, 5.0]
        await other

    run(scene)


def test_a_left_stream_frees_the_device() -> None:
    """A stream that nobody reads does not hold the device."""

    async def scene(bench: Bench) -> None:
        pipe = bench.batcher.stream(row(1e6))
        source = pipe.read()
        await anext(source)
        pipe.close()
        await source.aclose()  # type: ignore[attr-defined]
        await bench.ask(row(1.0))

    run(scene)


def test_a_slow_reader_loses_the_stream() -> None:
    """A client that does not read is given up before it holds the device for ever."""

    async def scene(bench: Bench) -> None:
        pipe = bench.batcher.stream(row(1000.0))
        await bench.ask(row(1.0))
        with pytest.raises(ModelFault, match="SlowClient"):
            _ = [piece async for piece in pipe.read()]

    run(scene, timeout_s=2.0)
