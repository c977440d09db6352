from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from cloudreg.manifest import Signature, TensorSpec
from cloudreg.serving.batching import QUICK_S, Batcher, Limits
from cloudreg.serving.checks import ModelFault, SignatureCheck, Tensors, all_finite
from cloudreg.serving.device import Device
from cloudreg.serving.metrics import Metrics

SPEC = TensorSpec(name="x", dtype="float32", shape=(-1, 1))
CHECKS = SignatureCheck(Signature(inputs=(SPEC,), outputs=(SPEC,)))


def test_a_result_that_comes_at_once_is_not_waited_for_twice() -> None:
    """Within the wait, the result is there when the call returns."""

    async def body() -> None:
        found: list[Any] = []
        Device(asyncio.get_running_loop()).call(lambda: 7, found.append, wait_s=10.0)
        assert found == [7]

    asyncio.run(body())


def test_a_slow_result_does_not_hold_the_loop() -> None:
    """After the wait the loop goes on, and the result comes to it once."""

    async def body() -> None:
        loop = asyncio.get_running_loop()
        gate, found, came = threading.Event(), list[Any](), asyncio.Event()

        def done(result: Any) -> None:
            found.append((result, threading.current_thread()))
            came.set()

        Device(loop).call(lambda: gate.wait(10.0), done, wait_s=0.001)
        assert found == []
        gate.set()
        await asyncio.wait_for(came.wait(), 10.0)
        await asyncio.sleep(0)
        assert found == [(True, threading.main_thread())]

    asyncio.run(body())


def test_results_at_the_end_of_the_wait() -> None:
    """A result that comes just as the wait ends is neither lost nor given twice."""

    async def body() -> None:
        device = Device(asyncio.get_running_loop())
        seen: Counter[int] = Counter()
        # Around the wait itself, so that both sides win some.
        pauses = [i % 20 / 40000 for i in range(400)]
        for number, pause in enumerate(pauses):
            device.call(
                lambda pause=pause: threading.Event().wait(pause),
                lambda _, number=number: seen.update([number]),
                wait_s=0.00025,
            )
        last = asyncio.Event()
        device.call(lambda: None, lambda _: last.set())
        await asyncio.wait_for(last.wait(), 30.0)
        assert seen == Counter(range(len(pauses)))

    asyncio.run(body())


def test_what_a_quick_function_raises_is_a_result() -> None:
    """An error within the wait is handed over like any other result."""

    async def body() -> None:
        found: list[Any] = []
        Device(asyncio.get_running_loop()).call(lambda: 1 // 0, found.append, wait_s=10.0)
        assert isinstance(found[0], ZeroDivisionError)

    asyncio.run(body())


def ask(batcher: Batcher, inputs: Tensors) -> asyncio.Future[Tensors]:
    """Return a future of the outputs."""
    future: asyncio.Future[Tensors] = asyncio.get_running_loop().create_future()

    def done(outcome: Tensors | Exception) -> None:
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    batcher.infer(inputs, done)
    return future


class Quick:
    """A runtime that takes no time, and counts the rows of its batches."""

    device = "cpu"
    streams = False

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.held = threading.Event()
        self.held.set()

    def predict(self, inputs: Mapping[str, Any]) -> Tensors:
        self.batches.append(len(inputs["x"]))
        assert self.held.wait(10.0)
        return dict(inputs)

    def stream(self, inputs: Mapping[str, Any]) -> Any:
        raise NotImplementedError


def test_clients_that_come_back_share_a_batch_again() -> None:
    """Clients that were answered in two halves are one batch soon, not two for ever."""

    async def body() -> list[int]:
        runtime = Quick()
        batcher = Batcher(
            runtime,
            CHECKS,
            device=Device(asyncio.get_running_loop()),
            limits=Limits(max_batch=8),
            metrics=Metrics(),
            lost=pytest.fail,
        )

        async def client() -> None:
            for _ in range(50):
                await ask(batcher, {"x": np.zeros((1, 1), np.float32)})

        runtime.held.clear()
        halves = [asyncio.ensure_future(client()) for _ in range(4)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        halves += [asyncio.ensure_future(client()) for _ in range(4)]
        await asyncio.sleep(0)
        runtime.held.set()
        await asyncio.wait_for(asyncio.gather(*halves), 30.0)
        batcher.close()
        return runtime.batches

    batches = asyncio.run(body())
    assert sum(batches) == 400
    assert batches[0] == 4
    assert batches.count(8) >= 40


def test_a_model_that_was_quick_and_hangs_is_noticed() -> None:
    """After quick batches one that never ends holds the loop no longer than the wait."""

    async def body() -> None:
        runtime = Quick()
        batcher = Batcher(
            runtime,
            CHECKS,
            device=Device(asyncio.get_running_loop()),
            limits=Limits(timeout_s=0.1),
            metrics=Metrics(),
            lost=pytest.fail,
        )
        for _ in range(50):
            await ask(batcher, {"x": np.zeros((1, 1), np.float32)})
        runtime.held.clear()
        waiting = ask(batcher, {"x": np.zeros((1, 1), np.float32)})
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(2 * QUICK_S)
        assert asyncio.get_running_loop().time() - began < 5.0
        while not batcher.stuck:
            await asyncio.sleep(0.01)
        runtime.held.set()
        await asyncio.wait([waiting], timeout=10.0)
        assert waiting.done()
        waiting.exception()
        batcher.close()

    asyncio.run(body())


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_finite_is_told_exactly(dtype: str) -> None:
    """Neither an overflow of squares nor a sum of infinities misleads."""
    huge = np.finfo(dtype).max
    assert all_finite(np.array([[huge, -huge, 1.0]], dtype))
    assert all_finite(np.zeros((0, 3), dtype))
    for bad in (np.nan, np.inf, -np.inf):
        assert not all_finite(np.array([[1.0, bad], [huge, -huge]], dtype))


def test_not_finite_blames_its_own_request() -> None:
    """In a batch with one NaN only the request that it belongs to fails."""

    async def body() -> None:
        runtime = Quick()
        batcher = Batcher(
            runtime,
            CHECKS,
            device=Device(asyncio.get_running_loop()),
            limits=Limits(),
            metrics=Metrics(),
            lost=pytest.fail,
        )
        values = (1.0, np.inf, 2.0)
        futures = [ask(batcher, {"x": np.array([[v]], np.float32)}) for v in values]
        good, bad, also = await asyncio.gather(*futures, return_exceptions=True)
        assert isinstance(bad, ModelFault)
        assert [good["x"].item(), also["x"].item()] == [1.0, 2.0]  # type: ignore[index,call-overload]
        assert runtime.batches == [3]
        batcher.close()

    asyncio.run(body())
