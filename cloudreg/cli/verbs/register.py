"""``cloudreg register``: a folder of files becomes a version."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloudreg.cli.arguments import json_or_text, pairs
from cloudreg.cli.desk import Answer
from cloudreg.cli.verbs.sign import key_arguments, signing_key
from cloudreg.cli.words import count, facts, metrics, size

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk
    from cloudreg.ledger import Seal
    from cloudreg.registry import Registration


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("model", metavar="MODEL", help="made by its first version")
    parser.add_argument("path", metavar="PATH", help="a folder, an archive of one, or one file")
    for option, what in (
        ("metric", "an offline metric: a finite number"),
        ("param", "a hyperparameter: JSON, or else text"),
        ("label", "short free text"),
    ):
        parser.add_argument(
            f"--{option}", action="append", default=[], metavar="KEY=VALUE", help=what
        )
    parser.add_argument("--seed", type=int, metavar="N", help="of the random generators")
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="PATH",
        help="training data, of which a digest is recorded",
    )
    parser.add_argument("--card", metavar="FILE.toml", help="the model card")
    key_arguments(parser, "--sign-key", required=False)


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Register, and say what was sent."""
    from cloudreg.importers import Description
    from cloudreg.manifest import check_metric
    from cloudreg.names import check_model

    # Whatever can be refused without a look at the files is.
    check_model(options.model)
    measured = pairs(options.metric, "--metric", float)
    for name, value in measured.items():
        check_metric(name, value)
    parameters = pairs(options.param, "--param", json_or_text)
    labels = pairs(options.label, "--label")
    card = None
    if options.card is not None:
        from cloudreg.importers.directory import read_card

        card = read_card(Path(options.card))
    # Before anything is stored: a key that cannot be read must not leave a version unsigned.
    key = signing_key(options.sign_key, options.passphrase_env) if options.sign_key else None
    workspace = desk.workspace
    done = workspace.registration(
        options.model,
        Path(options.path),
        Description(
            metrics=measured,
            card=card,
            labels=labels,
            lineage=workspace.lineage(data=options.data, seed=options.seed, parameters=parameters),
        ),
    )
    seal = workspace.sign(done.version, key=key) if key is not None else None
    order = workspace.settings.order
    step = (
        f"cloudreg promote {done.version.ref} --to {order[1]}"
        if len(order) > 1
        else f"cloudreg show {done.version.ref}"
    )
    return Answer(facts=_facts(done, seal), text=_text(done, order[0], seal), next=step)


def _facts(done: Registration, seal: Seal | None) -> dict[str, Any]:
    version = done.version
    return {
        "model": version.model,
        "number": version.number,
        "ref": version.ref,
        "digest": version.digest,
        "created": done.created,
        "files": len(version.manifest.files),
        "size": version.manifest.size,
        "sent_bytes": done.sent_bytes,
        "present_bytes": done.present_bytes,
        "seal": seal,
    }


def _text(done: Registration, first: str, seal: Seal | None) -> Iterator[str]:
    version, manifest = done.version, done.version.manifest
    if done.created:
        yield f"registered {version.ref} in {first}"
    else:
        yield f"{version.ref} is known already: the same files, described in the same way"
    sent = (
        f"{size(done.sent_bytes)} sent, {size(done.present_bytes)} there already"
        if done.sent_bytes
        else "nothing was sent, all of it is there already"
    )
    signature = manifest.signature
    yield from facts(
        [
            ("digest", version.digest),
            ("files", f"{count(len(manifest.files), 'file')}, {size(manifest.size)}: {sent}"),
            ("inputs", ", ".join(str(t) for t in signature.inputs) if signature else ""),
            ("outputs", ", ".join(str(t) for t in signature.outputs) if signature else ""),
            ("metrics", metrics(manifest.metrics, limit=8)),
            ("signed", str(seal) if seal is not None else ""),
        ]
    )
