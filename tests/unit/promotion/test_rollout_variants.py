"""Two versions side by side: by a key, as a shadow, with their numbers, with as many replicas."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from cloudreg import Workspace
from cloudreg.errors import ConfigError, InvalidRequest, NotFound, RolloutPaused, Unsupported

Live = Callable[..., Workspace]

HALF = """
[endpoints.churn-prod]
model = "churn"
stage = "prod"
[endpoints.churn-prod.rollout]
strategy = "canary"
steps = [50, 100]
max_error_rate = 0.1
min_requests = 1000000
"""
KEYS = [f"user-{number}" for number in range(24)]


@pytest.fixture
def halfway(house: Any, live: Live) -> Workspace:
    """A workspace whose endpoint serves two versions, half and half, until somebody decides."""
    ws = live(HALF)
    ws.promote("churn:2", to="staging")
    with pytest.raises(RolloutPaused):
        ws.promote("churn:2", to="prod")
    return ws


def asked(ws: Workspace, key: str | None = None) -> int:
    answer = ws.endpoint("churn-prod").invoke(b"{}", key=key)
    return int(json.loads(answer)["number"])


def test_key_meets_its_variant(house: Any, halfway: Workspace) -> None:
    """The same key meets the same version, in another workspace too, and both are met."""
    first = {key: asked(halfway, key) for key in KEYS}

    assert {key: asked(house.open("bob"), key) for key in KEYS} == first
    assert set(first.values()) == {1, 2}


def test_key_goes_on_when_its_variant_goes(house: Any, halfway: Workspace) -> None:
    """After a rollout whose variants were remembered, nobody's request is lost."""
    ws = halfway
    by_canary = [key for key in KEYS if asked(ws, key) == 2]
    house.open("bob").abort("churn")
    assert by_canary
    assert [asked(ws, key) for key in by_canary] == [1] * len(by_canary)


def test_key_and_variant(halfway: Workspace) -> None:
    """Only one of key and variant can choose who is asked."""
    endpoint = halfway.endpoint("churn-prod")
    with pytest.raises(InvalidRequest, match="both choose"):
        endpoint.invoke(b"{}", variant="canary", key="user")


def test_online_beside_offline(house: Any, halfway: Workspace) -> None:
    """Each variant's requests, errors and latency stand beside its version's own metrics."""
    ws = halfway
    for _ in range(10):
        asked(ws)
    found = {each.variant: each for each in ws.online("churn", stage="prod", window_s=60.0)}

    assert {name: (each.number, each.weight) for name, each in found.items()} == {
        "primary": (1, 50),
        "canary": (2, 50),
    }
    counts = {name: each.online.requests for name, each in found.items() if each.online}
    assert counts == {"primary": 5, "canary": 5}
    assert all(each.online and each.online.p95_ms for each in found.values())
    with pytest.raises(NotFound):
        ws.online("churn", stage="staging")
    with pytest.raises(NotFound):
        ws.online("churn", stage="nowhere")


SHADOW = """
[endpoints.churn-prod]
model = "churn"
stage = "prod"
[endpoints.churn-prod.shadow]
stage = "staging"
percent = 50
"""


def test_shadow_gets_copies(house: Any, live: Live, eventually: Any) -> None:
    """The shadow follows its stage, gets its part of the requests, and never answers."""
    ws = live(SHADOW)
    ws.promote("churn:2", to="staging")
    assert not ws.plan().plan.empty
    ws.apply()
    assert ws.plan().plan.empty
    endpoint = ws.endpoint("churn-prod")
    assert [asked(ws) for _ in range(20)] == [1] * 20

    eventually(lambda: endpoint.mirror is not None and endpoint.mirror.counts.sent == 10)
    assert endpoint.metrics(window_s=60.0)["shadow"].requests == 10
    shadow = next(v for v in endpoint.describe().variants if v.name == "shadow")
    assert (shadow.digest, shadow.weight) == (ws.version("churn:2").digest, 0)
    assert {each.variant: each.number for each in ws.online("churn")} == {
        "primary": 1,
        "shadow": 2,
    }
    house.check_truth(ws)


