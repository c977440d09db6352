"""What the model servers wrote, from Cloud Logging."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from cloudreg_vertex.errors import refusal, translated

if TYPE_CHECKING:
    from cloudreg_vertex.services import Services
    from cloudreg_vertex.settings import VertexSettings

HOST = "https://logging.googleapis.com"
MAX_LINES = 1000
"""Entries of one page: https://cloud.google.com/logging/docs/reference/v2/rest/v2/entries/list"""

TIMEOUT_S = 30.0


class _Logs:
    """What Cloud Logging has of one project."""

    def __init__(self, services: Services, settings: VertexSettings, *, target: str) -> None:
        """Use an authorised session; nothing is sent."""
        self._services = services
        self._settings = settings
        self._target = target

    def _last(self, wanted: list[str], lines: int, *, what: str) -> list[str]:
        if lines < 1:
            return []
        body = {
            "resourceNames": [f"projects/{self._settings.project}"],
            "filter": " AND ".join(wanted),
            "orderBy": "timestamp desc",
            "pageSize": min(lines, MAX_LINES),
        }
        host = self._settings.address or HOST
        with translated(what, target=self._target):
            answer = self._services.session().post(
                f"{host}/v2/entries:list", json=body, timeout=TIMEOUT_S
            )
        check(answer, what, target=self._target)
        entries = answer.json().get("entries", ())
        return [_text(entry) for entry in reversed(entries)][-lines:]


class JobLogs(_Logs):
    """The logs of batch prediction jobs."""

    def tail(self, job: str, *, lines: int) -> list[str]:
        """Return the last lines, oldest first; none where nothing was written.

        Args:
            job: The number that ends the job's name.
            lines: How many at most.
        """
        wanted = ['resource.type="ml_job"', f'resource.labels.job_id="{job}"']
        return self._last(wanted, lines, what=f"logs of job {job}")


class EndpointLogs(_Logs):
    """The logs of one location's endpoints."""

    def tail(
        self,
        endpoint: str,
        *,
        lines: int,
        deployed: str | None = None,
        since: datetime.datetime | None = None,
    ) -> list[str]:
        """Return the last lines, oldest first; none where nothing was written.

        Args:
            endpoint: Whose.
            lines: How many at most.
            deployed: Of this deployed model only, by its id.
            since: Earlier lines are another endpoint's of the same name.
        """
        wanted = [
            'resource.type="aiplatform.googleapis.com/Endpoint"',
            f'resource.labels.location="{self._settings.location}"',
            f'resource.labels.endpoint_id="{endpoint}"',
        ]
        if deployed is not None:
            wanted.append(f'labels.deployed_model_id="{deployed}"')
        if since is not None:
            wanted.append(f'timestamp>="{since.astimezone(datetime.UTC).isoformat()}"')
        return self._last(wanted, lines, what=f"logs of endpoint {endpoint}")


def check(answer: Any, what: str, *, target: str) -> None:
    """Return if *answer* of a service that the SDK does not bring is none of trouble.

    Raises:
        CloudregError: In Google's words.
    """
    if answer.status_code < 400:
        return
    try:
        error = answer.json()["error"]
        status, message = str(error["status"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        status, message = "UNAVAILABLE", answer.text[:500]
    raise refusal(status, message, what, target=target)


def _text(entry: dict[str, Any]) -> str:
    if "textPayload" in entry:
        return str(entry["textPayload"]).rstrip("\n")
    return str(entry.get("jsonPayload", {}).get("message", "")).rstrip("\n")
