"""One call of the command line: its workspace, its answer on stdout, its news on stderr."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from cloudreg.cli.terminal import progress
from cloudreg.cli.words import clean, forget, plan_lines, tell
from cloudreg.errors import CloudregError

if TYPE_CHECKING:
    from cloudreg.cli.terminal import Lines
    from cloudreg.plan import Plan
    from cloudreg.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a verb has to say.

    Attributes:
        facts: What ``--json`` prints: always an object; nouns in it become plain JSON.
        text: The same for people, line by line.
        next: The next sensible command, for stderr.
        exit_code: What the command ends with.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    text: Iterable[str] = ()
    next: str = ""
    exit_code: int = 0


class Desk:
    """Where a verb gets what it needs and says what it has to say."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Use the options that every verb has."""
        self._options = options
        self.as_json: bool = options.json
        self.quiet: bool = options.quiet
        self.announcing = False
        """Whether plans are shown before they are carried out."""
        self.announced = False
        """Whether one was."""

    def __enter__(self) -> Desk:
        """Close the workspace at the end of a with block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of all clients, if any were made."""
        opened = self.__dict__.pop("workspace", None)
        if opened is not None:
            opened.close()
        self.progress.close()

    @cached_property
    def progress(self) -> Lines:
        """Where long steps are shown."""
        return progress(quiet=self.quiet)

    @cached_property
    def workspace(self) -> Workspace:
        """The workspace of ``--config``, or of the nearest ``cloudreg.toml``.

        Raises:
            ConfigError: There is none, or it cannot be used.
        """
        from cloudreg.cli.memory import share_arenas
        from cloudreg.workspace import Workspace

        share_arenas()
        return Workspace.load(
            self.config,
            actor=self._options.actor,
            overrides=self._overrides,
            progress=self.progress,
            announce=self._announce,
        )

    @property
    def _overrides(self) -> Mapping[str, Any]:
        """Settings that the options of every verb are."""
        outputs = self._options.terraform
        if outputs is None:
            return {}
        # From where the command was typed; standard input has no place.
        file = outputs if outputs == "-" else str(Path(outputs).absolute())
        return {"terraform": {"outputs": file, "chdir": None, "state": None}}

    @property
    def config(self) -> Path | None:
        """The file that ``--config`` names."""
        if self._options.config is None:
            return None
        path = Path(self._options.config)
        # An argument beats CLOUDREG_CONFIG, also where it names a folder.
        return path / "cloudreg.toml" if path.is_dir() else path

    def show(self, lines: Iterable[str]) -> None:
        """Print a part of the answer now; with ``--json`` the facts come at the end instead."""
        if not self.as_json:
            self._print(lines)

    def news(self, line: str) -> None:
        """Tell on stderr what is going on."""
        if not self.quiet:
            self.progress.say(line)

    def ask(self, question: str, *, about: Iterable[str], assent: bool) -> bool:
        """Return whether people agree; without a terminal nobody can be asked, and it goes on.

        Args:
            question: Answered with y or n.
            about: What it is about, for a terminal on which it was not shown yet.
            assent: Whether they agreed already.
        """
        # Python has no stdin where its descriptor is closed.
        if assent or not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
            return True
        if self.as_json or not sys.stdout.isatty():
            for line in about:
                print(clean(line), file=sys.stderr)
        print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def _announce(self, plan: Plan) -> None:
        if self.announcing:
            self.show([*plan_lines(plan), ""])
            self.announced = True

    def tell(self, answer: Answer) -> int:
        """Print the answer, then the next step, and return the exit code."""
        if self.as_json:
            self._print(_json(answer.facts))
        else:
            self._print(answer.text)
            if answer.next and not self.quiet:
                tell(f"next: {answer.next}", sys.stderr)
        return answer.exit_code

    @staticmethod
    def _print(lines: Iterable[str]) -> None:
        try:
            for line in lines:
                print(clean(line))
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever read has seen enough; what was asked for is done all the same.
            forget(sys.stdout)
        except OSError as error:
            forget(sys.stdout)
            raise CloudregError(f"the answer cannot be written: {error.strerror}") from error


def _json(facts: Mapping[str, Any]) -> list[str]:
    import msgspec

    # One line for programs, which read lines; several for people.
    indent = 2 if sys.stdout.isatty() else None
    text = json.dumps(msgspec.to_builtins(dict(facts)), ensure_ascii=False, indent=indent)
    return text.split("\n")
