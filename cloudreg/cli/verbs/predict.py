"""``cloudreg predict``: one request to an endpoint."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloudreg.cli.arguments import UsageError, seconds
from cloudreg.cli.desk import Answer
from cloudreg.errors import InvalidRequest

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk


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
    parser.add_argument("--timeout", type=seconds, metavar="S", help="patience (default 60)")


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Send the request and print the answer."""
    from cloudreg.live import PREDICT_S

    live = desk.workspace.endpoint(options.endpoint)
    request = _parsed(*_read(options.request))
    answer = live.predict(request, variant=options.variant, timeout_s=options.timeout or PREDICT_S)
    return Answer(
        facts={"endpoint": live.name, "target": live.target, "answer": answer},
        text=[json.dumps(answer, ensure_ascii=False)],
    )


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
