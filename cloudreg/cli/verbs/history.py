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
from cloudreg.cli.words import table, when
from cloudreg.errors import IntegrityError
from cloudreg.names import short

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk
    from cloudreg.ledger import Entry, Verification
    from cloudreg.ledger.copies import CopyVerification
    from cloudreg.past import Held, Past, Ran


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
    parser.add_argument(
        "--at",
        metavar="DATE",
        help="what stages and endpoints held on a day, or at a moment; UTC without a zone",
    )
    parser.add_argument("--verify", action="store_true", help="check every entry, hash by hash")
    parser.add_argument(
        "--copy",
        metavar="TARGET",
        action="append",
        default=[],
        help="with --verify: compare the copy on this target with the home, too",
    )
    parser.add_argument(
        "--pin",
        metavar="SEQ:HASH",
        help="an entry that is known from elsewhere; checked with --verify",
    )


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Tell the story, newest first, and judge the record."""
    workspace = desk.workspace
    if options.at is not None:
        for name in ("verify", "copy", "pin"):
            if getattr(options, name):
                raise UsageError(f"--at tells the past, --{name} judges the record: one at a time")
        return _at(workspace.past(options.model, options.at))
    pinned = _pin(options.pin) if options.pin is not None else None
    verdict = None
    if options.verify or pinned is not None:
        verdict = workspace.verify(options.model, pinned=pinned)
    elif options.copy:
        raise UsageError("--copy needs --verify", hint="add --verify")
    copies = [workspace.verify_copy(options.model, target=target) for target in options.copy]
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
    if copies:
        facts["copies"] = [
            {"target": c.target, "ok": c.ok, "entries": c.entries, "problems": c.problems}
            for c in copies
        ]
    text = [*_text(entries), *(_verdict(verdict) if verdict is not None else ())]
    text += [line for copy in copies for line in _copy(copy)]
    sound = (verdict is None or verdict.ok) and all(copy.ok for copy in copies)
    return Answer(
        facts=facts,
        text=text,
        next="" if verdict is not None else f"cloudreg history {options.model} --verify",
        exit_code=0 if sound else 1,
    )


def _at(past: Past) -> Answer:
    """Return what was where, each with its own time."""
    held = [
        (one.stage, f"{past.model}:{one.number}", short(one.digest), *_times(one), one.actor)
        for one in past.held
    ]
    ran = [
        (
            f"{one.endpoint} on {one.target}",
            ", ".join(f"{name} :{number} {weight} %" for name, number, weight in one.variants),
            *_times(one),
            one.actor,
        )
        for one in past.ran
    ]
    span = f"at {past.start}" if past.start == past.end else f"from {past.start} to {past.end}"
    text, times = [f"{past.model} {span}"], ("SINCE", "UNTIL", "BY")
    if held:
        text += ["", *table(("STAGE", "VERSION", "DIGEST", *times), held)]
    if ran:
        text += ["", *table(("ENDPOINT", "SERVED", *times), ran)]
    if not (held or ran):
        text.append("nothing was in any stage yet")
    return Answer(facts={"model": past.model, "past": past}, text=text)


def _times(one: Held | Ran) -> tuple[str, str]:
    return when(one.since), when(one.until)


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


def _copy(copy: CopyVerification) -> Iterator[str]:
    if copy.ok:
        yield f"The copy on {copy.target} is the home's ledger: {copy.entries} entries."
        return
    yield f"The copy on {copy.target} is NOT the home's ledger: {copy.entries} entries are; then"
    yield from (f"  {problem}" for problem in copy.problems)


def _pin(text: str) -> tuple[int, str]:
    """Read ``SEQ:sha256:…``, as ``--verify`` prints it."""
    from cloudreg.names import check_digest

    seq, _, head = text.partition(":")
    if not (seq.isascii() and seq.isdecimal()):
        raise UsageError(f"--pin {text!r}: SEQ:HASH is wanted, as --verify prints it")
    return int(seq), check_digest(head)
