"""What is signed, and that nothing else is taken for it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cloudreg.errors import IntegrityError
from cloudreg.signing import SigningKey, make, verify
from cloudreg.signing.bundle import MAX_BUNDLE, _pae, key_id
from cloudreg.types import Manifest, ModelVersion

FILES = {"code/net.py": b"import torch", "code.txt": b"read me", "weights.safetensors": b"0" * 99}


class Forge:
    """A signed version, and the ways to tamper with it."""

    def __init__(self, version: ModelVersion, key: SigningKey, stranger: SigningKey) -> None:
        self.version, self.key, self.stranger = version, key, stranger
        self.public = key.public
        self.files = list(version.manifest.files)
        self.digest = version.digest
        self.bundle: Any = json.loads(make(version, key))
        self.statement: Any = json.loads(base64.b64decode(self.bundle["dsseEnvelope"]["payload"]))
        self.raw: bytes | None = None

    @property
    def envelope(self) -> Any:
        return self.bundle["dsseEnvelope"]

    @property
    def predicate(self) -> Any:
        return self.statement["predicate"]

    def edit(self) -> None:
        """Put the statement as it is now under the signature of before."""
        self.envelope["payload"] = base64.b64encode(json.dumps(self.statement).encode()).decode()

    def resign(self, key: SigningKey | None = None) -> None:
        """Let a key sign the statement as it is now, and say that the release key did."""
        payload = json.dumps(self.statement).encode()
        self.edit()
        signature = (key or self.key).sign(_pae(payload))
        self.envelope["signatures"] = [{"sig": base64.b64encode(signature).decode(), "keyid": ""}]

    def verify(self) -> None:
        data = self.raw if self.raw is not None else json.dumps(self.bundle).encode()
        verify(data, self.public, files=self.files, digest=self.digest)


Tamper = Callable[[Forge], object]


def byte_of_the_signature(f: Forge) -> None:
    der = bytearray(base64.b64decode(f.envelope["signatures"][0]["sig"]))
    der[-1] ^= 1
    f.envelope["signatures"][0]["sig"] = base64.b64encode(bytes(der)).decode()


def byte_of_the_payload(f: Forge) -> None:
    payload = base64.b64decode(f.envelope["payload"]).replace(b'"churn"', b'"chorn"', 1)
    f.envelope["payload"] = base64.b64encode(payload).decode()


def doubled_key(f: Forge) -> None:
    text = json.dumps(f.bundle)
    f.raw = (text[:-1] + ', "dsseEnvelope": {}}').encode()


def doubled_key_in_the_statement(f: Forge) -> None:
    payload = (json.dumps(f.statement)[:-1] + ', "_type": "x"}').encode()
    f.envelope["payload"] = base64.b64encode(payload).decode()
    signature = base64.b64encode(f.key.sign(_pae(payload))).decode()
    f.envelope["signatures"][0]["sig"] = signature


def other_bytes(f: Forge) -> None:
    f.files[0] = type(f.files[0])(path=f.files[0].path, size=3, sha256="a" * 64)


def swapped(f: Forge) -> None:
    a, b = f.files[:2]
    f.files[:2] = [
        type(a)(path=a.path, size=b.size, sha256=b.sha256),
        type(a)(path=b.path, size=a.size, sha256=a.sha256),
    ]


def renamed(f: Forge) -> None:
    last = f.files.pop()
    f.files.append(type(last)(path="zoo.safetensors", size=last.size, sha256=last.sha256))


def one_more(f: Forge) -> None:
    f.files.append(type(f.files[0])(path="zoo.py", size=1, sha256="b" * 64))


def one_more_that_is_left_out(f: Forge) -> None:
    # The list says that nobody looks at it, and a foreign bundle names no version.
    del f.predicate["cloudreg"]
    f.resign()
    f.files.append(type(f.files[0])(path=".git/hooks/x", size=1, sha256="b" * 64))


def other_description(f: Forge) -> None:
    # The same files, and another runtime: another version, whoever signed the files.
    f.digest = Manifest(files=tuple(f.files), labels={"a": "b"}).digest


def set_in(f: Forge, part: Any, key: Any, value: Any, *, resign: bool = True) -> None:
    part[key] = value
    if resign:
        f.resign()


TAMPERED: dict[str, tuple[Tamper, str]] = {
    "a byte of the signature": (byte_of_the_signature, "does not fit the key"),
    "a byte of the payload": (byte_of_the_payload, "does not fit the key"),
    "the payload without its signature": (
        lambda f: (f.statement.update(subject=[]), f.edit()),
        "does not fit the key",
    ),
    "no signature": (lambda f: f.envelope.update(signatures=[]), "not one signature"),
    "two signatures": (
        lambda f: f.envelope["signatures"].append(f.envelope["signatures"][0]),
        "not one signature",
    ),
    "an empty signature": (
        lambda f: f.envelope["signatures"][0].update(sig=""),
        "does not fit the key",
    ),
    "a signature that is no base64": (
        lambda f: f.envelope["signatures"][0].update(sig="AA=A!"),
        "no base64",
    ),
    "a signature that is no text": (
        lambda f: f.envelope["signatures"][0].update(sig=17),
        "no base64",
    ),
    "a payload that is no base64": (lambda f: f.envelope.update(payload="%%"), "no base64"),
    "no envelope": (lambda f: f.bundle.pop("dsseEnvelope"), "envelope is missing"),
    "another payload type": (
        lambda f: f.envelope.update(payloadType="application/json"),
        "payload is 'application/json'",
    ),
    "another media type": (
        lambda f: f.bundle.update(mediaType="application/vnd.dev.sigstore.bundle.v0.2+json"),
        "media type",
    ),
    "a key that stands twice": (doubled_key, "stands twice"),
    "a key that stands twice in the statement": (doubled_key_in_the_statement, "stands twice"),
    "no JSON": (lambda f: setattr(f, "raw", b"{"), "no JSON"),
    "no UTF-8": (lambda f: setattr(f, "raw", b"\xff\xfe{}"), "no JSON"),
    "no object": (lambda f: setattr(f, "raw", b"[]"), "no object"),
    "brackets without end": (lambda f: setattr(f, "raw", b"[" * 100_000), "no JSON"),
    "a file of another kind, and too large": (
        lambda f: setattr(f, "raw", b" " * (MAX_BUNDLE + 1)),
        "too large",
    ),
    "a stranger's signature": (lambda f: f.resign(f.stranger), "does not fit the key"),
    "a stranger's bundle": (
        lambda f: setattr(f, "raw", make(f.version, f.stranger)),
        "was signed with the key",
    ),
    "another public key": (
        lambda f: setattr(f, "public", f.stranger.public),
        "was signed with the key",
    ),
    "a certificate in place of a key": (
        lambda f: f.bundle.update(verificationMaterial={"certificate": {"rawBytes": "AA=="}}),
        "not signed with a key",
    ),
    "no name of the key": (
        lambda f: f.bundle.update(verificationMaterial={"publicKey": {}}),
        "does not name its key",
    ),
    "no verification material": (
        lambda f: f.bundle.pop("verificationMaterial"),
        "material is missing",
    ),
    "another statement's type": (
        lambda f: set_in(f, f.statement, "_type", "https://in-toto.io/Statement/v0.1"),
        "statement's type",
    ),
    "another predicate's type": (
        lambda f: set_in(f, f.statement, "predicateType", "https://slsa.dev/provenance/v1"),
        "predicate's type",
    ),
    "no predicate": (lambda f: set_in(f, f.statement, "predicate", None), "predicate is missing"),
    "no subject": (lambda f: set_in(f, f.statement, "subject", []), "not one subject"),
    "another subject": (
        lambda f: set_in(f, f.statement["subject"][0], "digest", {"sha256": "0" * 64}),
        "not that of the files",
    ),
    "a file that is listed twice": (
        lambda f: (f.predicate["resources"].append(f.predicate["resources"][0]), f.resign()),
        "twice",
    ),
    "a file less in the list": (
        lambda f: (f.predicate["resources"].pop(), f.resign()),
        "not that of the files",
    ),
    "files in another order": (
        lambda f: (f.predicate["resources"].reverse(), f.resign()),
        "not that of the files",
    ),
    "another digest in the list": (
        lambda f: set_in(f, f.predicate["resources"][0], "digest", "0" * 64),
        "not that of the files",
    ),
    "a digest that is none": (
        lambda f: set_in(f, f.predicate["resources"][0], "digest", "x" * 64),
        "by its sha256",
    ),
    "another algorithm for a file": (
        lambda f: set_in(f, f.predicate["resources"][0], "algorithm", "md5"),
        "by its sha256",
    ),
    "shards in place of files": (
        lambda f: set_in(f, f.predicate["serialization"], "method", "shards"),
        "only whole files",
    ),
    "another algorithm": (
        lambda f: set_in(f, f.predicate["serialization"], "hash_type", "blake2"),
        "only whole files",
    ),
    "paths left out that are none": (
        lambda f: set_in(f, f.predicate["serialization"], "ignore_paths", "code"),
        "no list of paths",
    ),
    "a version that is no digest": (
        lambda f: set_in(f, f.predicate, "cloudreg", {"digest": 7}),
        "is not named",
    ),
    "another version": (
        lambda f: set_in(f, f.predicate, "cloudreg", {"digest": "sha256:" + "0" * 64}),
        "was signed for the version",
    ),
    "another description of the same files": (other_description, "was signed for the version"),
    "other bytes in a file": (other_bytes, "other bytes than were signed"),
    "two files that changed places": (swapped, "other bytes than were signed"),
    "a file that is gone": (lambda f: f.files.pop(), "is missing"),
    "a file with another name": (renamed, "is missing"),
    "one file more": (one_more, "zoo.py was not signed"),
    "one file more where nobody looks": (one_more_that_is_left_out, "was not signed"),
}


@pytest.fixture
def forge(make_version: Any, key: SigningKey, stranger: SigningKey) -> Forge:
    return Forge(make_version(FILES), key, stranger)


@pytest.mark.parametrize("name", TAMPERED)
def test_tampered(name: str, forge: Forge) -> None:
    """Whatever is changed of a bundle, its files or its key is refused, and named."""
    forge.verify()
    tamper, reason = TAMPERED[name]
    tamper(forge)

    with pytest.raises(IntegrityError, match=reason):
        forge.verify()


@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1])
def test_curves(curve: Any, make_version: Any) -> None:
    """A key of each curve of the format signs, and verifies."""
    key, version = SigningKey(ec.generate_private_key(curve())), make_version(FILES)
    bundle = make(version, key)

    signed = verify(bundle, key.public, files=version.manifest.files, digest=version.digest)

    assert (signed.key, signed.version) == (key.public.id, version.digest)
    assert key_id(bundle) == key.public.id


def test_what_the_reference_leaves_out(make_version: Any, key: SigningKey) -> None:
    """Files that the reference never looks at are covered by the version's digest instead."""
    version = make_version({**FILES, ".gitattributes": b"*.bin", ".git/config": b""})
    bundle = make(version, key)
    payload = json.loads(base64.b64decode(json.loads(bundle)["dsseEnvelope"]["payload"]))

    verify(bundle, key.public, files=version.manifest.files, digest=version.digest)

    names = [resource["name"] for resource in payload["predicate"]["resources"]]
    assert names == ["code/net.py", "code.txt", "weights.safetensors"]
    assert {".git", ".gitattributes"} <= set(payload["predicate"]["serialization"]["ignore_paths"])


def test_a_signature_of_the_files_own(make_version: Any, key: SigningKey) -> None:
    """A file that is called like a signature is a file of the version, and is signed."""
    version = make_version({**FILES, "model.sig": b"upstream's own"})
    bundle = make(version, key)
    payload = json.loads(base64.b64decode(json.loads(bundle)["dsseEnvelope"]["payload"]))

    verify(bundle, key.public, files=version.manifest.files, digest=version.digest)

    names = [resource["name"] for resource in payload["predicate"]["resources"]]
    assert "model.sig" in names
    assert "model.sig" not in payload["predicate"]["serialization"]["ignore_paths"]
