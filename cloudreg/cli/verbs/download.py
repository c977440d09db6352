"""``cloudreg download``: a version's files, every byte checked."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cloudreg.cli.desk import Answer
from cloudreg.cli.words import count, size

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("ref", metavar="REF", help="churn:7, churn@prod or churn@sha256:…")
    parser.add_argument("folder", metavar="FOLDER", help="new or empty")


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Write the files and the manifest, or nothing."""
    version = desk.workspace.version(options.ref)
    # The version, not the reference: a stage may move meanwhile.
    path = desk.workspace.download(f"{version.model}:{version.number}", options.folder)
    files = len(version.manifest.files)
    return Answer(
        facts={
            "ref": version.ref,
            "digest": version.digest,
            "path": str(path),
            "files": files,
            "size": version.manifest.size,
        },
        text=[
            f"{version.ref} is in {path}: {count(files, 'file')}, {size(version.manifest.size)}, "
            "all as they were registered"
        ],
        next=f"cloudreg serve {version.ref}",
    )
