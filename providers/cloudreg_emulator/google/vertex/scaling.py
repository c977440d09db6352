"""Autoscaling: replicas that come with the traffic, and go without it.

Vertex AI looks every 15 seconds, and takes the largest number of the last five minutes; it has no
cooldowns. How busy a processor is cannot be measured here: it is taken for the share of the time
in which a replica works on a request.

Source: https://cloud.google.com/vertex-ai/docs/predictions/autoscaling
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from typing import Any

from cloudreg_emulator.google.vertex.deployments import Deployment, Deployments
from cloudreg_emulator.google.vertex.resources import REQUESTS, idle_s
from cloudreg_emulator.google.world import World

__all__ = ["Scaler", "wanted"]

EVERY_S = 15.0
WINDOW_S = 60.0
MEMORY_S = 300.0
LEAST_PAUSE_S = 0.05


class Scaler:
    """Looks after all deployed models that may scale."""

    def __init__(self, world: World, deployments: Deployments) -> None:
        """Begin to look."""
        self._world = world
        self._deployments = deployments
        self._past: dict[int, deque[tuple[float, int]]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="google-scaling", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop looking."""
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        pause = max(EVERY_S * self._world.scale, LEAST_PAUSE_S)
        while not self._over.wait(pause):
            alive = set()
            for _, deployment in self._deployments.items():
                alive.add(id(deployment))
                self._decide(deployment)
            for gone in set(self._past) - alive:
                del self._past[gone]

    def _decide(self, deployment: Deployment) -> None:
        least, most = deployment.bounds
        group = deployment.group
        idle = idle_s(deployment.deployed.dedicated_resources)
        if least >= most and idle is None:
            return
        now = time.monotonic()
        past = self._past.setdefault(id(deployment), deque())
        past.append((now, wanted(deployment, self._world)))
        while past and past[0][0] < now - MEMORY_S * self._world.scale:
            past.popleft()
        count = min(max(least, 1, *(number for _, number in past)), most)
        silent_s = self._world.clock() - deployment.traffic.last_asked
        if idle is not None and not group.inflight:
            # Where no time passes at all, there is some between a request and the next look.
            count = 0 if silent_s >= max(idle * self._world.scale, 2 * LEAST_PAUSE_S) else count
        if not group.desired and count:
            # From zero, only a request brings a replica back.
            count = count if silent_s <= WINDOW_S * self._world.scale + LEAST_PAUSE_S * 4 else 0
        if count != group.desired:
            group.resize(count)


def wanted(deployment: Deployment, world: World) -> int:
    """Return how many replicas the traffic of the last minute asks for."""
    resources: Any = deployment.deployed.dedicated_resources
    replicas = max(1, deployment.group.desired)
    scale = max(world.scale, LEAST_PAUSE_S / WINDOW_S)
    window_s = WINDOW_S * scale
    now = world.clock()
    asked = deployment.traffic.between(now - window_s, now)
    # What is being worked on now is work as well, and has no answer yet.
    busy_s = sum(one.latency_s for one in asked) + deployment.group.inflight * window_s / 2
    needed = 1
    for one in resources.autoscaling_metric_specs:
        if one.metric_name == REQUESTS:
            per_minute = len(asked) * 60.0 / (window_s / scale)
            needed = max(needed, math.ceil(per_minute / one.target))
        else:
            percent = min(100.0, 100.0 * busy_s / (window_s * replicas))
            needed = max(needed, math.ceil(replicas * percent / one.target))
    return needed
