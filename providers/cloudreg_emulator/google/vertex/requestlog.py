"""Requests and answers that endpoints keep.

Vertex AI writes them to BigQuery, which is not emulated: what would be rows there is kept in
memory, for tests to look at.

Source: https://cloud.google.com/vertex-ai/docs/predictions/online-prediction-logging
"""

from __future__ import annotations

import random
import threading
from collections import deque
from typing import Any

from cloudreg_emulator.google.world import World

__all__ = ["RequestLog"]

KEPT = 10_000


class RequestLog:
    """The newest rows, oldest first. Thread-safe.

    Attributes:
        rows: As BigQuery would have them, by column.
    """

    def __init__(self, world: World) -> None:
        """Begin without a row."""
        self._world = world
        self._lock = threading.Lock()
        self.rows: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def note(self, endpoint: Any, deployed: Any, request: bytes, response: bytes) -> None:
        """Keep one request, if the endpoint samples it."""
        config = endpoint.predict_request_response_logging_config
        if not config.enabled or random.random() >= config.sampling_rate:  # noqa: S311
            return
        row = {
            "endpoint": endpoint.name.rpartition("/")[2],
            "deployed_model_id": deployed.id,
            "logging_time": self._world.clock(),
            "request_payload": [request.decode(errors="replace")],
            "response_payload": [response.decode(errors="replace")],
        }
        with self._lock:
            self.rows.append(row)
