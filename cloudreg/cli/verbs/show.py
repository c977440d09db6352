"""``cloudreg show``: everything that is known of one version."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from cloudreg.cli.arguments import UsageError
from cloudreg.cli.desk import Answer
from cloudreg.cli.words import facts, native_lines, number, plain, shown, size, table, when
from cloudreg.names import short

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk
    from cloudreg.ledger import VersionSummary
    from cloudreg.types import ModelVersion


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("ref", metavar="REF", help="churn:7, churn@prod or churn@sha256:…")
    parser.add_argument(
        "--native", action="store_true", help="what a target's own registry answers, untranslated"
    )
    parser.add_argument("--target", metavar="NAME", help="with --native: whose; the home without")


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Show the manifest, and what the ledger says of the version."""
    workspace = desk.workspace
    if options.native:
        there = workspace.published(options.ref, target=options.target)
        answered = plain(there.native())
        return Answer(
            facts={"ref": there.version.ref, "target": there.target, "native": answered},
            text=native_lines(answered),
        )
    if options.target is not None:
        raise UsageError("--target says whose answer --native shows", hint="add --native")
    version = workspace.version(options.ref)
    # By its number: a stage may move between two looks.
    summary = workspace.summary(version.ref)
    held = workspace.fold(version.model).stages
    stages = [stage for stage, holder in held.items() if holder.number == summary.number]
    return Answer(
        facts={
            "ref": version.ref,
            "version": version,
            "stages": stages,
            "held": summary.held,
            "approvals": summary.approvals,
            "waivers": summary.waivers,
            "seals": summary.seals,
            "size": version.manifest.size,
        },
        text=_text(version, summary, stages, today=workspace.registry.today(version.model)),
        next=f"cloudreg card {version.ref}",
    )


def _text(
    version: ModelVersion, summary: VersionSummary, stages: list[str], *, today: str
) -> Iterator[str]:
    manifest = version.manifest
    yield version.ref
    approvals = ", ".join(f"{stage} by {' and '.join(p)}" for stage, p in summary.approvals.items())
    yield from facts(
        [
            ("digest", version.digest),
            ("registered", f"{when(version.created_at)} by {version.author}"),
            ("stages", ", ".join(stages) or "none"),
            ("has held", ", ".join(summary.held)),
            ("approved for", approvals),
            *(("waived", f"{w}{'' if w.counts(today) else ' (ended)'}") for w in summary.waivers),
            *(("signed", f"{when(seal.at)} with {seal}") for seal in summary.seals),
            *((f"label {key}", value) for key, value in manifest.labels.items()),
        ]
    )
    signature, runtime = manifest.signature, manifest.runtime
    if signature is not None:
        yield from _section("signature", [
            *(("in", tensor) for tensor in signature.inputs),
            *(("out", tensor) for tensor in signature.outputs),
        ])  # fmt: skip
    if runtime is not None:
        yield from _section("runtime", [
            ("kind", runtime.kind),
            ("entrypoint", runtime.entrypoint),
            ("arguments", shown(dict(runtime.arguments)) if runtime.arguments else ""),
            ("weights", runtime.weights),
            ("image", runtime.image),
        ])  # fmt: skip
    yield from _section("metrics", ((k, number(v)) for k, v in manifest.metrics.items()))
    yield from _section("lineage", _lineage(version))
    yield from _section("card", (
        (name.replace("_", " "), " ".join(str(getattr(manifest.card, name)).split()))
        for name in manifest.card.__dataclass_fields__
    ))  # fmt: skip
    yield ""
    rows = [(file.path, size(file.size), short(f"sha256:{file.sha256}")) for file in manifest.files]
    yield from table(("FILE", "SIZE", "DIGEST"), rows)


def _lineage(version: ModelVersion) -> Iterator[tuple[str, Any]]:
    lineage = version.manifest.lineage
    commit = lineage.git_commit
    if commit and lineage.git_dirty:
        commit += " and changes that were not committed"
    yield "git commit", commit
    yield "git remote", lineage.git_remote
    yield "data", lineage.data_digest
    environment = lineage.environment_digest
    yield "environment", f"{environment} ({lineage.environment})" if environment else None
    yield "seed", lineage.seed
    yield "source", lineage.source
    for name, value in lineage.parameters.items():
        yield f"parameter {name}", shown(value)


def _section(title: str, rows: Iterable[tuple[str, object]]) -> Iterator[str]:
    lines = list(facts(rows))
    if lines:
        yield ""
        yield title
        yield from lines
