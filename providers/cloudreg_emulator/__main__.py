"""``python -m cloudreg_emulator``: an emulated cloud in the foreground, or around one command."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from cloudreg_emulator.aws.server import AwsServer

USAGE = 64
CANNOT_RUN = 126
NOT_FOUND = 127
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"error: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the words say, and return the exit code: that of the command, where one is given."""
    words = list(sys.argv[1:] if argv is None else argv)
    command: list[str] = []
    if "--" in words:
        at = words.index("--")
        words, command = words[:at], words[at + 1 :]
        if not command:
            _parser().error("no command behind --")
    options = _parser().parse_args(words)
    # Imported late: moto takes a second, and a usage error should not.
    from cloudreg_emulator.aws.environment import taken_away
    from cloudreg_emulator.aws.server import AddressInUse, AwsServer

    leading_away = taken_away()
    server = AwsServer(
        port=options.port,
        host=options.host,
        region=options.region,
        images=dict(options.image),
        scale=options.scale,
        describes=options.describes,
    )
    try:
        with _told() as told, server:
            if command:
                return _run(command, server, quiet=options.quiet)
            _announce(server, leading_away, as_json=options.json, quiet=options.quiet)
            told.wait()
            return 0
    except AddressInUse as error:
        print(f"error: {error.strerror}", file=sys.stderr)
        return 1


def _parser() -> _Parser:
    parser = _Parser(
        prog="cloudreg_emulator",
        usage="python -m cloudreg_emulator [OPTION …] [-- CMD …]",
        description="Run an emulated cloud in the foreground, or CMD inside one.",
        allow_abbrev=False,
    )
    parser.add_argument("--cloud", choices=["aws"], default="aws", help="which one (default aws)")
    parser.add_argument("--port", type=_port, default=0, metavar="P", help="default: a free one")
    parser.add_argument("--host", default="127.0.0.1", metavar="H", help="default 127.0.0.1")
    parser.add_argument("--region", default="us-east-1", metavar="R", help="default us-east-1")
    parser.add_argument(
        "--image",
        type=_image,
        action="append",
        default=[],
        metavar="PATTERN=COMMAND",
        help="the command that stands for images of this pattern; may be given several times",
    )
    parser.add_argument(
        "--scale", type=_scale, default=1.0, metavar="S", help="real seconds of an emulated one"
    )
    parser.add_argument(
        "--describes", type=_count, default=1, metavar="N", help="describes until something is done"
    )
    parser.add_argument("--json", action="store_true", help="print the environment as JSON")
    parser.add_argument("--quiet", action="store_true", help="print no news")
    return parser


def _image(text: str) -> tuple[str, list[str]]:
    pattern, equals, command = text.partition("=")
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error
    if not (pattern and equals and words):
        raise argparse.ArgumentTypeError(f"{text!r}: PATTERN=COMMAND is wanted")
    return pattern, words


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port")
    return int(text)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def _scale(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0")
    return value


@contextmanager
def _told() -> Iterator[threading.Event]:
    """Give an event that is set once somebody ends this process."""
    told = threading.Event()
    before = {number: signal.signal(number, lambda *_: told.set()) for number in SIGNALS}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _announce(
    server: AwsServer, leading_away: Sequence[str], *, as_json: bool, quiet: bool
) -> None:
    from cloudreg_emulator.faults import CONTROL_PATH

    variables = server.environment()
    if as_json:
        facts = {
            "cloud": "aws",
            "url": server.url,
            "pid": os.getpid(),
            "started_in_s": round(server.started_in_s, 3),
            "faults": f"{server.url}{CONTROL_PATH}",
            "environment": variables,
            "unset": list(leading_away),
        }
        print(json.dumps(facts), flush=True)
    else:
        for name, value in variables.items():
            print(f"export {name}={shlex.quote(value)}")
        for name in leading_away:
            print(f"unset {name}")
        sys.stdout.flush()
    if not quiet and not as_json:
        print(f"AWS is emulated at {server.url}; Ctrl-C ends it", file=sys.stderr, flush=True)


def _run(command: Sequence[str], server: AwsServer, *, quiet: bool) -> int:
    """Run *command* to its end with signals passed on, and return its exit code."""
    try:
        process = subprocess.Popen(command, env=server.process_environment())
    except FileNotFoundError:
        print(f"error: {command[0]}: command not found", file=sys.stderr)
        return NOT_FOUND
    except OSError as error:
        print(f"error: {command[0]}: {error.strerror}", file=sys.stderr)
        return CANNOT_RUN

    def passed_on(number: int, frame: FrameType | None) -> None:
        # Ctrl-C on a terminal reaches the whole group; a second one would be one too many.
        if number == signal.SIGINT and _on_terminal():
            return
        process.send_signal(number)

    before = {number: signal.signal(number, passed_on) for number in SIGNALS}
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code < 0:
        if not quiet:
            print(f"{command[0]} was ended by {signal.Signals(-code).name}", file=sys.stderr)
        return 128 - code
    return code


def _on_terminal() -> bool:
    """Return whether this process is in the foreground of a terminal."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):
        return False


if __name__ == "__main__":
    sys.exit(main())
