"""The command line: one table of verbs, one module for each, and what they share.

=============  ============================================================================
`table`        every verb with its summary and an example; what ``--help`` shows
`arguments`    parsers, and the options that every verb has
`desk`         one call: its workspace, its answer on stdout, its news on stderr
`failures`     what an error looks like, and which exit code it has
`memory`       how much of what was freed threads may keep
`terminal`     bars and lines while something takes long
`words`        tables, sizes, times and plans, legible for people and safe for terminals
`verbs`        one file each: `arguments` and `run`
=============  ============================================================================

Nothing here imports more than the standard library before a verb runs: most calls are short, and
half a second of imports is what people remember of a tool.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cloudreg.cli import arguments, failures
from cloudreg.cli.table import VERBS, help_text
from cloudreg.cli.words import forget

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the words after ``cloudreg`` say, and return the exit code.

    Args:
        argv: The words; those of this process without.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    _make_printable()
    try:
        code = _call(words)
    except SystemExit as done:  # argparse, once it has printed the help that was asked for
        code = int(done.code or 0)
    except BaseException as error:  # everything ends as a message and an exit code
        return failures.report(error, as_json="--json" in words)
    _say("")
    return code


def _call(words: list[str]) -> int:
    leading, rest = arguments.leading(words)
    if "-h" in leading or "--help" in leading or rest == ["help"]:
        _say(help_text() + "\n")
        return 0
    if "--version" in leading:
        from cloudreg import __version__

        _say(f"cloudreg {__version__}\n")
        return 0
    if not rest:
        raise arguments.UsageError("which verb?", hint="cloudreg --help lists them")
    verb, *own = rest
    if verb == "help":
        verb, own = own[0], ["--help"]
    if verb not in VERBS:
        raise arguments.unknown_verb(verb)
    options = arguments.read(verb, [*leading, *own])
    from cloudreg.cli.desk import Desk

    with Desk(options) as desk:
        return desk.tell(arguments.module(verb).run(options, desk))


def _say(text: str) -> None:
    """Print *text*, and what still waits to be printed."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads has seen enough; the interpreter must not complain about it at its end.
        forget(sys.stdout)


def _make_printable() -> None:
    """Let no character of a user's own text end a command on a terminal that cannot show it.

    Nor a descriptor that is closed: the next file to be opened would take its place.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # Path would cost an import that help can do without; what is opened here stays open.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        reconfigure = getattr(getattr(sys, name), "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
