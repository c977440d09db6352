"""What every target's streamed answers must do, as tests; and the refusal where there are none."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import ClassVar

import pytest

from cloudreg.capabilities import Capabilities
from cloudreg.errors import InvalidRequest, NotFound, OperationFailed, Unsupported
from cloudreg.provider import Provider
from cloudreg.testing.base import fresh
from cloudreg.testing.serving import Server, ServingTests, spec, variant
from cloudreg.types import EndpointSpec


class StreamTests(ServingTests):
    """Answers that come piece by piece.

    Attributes:
        stream_question: A request that is answered with a stream of some pieces.
        stream_answer: All of that answer.
        endless_question: One whose answer takes longer than anybody waits, and begins at once.
        breaking_question: One whose answer begins, and then breaks off.
    """

    stream_question: ClassVar[bytes] = b'{"stream": 3}'
    stream_answer: ClassVar[bytes] = b"row 0\nrow 1\nrow 2\n"
    endless_question: ClassVar[bytes] = b'{"stream": 100000}'
    breaking_question: ClassVar[bytes] = b'{"stream": 2, "broken": true}'

    @pytest.fixture(scope="class")
    @classmethod
    def streaming(cls, provider: Provider) -> Capabilities:
        """Return the capabilities of a target that streams."""
        if not provider.capabilities.streaming:
            pytest.skip("no streaming; test_streaming checks that it is refused")
        return provider.capabilities

    def test_streaming(self, server: Server, provider: Provider, live: EndpointSpec) -> None:
        """A stream is the whole answer where declared; else to ask for one is `Unsupported`."""
        if provider.capabilities.streaming:
            assert b"".join(self.stream(server, live.name)) == self.stream_answer
            return
        with pytest.raises(Unsupported) as caught:
            list(self.stream(server, live.name))
        assert provider.capabilities.reasons["streaming"] in caught.value.message

    @pytest.mark.usefixtures("streaming")
    def test_first_piece_before_the_last(self, server: Server, live: EndpointSpec) -> None:
        """The first piece comes while the rest is not produced, and to close the stream ends it."""
        with closing(self.stream(server, live.name, self.endless_question)) as pieces:
            first = next(pieces)

        assert self.stream_answer.startswith(first[:4])
        assert self.ask(server, live.name) == 1

    @pytest.mark.usefixtures("streaming")
    def test_stream_that_breaks(self, server: Server) -> None:
        """An answer that breaks off is `OperationFailed`, after the pieces that came."""
        name = server.name()
        server.start(spec(name, variant("primary", server.version(1))))
        pieces = self.stream(server, name, self.breaking_question)

        assert self.stream_answer.startswith(next(pieces)[:4])
        with pytest.raises(OperationFailed):
            list(pieces)

    @pytest.mark.usefixtures("streaming")
    def test_refused_stream(self, server: Server, live: EndpointSpec) -> None:
        """What the model server refuses or fails at before a piece is as for a plain request."""
        for question, error in (
            (self.refused_question, InvalidRequest),
            (self.failing_question, OperationFailed),
        ):
            if question is not None:
                with pytest.raises(error):
                    list(self.stream(server, live.name, question))

    @pytest.mark.usefixtures("streaming")
    def test_stream_of_nobody(self, server: Server, live: EndpointSpec) -> None:
        """A stream of an endpoint or a variant that nobody made is `NotFound`."""
        with pytest.raises(NotFound):
            list(self.stream(server, fresh("kit-nobody")))
        with pytest.raises(NotFound):
            list(self.stream(server, live.name, variant="canary"))

    @pytest.mark.usefixtures("streaming")
    def test_stream_of_a_variant(self, server: Server, live: EndpointSpec) -> None:
        """A stream can be asked of one variant, where a plain request can."""
        if not server.provider.capabilities.variant_requests:
            pytest.skip("no variant_requests; test_variant_is_addressed checks the refusal")
        found = b"".join(self.stream(server, live.name, variant="primary"))

        assert found == self.stream_answer

    def stream(
        self, server: Server, name: str, body: bytes | None = None, *, variant: str | None = None
    ) -> Generator[bytes, None, None]:
        """Return the pieces of an answer."""
        return server.endpoints.stream(
            name,
            self.stream_question if body is None else body,
            content_type=self.content_type,
            timeout_s=self.endpoint_timeout_s,
            variant=variant,
        )
