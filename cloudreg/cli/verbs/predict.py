"""``cloudreg predict``: one request to an endpoint."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloudreg.cli.arguments import UsageError, seconds
from cloudreg.cli.desk import Answer
from cloudreg.errors import InvalidRequest

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk
    from cloudreg.live import LiveEndpoint


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("endpoint", metavar="ENDPOINT", help="as it is configured")
    parser.add_argument(
        "request",
        nargs="?",
        default="-",
        metavar="JSON",
        help='{"instances": […]} or […]; @FILE reads a file, - or nothing reads stdin',
    )
    parser.add_argument("--variant", metavar="V", help="ask this one, whatever the weights are")
    parser.add_argument(
        "--key", metavar="K", help="whose request it is: the same key meets the same variant"
    )
    parser.add_argument(
        "--stream", action="store_true", help="print each piece of the answer as it comes"
    )
    parser.add_argument(
        "--no-wait",
        action="store_true",
        help="queue the request of an asynchronous endpoint, and print its id",
    )
    parser.add_argument(
        "--result", metavar="ID", help="wait for the answer to a queued request, and print it"
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        metavar="S",
        help="patience (default 60, or 900 with an asynchronous endpoint)",
    )


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Send the request and print the answer."""
    from cloudreg.live import PREDICT_S, QUEUED_S

    chosen = [f"--{w.replace('_', '-')}" for w in _WAYS if getattr(options, w)]
    if len(chosen) > 1:
        raise UsageError(f"{chosen[0]} and {chosen[1]} do not go together")
    live = desk.workspace.endpoint(options.endpoint)
    queued = live.kind == "asynchronous" or options.no_wait or options.result
    timeout_s = options.timeout or (QUEUED_S if queued else PREDICT_S)
    if options.result:
        if options.request != "-" or options.variant or options.key:
            raise UsageError("--result takes no request: it was sent before")
        return _told(live, live.pending(options.result).result(timeout_s=timeout_s))
    request = _parsed(*_read(options.request))
    if options.stream:
        return _streamed(live, request, options, desk)
    if options.no_wait:
        if options.variant or options.key:
            raise UsageError("--no-wait: the endpoint's weights alone choose a variant")
        return _queued(live, request, timeout_s)
    if options.variant and options.key:
        raise UsageError("--variant and --key both choose who is asked")
    chosen_by = {"variant": options.variant, "key": options.key}
    return _told(live, live.predict(request, **chosen_by, timeout_s=timeout_s))


_WAYS = ("stream", "no_wait", "result")


def _told(live: LiveEndpoint, answer: Any) -> Answer:
    return Answer(
        facts={"endpoint": live.name, "target": live.target, "answer": answer},
        text=[json.dumps(answer, ensure_ascii=False)],
    )


def _queued(live: LiveEndpoint, request: Any, timeout_s: float) -> Answer:
    pending = live.submit(request, timeout_s=timeout_s)
    return Answer(
        facts={"endpoint": live.name, "target": live.target, "id": pending.id},
        text=[pending.id],
        next=f"cloudreg predict {live.name} --result {pending.id}",
    )


def _streamed(live: LiveEndpoint, request: Any, options: argparse.Namespace, desk: Desk) -> Answer:
    """Print the pieces one by one; with ``--json`` they come together, at the end."""
    from cloudreg.live import PREDICT_S

    pieces = []
    timeout_s = options.timeout or PREDICT_S
    chosen_by = {"variant": options.variant, "key": options.key}
    with closing(live.stream(request, **chosen_by, timeout_s=timeout_s)) as answer:
        for piece in answer:
            desk.show([json.dumps(piece, ensure_ascii=False)])
            if desk.as_json:
                pieces.append(piece)
    return Answer(facts={"endpoint": live.name, "target": live.target, "pieces": pieces})


def _read(said: str) -> tuple[str, str]:
    """Return where the request stands, and its text."""
    if said == "-":
        if not sys.stdin or sys.stdin.isatty():
            raise UsageError("no request: JSON, @FILE, or something on stdin")
        return "stdin", sys.stdin.read()
    if not said.startswith("@"):
        return "the request", said
    path = Path(said[1:])
    try:
        return str(path), path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no UTF-8"
        raise InvalidRequest(f"{path} cannot be read: {reason}") from error


def _parsed(where: str, text: str) -> dict[str, Any] | list[Any]:
    try:
        request = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(
            f"{where} is no JSON: {error}", hint="""'{"instances": [[1, 2, 3]]}'"""
        ) from error
    if not isinstance(request, (dict, list)):
        raise InvalidRequest(
            f"{where} is neither an object nor a list", hint="""'{"instances": [[1, 2, 3]]}'"""
        )
    return request
