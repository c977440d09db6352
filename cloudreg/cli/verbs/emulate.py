"""``cloudreg emulate``: an emulated cloud in the foreground, or around one command."""

from __future__ import annotations

import argparse
import os
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, NoReturn

from cloudreg.cli.arguments import COMMAND, UsageError, whole
from cloudreg.errors import ProviderNotInstalled

if TYPE_CHECKING:
    from cloudreg.cli.desk import Answer, Desk

# The core knows no emulator: it is started by its command line, and its words are its own.
MODULE = "cloudreg_emulator"
NEEDED = (MODULE, "moto", "flask", "flask_cors", "regex", "boto3", "grpc")

PASSED_ON = {
    "host": ("H", "address (default 127.0.0.1)"),
    "region": ("R", "of AWS, what clients are told to ask (default us-east-1)"),
    "google-port": ("P", "of Google (default: a free one)"),
    "google-region": ("R", "of Google (default us-central1)"),
    "project": ("ID", "Google's project (default emulated-project)"),
    "state": ("DIR", "keep what is in Google's cloud between runs"),
    "scale": ("S", "real seconds of an emulated second (default 1)"),
    "describes": ("N", "describes until something that takes time is done (default 1)"),
}
"""Options of the emulator that are its own business."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.usage = "cloudreg emulate [OPTION …] [-- CMD …]"
    parser.epilog = (
        "CMD runs with an environment in which AWS's and Google's own clients reach the\n"
        "emulator, and its exit code is the command's. Without it the environment is printed.\n\n"
        f"{parser.epilog}"
    )
    parser.set_defaults(**{COMMAND: []})
    parser.add_argument(
        "--cloud", choices=["aws", "google", "both"], default="both", help="default both"
    )
    parser.add_argument(
        "--port", type=whole, default=0, metavar="P", help="of AWS (default: a free one)"
    )
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="PATTERN=COMMAND",
        help="the command that stands for images of this pattern; may be given several times",
    )
    for name, (meta, text) in PASSED_ON.items():
        parser.add_argument(f"--{name}", metavar=meta, help=text)


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Become the emulator: signals reach it, and its exit code is the command's."""
    if options.config is not None:
        raise UsageError("--config: an emulator has no configuration")
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ProviderNotInstalled(
            f"the emulator is not installed: {', '.join(missing)} is missing",
            hint="pip install 'cloudreg[emulator]'",
        )
    _become([sys.executable, "-P", "-m", MODULE, *_words(options, quiet=desk.quiet)])


def _words(options: argparse.Namespace, *, quiet: bool) -> list[str]:
    words = ["--cloud", options.cloud, "--port", str(options.port)]
    for image in options.image:
        words += ["--image", image]
    for name in PASSED_ON:
        value = getattr(options, name.replace("-", "_"))
        if value is not None:
            words += [f"--{name}", value]
    words += ["--json"] if options.json else []
    words += ["--quiet"] if quiet else []
    return [*words, "--", *options.command] if options.command else words


def _become(words: list[str]) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(words[0], words)  # noqa: S606  # a list, and no shell