def test_shadow_that_is_sick(house: Any, live: Live, eventually: Any) -> None:
    """Whatever the shadow answers, nobody who asks the endpoint hears of it."""
    ws = live(SHADOW.replace("50", "100"), versions=1)
    house.register(ws, "sick 500")
    ws.promote("churn:2", to="staging")
    ws.apply()
    assert [asked(ws) for _ in range(10)] == [1] * 10
    mirror = ws.endpoint("churn-prod").mirror
    assert mirror is not None
    eventually(lambda: mirror.counts.failed == 10)


def test_shadow_steps_aside(house: Any, live: Live, traffic: Any) -> None:
    """While two versions share the traffic there is no shadow, and afterwards there is again."""
    text = SHADOW + "[endpoints.churn-prod.rollout]\nstrategy = 'canary'\nsteps = [50, 100]\n"
    ws = live(text)
    ws.promote("churn:2", to="staging")
    house.register(ws)
    ws.promote("churn:3", to="staging")
    with traffic(ws, "churn-prod", dict) as sent:
        ws.promote("churn:3", to="prod")

    assert sent.failures == []
    assert [v.name for v in ws.endpoint("churn-prod").describe().variants] == ["primary", "shadow"]
    house.check_truth(ws)


@pytest.mark.parametrize(
    ("shadow", "words"),
    [
        ("percent = 50", "of a stage or of a version"),
        ('stage = "staging"\nversion = 1', "of a stage or of a version"),
        ('stage = "nowhere"', "no stage 'nowhere'"),
        ('stage = "prod"', "its own shadow"),
        ('stage = "staging"\npercent = 0', "greater than or equal to 1"),
    ],
)
def test_shadow_that_is_none(house: Any, shadow: str, words: str) -> None:
    """A shadow that could never be is refused where the file is read."""
    head = '[endpoints.churn-prod]\nmodel = "churn"\nstage = "prod"\n'
    house.configure(f"{head}[endpoints.churn-prod.shadow]\n{shadow}\n")
    with pytest.raises(ConfigError, match=words):
        house.open()


GROWN = """
[endpoints.churn-prod]
model = "churn"
stage = "prod"
min_replicas = 1
max_replicas = 3
concurrency = 1
scale_in_cooldown_s = 3600
[endpoints.churn-prod.rollout]
strategy = "canary"
steps = [50, 100]
"""


def replicas(ws: Workspace) -> dict[str, int]:
    seen = ws.endpoint("churn-prod").describe().variants
    return {variant.name: variant.desired_replicas for variant in seen}


def test_autoscaled_count_survives(
    house: Any, live: Live, background: Any, eventually: Any
) -> None:
    """What load brought is there at every step: the newcomer begins with its share of it."""
    ws = live(GROWN)
    ws.promote("churn:2", to="staging")
    slow = json.dumps({"sleep_s": 1.0}).encode()
    asking = [background(ws.endpoint("churn-prod").invoke, slow) for _ in range(4)]
    eventually(lambda: replicas(ws) == {"primary": 3}, timeout_s=60.0)
    for each in asking:
        each.result(60)
    steps: list[dict[str, int]] = []
    house.script = None
    before = Counter(replicas(ws))
    progress = ws.progress

    class Watching:
        """Looks at the endpoint whenever a step is told."""

        def task(self, *args: Any, **named: Any) -> Any:
            return progress.task(*args, **named)

        def say(self, text: str) -> None:
            if "of the traffic" in text:
                steps.append(replicas(ws))

    other = house.open("bob", progress=Watching())
    other.promote("churn:2", to="prod")

    assert before == {"primary": 3}
    assert steps == [{"primary": 3, "canary": 2}, {"primary": 3, "canary": 3}]
    assert replicas(ws) == {"primary": 3}
    house.check_truth(ws)


def test_queue_has_no_keys(halfway: Workspace) -> None:
    """Behind a queue nobody chooses who is asked."""
    from cloudreg.live import LiveEndpoint
    from cloudreg.types import EndpointKind

    backend = halfway.targets["local"].endpoints
    queued = LiveEndpoint(backend, "churn-prod", target="local", kind=EndpointKind.ASYNCHRONOUS)
    with pytest.raises(Unsupported, match="its weights alone choose"):
        queued.predict([1], key="user")
