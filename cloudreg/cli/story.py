"""A ledger's entries in people's words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cloudreg.cli.words import count, size
from cloudreg.names import short

if TYPE_CHECKING:
    from cloudreg.ledger import Entry

_PAST = {
    "promote": "promoted",
    "rollback": "rolled back",
    "apply": "applied the configured endpoints",
    "down": "removed endpoints",
    "repair": "repaired what targets show",
    "follow": "brought up what was behind",
}


def sentence(entry: Entry) -> str:
    """Return what happened, or nothing for an entry that only keeps a lease alive."""
    model, data = entry.model, entry.data
    match entry.kind:
        case "register":
            text = (
                f"registered {model}:{data['number']} in {', '.join(data.get('stages', {}))} "
                f"({short(data['digest'])}, {count(data['files'], 'file')}, {size(data['size'])})"
            )
        case "approve":
            why = f": {data['reason']}" if data.get("reason") else ""
            text = f"approved {model}:{data['number']} for {data['stage']}{why}"
        case "waive":
            text = (
                f"waived {', '.join(data['formats'])} of {model}:{data['number']} in "
                f"{data['stage']} until {data['until']}: {data['reason']}"
            )
        case "sign":
            text = f"signed {model}:{data['number']} with the key {data['key'][:12]}"
        case "intent":
            text = f"began: {_what(model, data)}"
        case "step":
            text = _step(data)
        case "takeover":
            text = f"took over what was under way: {data['why']}"
        case "done":
            text = _done(model, data)
        case "abort":
            text = f"undone: {data['reason']}"
        case "adopt":
            text = f"adopted what {data['target']} shows: {data['reason']}"
        case _:
            text = _note(data)
            if data.get("touched"):
                text = f"touched {', '.join(data['touched'])}: its ttl begins anew"
    return text


def details(entry: Entry) -> Iterator[str]:
    """Yield what else people must know of an entry, one line each."""
    data = entry.data
    if data.get("break_glass"):
        yield f"!! BREAK GLASS: {data['break_glass']}"
    if entry.kind == "done":
        if data.get("reason"):
            yield f"why: {data['reason']}"
        yield from _gates(data.get("gates", ()))
        for name, applied in data.get("endpoints", {}).items():
            what = "removed" if applied is None else f"on {applied['target']}: {_serves(applied)}"
            yield f"endpoint {name} {what}"
        yield from (f"repaired: {line}" for line in data.get("repaired", ()))
    for line in data.get("journal", ()):
        yield f"{line['at']} {line['actor']} {line['kind']}: {_journal(line['data'])}"
    if entry.kind == "adopt":
        yield from (f"found: {line}" for line in data.get("found", ()))
    for stage, targets in data.get("behind", {}).items():
        if entry.kind != "intent":
            yield from (f"!! {t} is behind in {stage}: {b['reason']}" for t, b in targets.items())
    yield from (f"back as it was: {what}" for what in data.get("undone", ()))
    yield from (f"!! {note}" for note in data.get("notes", ()))


def _note(data: Mapping[str, Any]) -> str:
    if data.get("overruled"):
        return "overruled what was done without the home"
    if data.get("parity"):
        return f"asked all targets the same: {'; '.join(r['reason'] for r in data['parity'])}"
    request = data.get("request")
    return f"asked to {request} what is under way" if request else f"noted: {dict(data)}"


def _journal(data: Mapping[str, Any]) -> str:
    if "stage" in data:
        return f"{data['stage']} from {data['from']} to {data['to']}, by the copy on " + (
            data["copy"]["source"] or "that machine"
        )
    return " ".join(str(data[key]) for key in ("target", "reason") if key in data)


def _what(model: str, data: Mapping[str, Any]) -> str:
    text = str(data["verb"])
    if "number" in data:
        text += f" {model}:{data['number']}"
    if data.get("stage"):
        text += f" to {data['stage']}"
    return text


def _step(data: Mapping[str, Any]) -> str:
    progress = data.get("progress")
    if not progress:
        return ""
    text = f"{progress.get('endpoint')} at {progress.get('percent')} % of the traffic"
    if data.get("paused"):
        return f"PAUSED {text}: {progress.get('reason', 'no reason given')}"
    return text


def _done(model: str, data: Mapping[str, Any]) -> str:
    text = _PAST.get(str(data.get("verb")), str(data.get("verb")))
    if data.get("verb") in ("promote", "rollback") and not data.get("stages"):
        return f"{text}: no stage had to move"
    for stage, number in data.get("stages", {}).items():
        before = data.get("previous")
        was = f", after {model}:{before}" if before else ""
        text += f": {stage} is {model}:{number}{was}"
    return text


def _gates(results: Any) -> Iterator[str]:
    failed = [r for r in results if not r["passed"]]
    passed = [r["gate"] for r in results if r["passed"]]
    if passed:
        yield f"gates passed: {', '.join(passed)}"
    for result in failed:
        yield f"!! gate FAILED: {result['gate']}: {result['reason']}"


def _serves(applied: Mapping[str, Any]) -> str:
    variants = applied["spec"]["variants"]
    return ", ".join(f"{v['model']}:{v['number']} {v['weight']} %" for v in variants)
