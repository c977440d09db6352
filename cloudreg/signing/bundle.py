"""What is signed of a version, and the file that carries the signature.

The statement lists every file with its sha256, and beside that, in a field that other verifiers
pass over, the version's own digest: so the signature also covers what the files do not say, such
as the runtime, the lineage and the metrics.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NoReturn

from cloudreg.errors import IntegrityError
from cloudreg.manifest import FileEntry
from cloudreg.names import canonical_json
from cloudreg.signing.keys import PublicKey, SigningKey
from cloudreg.types import ModelVersion

# The constants are the reference's own:
# https://github.com/sigstore/model-transparency/tree/main/src/model_signing/_signing
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"

BUNDLE_FILE = "model.sig"
"""What a signature is called beside the files that it covers."""

OURS = "cloudreg"
"""The predicate's field that names the version."""

KEPT_OUT = (".cloudreg", BUNDLE_FILE)
"""What cloudreg adds to a downloaded folder."""

GIT = (".git", ".gitattributes", ".github", ".gitignore")
"""What the reference leaves out of a folder, whatever was signed, unless it is told otherwise."""

MAX_BUNDLE = 128 * 1024 * 1024
"""Bytes of the largest bundle that is read: as many files as a version may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """What a bundle, once verified, says.

    Attributes:
        key: Id of the key that signed.
        version: Digest of the version that was signed; None where only its files were.
    """

    key: str
    version: str | None


def make(version: ModelVersion, key: SigningKey) -> bytes:
    """Return the bundle of *version*, signed with *key*: JSON in UTF-8."""
    payload = canonical_json(_statement(version))
    envelope = {
        "payload": _b64(payload),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"sig": _b64(key.sign(_pae(payload))), "keyid": ""}],
    }
    material = {"publicKey": {"hint": key.public.id}, "tlogEntries": []}
    return canonical_json(
        {"mediaType": MEDIA_TYPE, "verificationMaterial": material, "dsseEnvelope": envelope}
    )


def verify(
    bundle: bytes, key: PublicKey, *, files: Sequence[FileEntry], digest: str | None = None
) -> Signed:
    """Return what *bundle* says, if it was signed with *key* and covers exactly *files*.

    Args:
        bundle: As it was stored.
        key: Whose signature is wanted.
        files: All files that there are.
        digest: The version that must be the one that was signed, where the bundle names one.

    Raises:
        IntegrityError: The bundle was edited, is another key's or another version's, or lists
            other files; the message says what is wrong.
    """
    payload, signature = _opened(bundle, key)
    key.check(signature, _pae(payload))
    statement = _object(_json(payload, "the signed statement"), "the signed statement")
    named = _check_statement(statement)
    _check_files(_object(statement.get("predicate"), "the predicate"), files, is_named=bool(named))
    if named is not None and digest is not None and named != digest:
        raise IntegrityError(f"it was signed for the version {named}, and this is {digest}")
    return Signed(key=key.id, version=named)


def key_id(bundle: bytes) -> str:
    """Return the key that a bundle says it was signed with; nothing is verified.

    Raises:
        IntegrityError: It is no bundle of a key.
    """
    material = _object(_document(bundle).get("verificationMaterial"), "the verification material")
    public = material.get("publicKey")
    if not isinstance(public, dict):
        raise IntegrityError(
            "it was not signed with a key: certificates and Sigstore's identities are not verified"
        )
    hint = public.get("hint")
    if not isinstance(hint, str) or not hint:
        raise IntegrityError("it does not name its key")
    return hint


def _opened(bundle: bytes, key: PublicKey) -> tuple[bytes, bytes]:
    """Return the payload and its signature, if the bundle is one of *key*."""
    document = _document(bundle)
    hint = key_id(bundle)
    if hint != key.id:
        raise IntegrityError(f"it was signed with the key {hint[:12]}, wanted is {key.id[:12]}")
    envelope = _object(document.get("dsseEnvelope"), "the envelope")
    if envelope.get("payloadType") != PAYLOAD_TYPE:
        raise IntegrityError(f"the payload is {envelope.get('payloadType')!r}")
    signatures = envelope.get("signatures")
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise IntegrityError("the envelope holds not one signature")
    found = _object(signatures[0], "the signature").get("sig")
    return _bytes(envelope.get("payload"), "the payload"), _bytes(found, "the signature")


def _document(bundle: bytes) -> dict[str, Any]:
    if len(bundle) > MAX_BUNDLE:
        raise IntegrityError("the bundle is too large")
    document = _object(_json(bundle, "the bundle"), "the bundle")
    if document.get("mediaType") != MEDIA_TYPE:
        raise IntegrityError(f"the bundle's media type is {document.get('mediaType')!r}")
    return document


def _check_statement(statement: Mapping[str, Any]) -> str | None:
    """Return the version that the statement names, if it is one about a model."""
    if statement.get("_type") != STATEMENT_TYPE:
        raise IntegrityError(f"the statement's type is {statement.get('_type')!r}")
    if statement.get("predicateType") != PREDICATE_TYPE:
        raise IntegrityError(f"the predicate's type is {statement.get('predicateType')!r}")
    predicate = _object(statement.get("predicate"), "the predicate")
    digests = hashlib.sha256()
    for name, digest in _resources(predicate):
        del name
        digests.update(bytes.fromhex(digest))
    subjects = statement.get("subject")
    if not isinstance(subjects, list) or len(subjects) != 1:
        raise IntegrityError("the statement has not one subject")
    root = _object(_object(subjects[0], "the subject").get("digest"), "the subject's digest")
    if root.get("sha256") != digests.hexdigest():
        raise IntegrityError("the subject's digest is not that of the files that are listed")
    if OURS not in predicate:
        return None
    named = _object(predicate[OURS], "the version").get("digest")
    if not isinstance(named, str):
        raise IntegrityError("the version that was signed is not named")
    return named


def _check_files(
    predicate: Mapping[str, Any], files: Sequence[FileEntry], *, is_named: bool
) -> None:
    """Compare what was signed with what there is."""
    how = _object(predicate.get("serialization"), "the serialization")
    if how.get("method") != "files" or how.get("hash_type") != "sha256":
        raise IntegrityError(
            f"it was signed by {how.get('method')} with {how.get('hash_type')}: only whole files "
            "with sha256 can be compared with what was registered"
        )
    ignored = how.get("ignore_paths", [])
    if not isinstance(ignored, list) or not all(isinstance(path, str) for path in ignored):
        raise IntegrityError("the paths that it leaves out are no list of paths")
    signed = dict(_resources(predicate))
    there = {file.path: file.sha256 for file in files}
    for path, digest in signed.items():
        if path not in there:
            raise IntegrityError(f"{path} was signed, and is missing")
        if there[path] != digest:
            raise IntegrityError(f"{path} has other bytes than were signed")
    for path in there.keys() - signed.keys():
        # Where the version's digest was signed, the manifest covers what the list leaves out.
        if not (is_named and _is_below(path, ignored)):
            raise IntegrityError(f"{path} was not signed")


def _resources(predicate: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return path and digest of what was signed, in the statement's order."""
    listed = predicate.get("resources")
    if not isinstance(listed, list):
        raise IntegrityError("the statement lists no files")
    found: dict[str, str] = {}
    for item in listed:
        resource = _object(item, "a resource")
        name, digest = resource.get("name"), resource.get("digest")
        if not isinstance(name, str) or name in found:
            raise IntegrityError(f"the statement lists {name!r} twice, or without a name")
        if resource.get("algorithm") != "sha256" or not _is_sha256(digest):
            raise IntegrityError(f"{name} was not signed by its sha256")
        found[name] = str(digest)
    return list(found.items())


