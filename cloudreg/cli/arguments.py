"""Parsers of verbs, the options that all of them have, and refusals that name the words."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, cast

from cloudreg.cli.table import EXIT_CODES, VERBS
from cloudreg.errors import InvalidRequest

if TYPE_CHECKING:
    from cloudreg.cli.desk import Answer, Desk

_FLAGS = ("--json", "--quiet", "-h", "--help", "--version")
_VALUES = ("--config", "--as", "--terraform")

COMMAND = "command"
"""Where a verb finds the words behind ``--``: one that has a default for it takes a command."""


class UsageError(InvalidRequest):
    """The words make no command.

    Attributes:
        usage: How the verb is called, where one was understood.
    """

    def __init__(self, message: str, *, hint: str | None = None, usage: str = "") -> None:
        """Keep the usage beside the message."""
        super().__init__(message, hint=hint)
        self.usage = usage


class VerbModule(Protocol):
    """What a file in ``verbs`` holds."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the verb's own arguments."""
        ...

    def run(self, options: argparse.Namespace, desk: Desk) -> Answer:
        """Do it."""
        ...


class Parser(argparse.ArgumentParser):
    """A parser that refuses with our error instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        """Refuse, and say how the verb is called."""
        raise UsageError(message, usage=self.format_usage(), hint=f"{self.prog} --help")


def module(verb: str) -> VerbModule:
    """Return the file of a verb."""
    return cast("VerbModule", import_module(f"cloudreg.cli.verbs.{verb}"))


def parser(verb: str) -> argparse.ArgumentParser:
    """Return the parser of a verb, with the options of all verbs."""
    about = VERBS[verb]
    codes = sorted({0, 1, 64, *about.codes})
    made = Parser(
        prog=f"cloudreg {verb}",
        description=f"{about.summary[0].upper()}{about.summary[1:]}.",
        epilog="\n".join(
            [
                "example:",
                f"  $ {about.example}",
                "",
                "exit codes:",
                *(f"  {code:<4}{EXIT_CODES[code]}" for code in codes),
            ]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module(verb).arguments(made)
    shared = made.add_argument_group("with every verb")
    shared.add_argument("--config", metavar="FILE", help="the cloudreg.toml, or its folder")
    shared.add_argument("--json", action="store_true", help="print the facts as JSON, errors too")
    shared.add_argument("--as", metavar="ACTOR", dest="actor", help="who is asking, for the ledger")
    shared.add_argument(
        "--terraform",
        metavar="FILE",
        help="what terraform output -json printed, below all else; - for standard input",
    )
    shared.add_argument("--quiet", action="store_true", help="print no news")
    return made


def read(verb: str, words: Sequence[str]) -> argparse.Namespace:
    """Return the options of a verb.

    Raises:
        UsageError: The words do not fit.
    """
    made = parser(verb)
    behind: list[str] | None = None
    if "--" in words and made.get_default(COMMAND) is not None:
        at = list(words).index("--")
        words, behind = words[:at], list(words[at + 1 :])
        if not behind:
            made.error("no command behind --")
    # Intermixed, because an option between two arguments would end the optional ones.
    options = made.parse_intermixed_args(words)
    if behind is not None:
        setattr(options, COMMAND, behind)
    return options


def leading(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split off the options that stand before the verb.

    Raises:
        UsageError: One of them belongs behind it, or is no option.
    """
    found: list[str] = []
    rest = list(words)
    while rest and rest[0].startswith("-"):
        name = rest[0].partition("=")[0]
        if rest[0] in _FLAGS or (name in _VALUES and name != rest[0]):
            found.append(rest.pop(0))
        elif name in _VALUES and len(rest) > 1:
            found += [rest.pop(0), rest.pop(0)]
        else:
            problem = "needs a value" if name in _VALUES else "is no option before a verb"
            raise UsageError(f"{rest[0]} {problem}", hint="cloudreg --help")
    return found, rest


def unknown_verb(verb: str) -> UsageError:
    """Return the refusal of a word that is no verb, with the one that was probably meant."""
    from difflib import get_close_matches

    near = get_close_matches(verb, VERBS, n=1, cutoff=0.5)
    hint = f"did you mean cloudreg {near[0]}?" if near else "cloudreg --help lists them"
    return UsageError(f"no verb {verb!r}", hint=hint)


def pairs(
    texts: Iterable[str], option: str, value: Callable[[str], Any] = lambda text: text
) -> dict[str, Any]:
    """Read ``key=value`` texts of an option that may be given several times.

    Raises:
        UsageError: No ``=``, no key, a key twice, or a value that cannot be read.
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, said = text.partition("=")
        if not (equals and key):
            raise UsageError(f"{option} {text!r}: key=value is wanted")
        if key in found:
            raise UsageError(f"{option} {key}: given twice")
        try:
            found[key] = value(said)
        except ValueError as error:
            raise UsageError(f"{option} {key}: {said!r} is not a number") from error
    return found


def json_or_text(text: str) -> Any:
    """Return the JSON value that *text* spells, or the text itself."""

    def refuse(name: str) -> NoReturn:
        raise ValueError(name)  # NaN and the infinities are no JSON, whatever Python says

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return text


def whole(text: str) -> int:
    """Read a whole number from 0."""
    return _number(text, 0)


def positive(text: str) -> int:
    """Read a whole number from 1."""
    return _number(text, 1)


def seconds(text: str) -> float:
    """Read seconds: a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def _number(text: str, low: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 19 and int(text) >= low):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low}")
    return int(text)
