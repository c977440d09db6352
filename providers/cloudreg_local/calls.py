"""Requests to an endpoint's router: an answer whole, or piece by piece."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from cloudreg.errors import (
    InvalidRequest,
    NotFound,
    OperationFailed,
    OperationTimeout,
    Unavailable,
)
from cloudreg_local.wire import ERROR_HEADER, VARIANT_HEADER

PIECE = 64 * 1024
"""Most bytes of a piece; a smaller one is handed on as soon as it is there."""


class Answer:
    """An answer whose head has come."""

    def __init__(self, caller: Caller, response: http.client.HTTPResponse) -> None:
        """Begin with nothing read."""
        self._caller = caller
        self._response = response

    def whole(self) -> bytes:
        """Return all of it."""
        return self._response.read()

    def pieces(self) -> Iterator[bytes]:
        """Yield it as it comes.

        Raises:
            OperationFailed: It broke off.
        """
        try:
            while piece := self._response.read1(PIECE):
                yield piece
            missing = self._response.length
        except http.client.HTTPException as error:
            raise self._caller.broken(str(error) or type(error).__name__) from error
        except TimeoutError:
            raise
        except OSError as error:
            raise self._caller.broken(str(error)) from error
        if missing:
            raise self._caller.broken(f"{missing} bytes are missing")


class Caller:
    """Talks to one endpoint."""

    def __init__(
        self, name: str, url: str, *, target: str, last_words: Callable[..., list[str]]
    ) -> None:
        """Address a router; nothing is sent.

        Args:
            name: The endpoint.
            url: Where its router is.
            target: For messages.
            last_words: Returns the last log lines, of one ``variant`` if it is named.
        """
        self._name = name
        self._address = urlsplit(url)
        self._target = target
        self._last_words = last_words

    @contextmanager
    def asked(
        self,
        method: str,
        path: str,
        body: bytes | None,
        *,
        timeout_s: float,
        content_type: str | None = None,
        accept: str | None = None,
        variant: str | None = None,
    ) -> Iterator[Answer]:
        """Send one request, and give a good answer to the block; then let go of the connection.

        Raises:
            CloudregError: As the contract says of ``invoke``.
        """
        given = {"Content-Type": content_type, "Accept": accept, VARIANT_HEADER: variant}
        headers = {key: value for key, value in given.items() if value is not None}
        connection = http.client.HTTPConnection(
            self._address.hostname or "", self._address.port, timeout=timeout_s
        )
        try:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            if response.status >= 400:
                raise self._refusal(response, variant)
            yield Answer(self, response)
        except TimeoutError as error:
            raise OperationTimeout(
                f"endpoint {self._name} did not answer in {timeout_s:g} s", target=self._target
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"endpoint {self._name}: {error}", target=self._target) from error
        finally:
            connection.close()

    def broken(self, how: str) -> OperationFailed:
        """Return what it means that an answer ends in the middle."""
        return OperationFailed(
            f"endpoint {self._name}: its answer broke off: {how}",
            target=self._target,
            logs=self._last_words(),
        )

    def _refusal(self, response: http.client.HTTPResponse, variant: str | None) -> Exception:
        problem, status = response.headers.get(ERROR_HEADER), response.status
        said = response.read().decode(errors="replace").strip()[:2000]
        name = self._name
        if problem == "no-variant":
            return NotFound(
                f"endpoint {name} has no variant {variant!r}",
                target=self._target,
                hint="cloudreg status shows its variants",
            )
        if problem == "unavailable":
            return Unavailable(f"endpoint {name}: {said}", target=self._target)
        if status < 500:
            return InvalidRequest(f"endpoint {name} answered {status}: {said}", target=self._target)
        return OperationFailed(
            f"endpoint {name} answered {status}: {said}",
            target=self._target,
            logs=self._last_words(variant=variant),
        )
