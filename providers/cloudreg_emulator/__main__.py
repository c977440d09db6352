"""``python -m cloudreg_emulator``: an emulated cloud in the foreground, or around one command."""

from __future__ import annotations

import argparse
import errno
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from cloudreg_emulator.clouds import Cloud

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
    # Imported late: a cloud takes a second, and a usage error should not.
    from cloudreg_emulator import clouds

    asked = clouds.opened(options)
    leading_away = sorted({name for cloud in asked for name in cloud.taken_away()})
    try:
        with ExitStack() as stack:
            told = stack.enter_context(_told())
            for cloud in asked:
                stack.enter_context(cloud)
            if command:
                inside = clouds.process_environment(asked)
                return _run(command, inside, quiet=options.quiet)
            _announce(asked, leading_away, as_json=options.json, quiet=options.quiet)
            told.wait()
            return 0
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
            raise
        print(f"error: {error.strerror}", file=sys.stderr)
        return 1


def _parser() -> _Parser:
    parser = _Parser(
        prog="cloudreg_emulator",
        usage="python -m cloudreg_emulator [OPTION …] [-- CMD …]",
        description="Run an emulated cloud in the foreground, or CMD inside one.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--cloud", choices=["aws", "google", "both"], default="both", help="default both"
    )
    parser.add_argument(
        "--port", type=_port, default=0, metavar="P", help="of AWS; default: a free one"
    )
    parser.add_argument(
        "--google-port", type=_port, default=0, metavar="P", help="of Google; default: a free one"
    )
    parser.add_argument("--host", default="127.0.0.1", metavar="H", help="default 127.0.0.1")
    parser.add_argument(
        "--region", default="us-east-1", metavar="R", help="of AWS; default us-east-1"
    )
    parser.add_argument(
        "--google-region", default="us-central1", metavar="R", help="default us-central1"
    )
    parser.add_argument(
        "--project", default="emulated-project", metavar="ID", help="default emulated-project"
    )
    parser.add_argument(
        "--state", type=Path, metavar="DIR", help="keep what is in Google's cloud between runs"
    )
    parser.add_argument(
        "--s3-url",
        metavar="URL",
        help="where Google's transfers find S3; default: the emulated AWS beside it",
    )
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
    clouds: Sequence[Cloud], leading_away: Sequence[str], *, as_json: bool, quiet: bool
) -> None:
    from cloudreg_emulator.clouds import environment_of

    variables = environment_of(list(clouds))
    if as_json:
        facts = {
            "pid": os.getpid(),
            "clouds": [cloud.facts for cloud in clouds],
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
        shown = " and ".join(f"{_NAMES[c.name]} at {c.facts['url']}" for c in clouds)
        print(f"emulated: {shown}; Ctrl-C ends it", file=sys.stderr, flush=True)


_NAMES = {"aws": "AWS", "google": "Google Cloud"}


def _run(command: Sequence[str], environment: Mapping[str, str], *, quiet: bool) -> int:
    """Run *command* to its end with signals passed on, and return its exit code."""
    try:
        process = subprocess.Popen(command, env=dict(environment))
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