def _statement(version: ModelVersion) -> dict[str, Any]:
    paths = {file.path for file in version.manifest.files}
    left_out = [*KEPT_OUT, *GIT]
    # A file of the version's own that has such a name is no addition, and is signed.
    if BUNDLE_FILE in paths:
        left_out.remove(BUNDLE_FILE)
    files = sorted(
        (f for f in version.manifest.files if not _is_below(f.path, left_out)),
        key=lambda file: PurePosixPath(file.path),
    )
    root = hashlib.sha256(b"".join(bytes.fromhex(file.sha256) for file in files)).hexdigest()
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": version.model, "digest": {"sha256": root}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": left_out,
            },
            "resources": [
                {"name": file.path, "algorithm": "sha256", "digest": file.sha256} for file in files
            ],
            OURS: {"model": version.model, "digest": version.digest},
        },
    }


def _is_below(path: str, places: Sequence[str]) -> bool:
    return any(PurePosixPath(path).is_relative_to(place) for place in places)


def _pae(payload: bytes) -> bytes:
    """Return what is really signed: https://github.com/secure-systems-lab/dsse."""
    head = f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(payload)} "
    return head.encode() + payload


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(text: object, what: str) -> bytes:
    try:
        return base64.b64decode(text if isinstance(text, str) else "?", validate=True)
    except (ValueError, binascii.Error) as error:
        raise IntegrityError(f"{what} is no base64") from error


def _json(data: bytes, what: str) -> Any:
    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is no JSON")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # Two readers could take one key of a pair each, and see two documents.
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key stands twice")
        return found

    try:
        return json.loads(data.decode(), parse_constant=refuse, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{what} is no JSON: {error}") from error


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise IntegrityError(f"{what} is missing, or no object")
    return value


def _is_sha256(text: object) -> bool:
    return isinstance(text, str) and len(text) == 64 and set(text) <= set("0123456789abcdef")
