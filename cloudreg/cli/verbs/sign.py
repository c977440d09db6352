"""``cloudreg sign``: somebody vouches for a version with a private key."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from cloudreg.cli.arguments import UsageError
from cloudreg.cli.desk import Answer

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk
    from cloudreg.signing import SigningKey


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("ref", metavar="REF", help="churn:7, churn@staging or churn@sha256:…")
    key_arguments(parser, "--key", required=True)


def key_arguments(parser: argparse.ArgumentParser, option: str, *, required: bool) -> None:
    """Add what names a private key."""
    parser.add_argument(
        option,
        required=required,
        metavar="FILE",
        help="sign with this private key: PEM, P-256, P-384 or P-521; read and forgotten",
    )
    parser.add_argument(
        "--passphrase-env",
        metavar="NAME",
        help="the environment variable that holds the key's passphrase",
    )


def signing_key(file: str, variable: str | None) -> SigningKey:
    """Read a private key.

    Raises:
        UsageError: No such variable.
        InvalidRequest: No such key.
    """
    from cloudreg.signing import SigningKey

    passphrase = None
    if variable is not None:
        # Taken out, so that no process that is started later inherits it.
        passphrase = os.environ.pop(variable, None)
        if passphrase is None:
            raise UsageError(f"--passphrase-env {variable}: there is no such variable")
    return SigningKey.read(Path(file), passphrase=passphrase)


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Sign, and say which key did."""
    key = signing_key(options.key, options.passphrase_env)
    workspace = desk.workspace
    version = workspace.version(options.ref)
    seal, is_new = workspace.signing(version, key=key)
    text = f"{version.ref} is signed with {seal}"
    return Answer(
        facts={"ref": version.ref, "digest": version.digest, "seal": seal, "created": is_new},
        text=[text if is_new else f"{text} already"],
        next=f"cloudreg verify {version.ref}",
    )
