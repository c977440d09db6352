"""``cloudreg history``: who did what, when and why; and whether the record itself is sound."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from cloudreg.cli.arguments import UsageError, whole
from cloudreg.cli.changes import entry_facts
from cloudreg.cli.desk import Answer
from cloudreg.cli.story import details, sentence
from cloudreg.cli.words import when
from cloudreg.errors import IntegrityError

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk
    from cloudreg.ledger import Entry, Verification


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("model", metavar="MODEL", help="whose ledger")
    parser.add_argument(
        "--limit",
        type=whole,
        default=50,
        metavar="N",
        help="newest entries; 0 shows all (default 50)",
    )
    parser.add_argument("--verify", action="store_true", help="check every entry, hash by hash")
    parser.add_argument(
        "--pin",
        metavar="SEQ:HASH",
        help="an entry that is known from elsewhere; checked with --verify",
    )


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Tell the story, newest first, and judge the record."""
    workspace = desk.workspace
    pinned = _pin(options.pin) if options.pin is not None else None
    verdict = None
    if options.verify or pinned is not None:
        verdict = workspace.verify(options.model, pinned=pinned)
    entries: list[Entry] = []
    try:
        for entry in islice(workspace.history(options.model), options.limit or None):
            entries.append(entry)
    except IntegrityError:
        # The verdict says the same, and all the rest that is wrong.
        if verdict is None or verdict.ok:
            raise
    if entries and entries[-1].seq > 0:
        desk.news(f"{entries[-1].seq} older ones; --limit 0 shows all")
    facts: dict[str, Any] = {
        "model": options.model,
        "entries": [entry_facts(entry) for entry in entries],
    }
    if verdict is not None:
        facts["verification"] = {
            "ok": verdict.ok,
            "entries": verdict.entries,
            "head": verdict.head,
            "problems": verdict.problems,
        }
    text = [*_text(entries), *(_verdict(verdict) if verdict is not None else ())]
    return Answer(
        facts=facts,
        text=text,
        next="" if verdict is not None else f"cloudreg history {options.model} --verify",
        exit_code=0 if verdict is None or verdict.ok else 1,
    )


def _text(entries: list[Entry]) -> Iterator[str]:
    told = [(entry, sentence(entry)) for entry in entries]
    told = [(entry, text) for entry, text in told if text]
    places = max((len(str(entry.seq)) for entry, _ in told), default=1)
    people = max((len(entry.actor) for entry, _ in told), default=0)
    for entry, text in told:
        seq, actor = str(entry.seq).rjust(places), entry.actor.ljust(people)
        yield f"{seq}  {when(entry.at)}  {actor}  {text}"
        for line in details(entry):
            yield f"{' ' * places}    {line}"


def _verdict(verdict: Verification) -> Iterator[str]:
    yield ""
    held = "1 entry" if verdict.entries == 1 else f"{verdict.entries} entries hang together"
    if verdict.ok:
        yield f"The ledger is sound: {held}, from 0 to the head."
        yield f"Head: {verdict.entries - 1}:{verdict.head}"
        return
    yield f"The ledger is NOT sound: {held}, from 0; then"
    yield from (f"  {problem}" for problem in verdict.problems)


def _pin(text: str) -> tuple[int, str]:
    """Read ``SEQ:sha256:…``, as ``--verify`` prints it."""
    from cloudreg.names import check_digest

    seq, _, head = text.partition(":")
    if not (seq.isascii() and seq.isdecimal()):
        raise UsageError(f"--pin {text!r}: SEQ:HASH is wanted, as --verify prints it")
    return int(seq), check_digest(head)
