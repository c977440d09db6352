"""What a request would change or has changed, for people and as facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloudreg.cli.arguments import UsageError
from cloudreg.cli.desk import Answer
from cloudreg.cli.words import plan_lines
from cloudreg.errors import CloudregError

if TYPE_CHECKING:
    import argparse

    from cloudreg.cli.desk import Desk
    from cloudreg.live import LiveEndpoint, Preview, Promotion

PENDING = 2
GATE_FAILED = 3
BEHIND = 4


def preview_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what promotions and rollbacks share."""
    parser.add_argument("--dry-run", action="store_true", help="show the plan, change nothing")
    parser.add_argument("--out", metavar="FILE", help="with --dry-run: save it for apply")
    parser.add_argument("--reason", default="", metavar="TEXT", help="why, for the ledger")


def check_out(options: argparse.Namespace) -> None:
    """Refuse ``--out`` where no plan is made that could be saved."""
    if options.out is not None and not options.dry_run:
        raise UsageError("--out needs --dry-run: nothing is saved of what is done at once")


def check_glass(options: argparse.Namespace, desk: Desk) -> None:
    """Refuse to break the glass without a reason, and never do it quietly by mistake."""
    if options.break_glass is None:
        return
    if not options.break_glass.strip():
        raise UsageError("--break-glass needs a reason")
    desk.news(f"breaking the glass: {options.break_glass}")


def previewed(preview: Preview, *, out: str | None, again: str) -> Answer:
    """Return the answer that shows a plan and has changed nothing.

    Args:
        preview: What would be done.
        out: Where to save it.
        again: The command that does it.
    """
    plan = preview.plan
    lines = list(plan_lines(plan))
    if out is not None:
        preview.save(Path(out))
        lines += ["", f"saved in {out}"]
    code = PENDING if not plan.empty else 0
    following = "" if plan.empty else (f"cloudreg apply {out}" if out is not None else again)
    if not plan.allowed:
        # Nobody has to read the plan to find out that it would be refused.
        code, following = GATE_FAILED, ""
    return Answer(
        facts={"plan": plan.to_json(), "allowed": plan.allowed, "saved": out},
        text=lines,
        next=following,
        exit_code=code,
    )


def done(promotion: Promotion, *, following: str, shown: bool = False) -> Answer:
    """Return the answer that tells what a request did.

    Args:
        promotion: What it did.
        following: The next sensible command.
        shown: The plan was shown before.
    """
    urls = {name: _url(live) for name, live in promotion.endpoints.items()}
    return Answer(
        facts={
            "changed": promotion.changed,
            "version": _version(promotion),
            "plan": promotion.plan.to_json(),
            "entry": entry_facts(promotion.entry) if promotion.entry is not None else None,
            "endpoints": {
                name: {"target": live.target, "url": urls[name]}
                for name, live in promotion.endpoints.items()
            },
            "behind": promotion.behind,
        },
        text=[*_text(promotion, urls, shown=shown), *_behind(promotion)],
        next=_repair(promotion) or following,
        exit_code=BEHIND if promotion.behind else 0,
    )


def entry_facts(entry: Any) -> dict[str, Any]:
    """Return a ledger entry as JSON, with the hash that the next one names."""
    import msgspec

    return {**msgspec.to_builtins(entry), "hash": entry.hash}


def after_promotion(promotion: Promotion, order: tuple[str, ...], stage: str) -> str:
    """Return what people usually do once a version is in *stage*."""
    version = promotion.version
    assert version is not None
    behind = order[order.index(stage) + 1 :]
    if behind:
        return f"cloudreg promote {version.model}@{stage} --to {behind[0]}"
    return f"cloudreg status {version.model}"


def _text(promotion: Promotion, urls: Mapping[str, str | None], *, shown: bool) -> Iterator[str]:
    if not shown and not promotion.plan.empty:
        yield from plan_lines(promotion.plan)
        yield ""
    version = promotion.version
    if version is not None:
        stage = promotion.plan.request["to"]
        if promotion.changed:
            yield f"{version.ref} is in {stage} now"
        else:
            yield f"{version.ref} is in {stage} already: nothing had to change"
    elif promotion.changed:
        yield "done"
    elif not shown:
        yield "nothing had to change"
    for name, live in promotion.endpoints.items():
        url = urls[name]
        yield f"endpoint {name} on {live.target} serves{f' at {url}' if url else ''}"


def _behind(promotion: Promotion) -> Iterator[str]:
    for stage, targets in promotion.behind.items():
        for target, why in targets.items():
            yield f"!! {target} is behind in {stage}: {why}"


def _repair(promotion: Promotion) -> str:
    if not promotion.behind:
        return ""
    model = promotion.version.model if promotion.version else promotion.plan.request.get("model")
    return f"cloudreg repair {model}" if model else "cloudreg status"


def _version(promotion: Promotion) -> dict[str, Any] | None:
    version = promotion.version
    if version is None:
        return None
    return {
        "model": version.model,
        "number": version.number,
        "ref": version.ref,
        "digest": version.digest,
    }


def _url(live: LiveEndpoint) -> str | None:
    try:
        return live.url
    except CloudregError:
        # The change is made and recorded; an address is a courtesy and must not make it a failure.
        return None
