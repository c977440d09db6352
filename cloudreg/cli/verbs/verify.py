"""``cloudreg verify``: the bytes are those that were registered, and these people signed them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cloudreg.cli.arguments import UsageError
from cloudreg.cli.desk import Answer
from cloudreg.cli.words import table, when

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk
    from cloudreg.seals import Proof
    from cloudreg.types import ModelVersion

UNSIGNED = 4
BROKEN = 1


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("ref", metavar="REF", help="churn:7, churn@prod or churn@sha256:…")
    parser.add_argument(
        "--key", metavar="FILE", help="a public key, in place of those that are configured"
    )
    parser.add_argument("--target", metavar="NAME", help="where it is looked at; the home without")
    parser.add_argument(
        "--bundle", metavar="FILE", help="a signature from elsewhere, in place of those recorded"
    )


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Read every byte, verify every signature, and say what holds."""
    if options.bundle is not None and options.key is None:
        raise UsageError("--bundle needs --key: whose signature it should be")
    workspace = desk.workspace
    version = workspace.check_bytes(options.ref, target=options.target)
    if options.bundle is not None:
        return _foreign(version, Path(options.bundle), Path(options.key))
    proofs = workspace.signatures(version, target=options.target, key=options.key)
    known = [proof for proof in proofs if proof.name is not None or options.key is not None]
    code = UNSIGNED
    if any(not proof.holds for proof in known):
        code = BROKEN
    elif known:
        code = 0
    return Answer(
        facts={
            "ref": version.ref,
            "digest": version.digest,
            "signatures": [
                {"seal": p.seal, "name": p.name, "holds": p.holds, "problem": p.problem}
                for p in proofs
            ],
        },
        text=_text(version, proofs, code),
        next=f"cloudreg sign {version.ref} --key FILE" if code else "",
        exit_code=code,
    )


def _foreign(version: ModelVersion, bundle: Path, key: Path) -> Answer:
    from cloudreg.errors import IntegrityError, InvalidRequest
    from cloudreg.signing import PublicKey, verify

    public = PublicKey.read(key)
    try:
        data = bundle.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{bundle} cannot be read: {error.strerror}") from error
    try:
        signed = verify(data, public, files=version.manifest.files, digest=version.digest)
    except IntegrityError as error:
        raise IntegrityError(
            f"{bundle.name} is no signature of {version.ref}: {error.message}"
        ) from error
    whole = "the version" if signed.version is not None else "its files, and nothing beside them"
    return Answer(
        facts={"ref": version.ref, "key": signed.key, "version": signed.version, "holds": True},
        text=[f"{bundle.name} signs {version.ref}: {whole} (key {signed.key[:12]})"],
    )


def _text(version: ModelVersion, proofs: Sequence[Proof], code: int) -> Iterator[str]:
    yield f"{version.ref} has the bytes that were registered ({version.digest})"
    yield {
        0: "every signature by a known key holds",
        UNSIGNED: "nobody who is known here signed it",
        BROKEN: "a signature does not hold",
    }[code]
    if proofs:
        rows = [
            (p.name, p.seal.key[:12], p.seal.by, when(p.seal.at), p.problem or "holds")
            for p in proofs
        ]
        yield ""
        yield from table(("NAME", "KEY", "BY", "WHEN", ""), rows)
