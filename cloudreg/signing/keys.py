"""Elliptic-curve keys from PEM files.

A private key is read from its file, signs, and is forgotten with its object: it is never part of
settings, of a noun, of an error or of the ledger.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from cloudreg.errors import IntegrityError, InvalidRequest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

MAX_PEM = 64 * 1024
"""Bytes of the largest key file that is read."""

PUBLIC_LABEL = b"-----BEGIN PUBLIC KEY-----"

CURVES = ("secp256r1", "secp384r1", "secp521r1")
"""Those of the format, P-256, P-384 and P-521:
https://github.com/sigstore/model-transparency/blob/main/src/model_signing/_signing/sign_ec_key.py"""

NEW_KEY = "openssl ecparam -name prime256v1 -genkey -noout -out release.key"


class PublicKey:
    """The half of a key that verifies.

    Attributes:
        id: sha256 of the key's PEM, 64 hexadecimal digits: what a bundle calls it.
    """

    def __init__(self, key: ec.EllipticCurvePublicKey) -> None:
        """Use a key of one of the `CURVES`.

        Raises:
            InvalidRequest: It is of another curve.
        """
        from cryptography.hazmat.primitives import serialization

        if key.curve.name not in CURVES:
            raise InvalidRequest(
                f"a key on the curve {key.curve.name}: model signing takes P-256, P-384 and P-521",
                hint=NEW_KEY,
            )
        self._key = key
        self.pem = key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.id = hashlib.sha256(self.pem).hexdigest()

    @classmethod
    def read(cls, path: Path) -> PublicKey:
        """Read the public half of a key pair.

        Raises:
            InvalidRequest: No such file, a private key, or no key that signs models.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        data = public_pem(path)
        try:
            key = serialization.load_pem_public_key(data)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise InvalidRequest(f"{path.name} holds no public key in PEM") from error
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise InvalidRequest(
                f"{path.name} is no elliptic-curve key, and models are signed with one",
                hint=NEW_KEY,
            )
        return cls(key)

    def check(self, signature: bytes, message: bytes) -> None:
        """Return if *signature* of *message* was made with the other half.

        Raises:
            IntegrityError: It was not.
        """
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import ec

        try:
            self._key.verify(signature, message, ec.ECDSA(_hash(self._key.curve)))
        except InvalidSignature as error:
            raise IntegrityError(f"the signature does not fit the key {self.id[:12]}") from error


class SigningKey:
    """The half of a key that signs.

    Attributes:
        public: The half that verifies.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        """Use a key of one of the `CURVES`."""
        self._key = key
        self.public = PublicKey(key.public_key())

    def __repr__(self) -> str:
        """Say which key it is, and nothing of what is secret."""
        return f"<SigningKey {self.public.id[:12]}>"

    @classmethod
    def read(cls, path: Path, *, passphrase: str | None = None) -> SigningKey:
        """Read a private key.

        Args:
            path: Its PEM file.
            passphrase: Where the file is encrypted.

        Raises:
            InvalidRequest: No such file, no key that signs models, or a passphrase that does not
                open it. Nothing that the file holds is part of the message.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        data = _pem(path)
        secret = passphrase.encode() if passphrase is not None else None
        problem = key = None
        try:
            key = serialization.load_pem_private_key(data, secret)
        except TypeError:
            problem = (
                f"the key in {path.name} is encrypted, and no passphrase was given"
                if secret is None
                else f"the key in {path.name} is not encrypted, and a passphrase was given"
            )
        except (ValueError, UnsupportedAlgorithm):
            problem = f"{path.name} holds no private key in PEM"
            if secret is not None:
                problem += ", or the passphrase does not open it"
        if problem is not None:
            # Outside of the handler: what the library says of a secret is nobody's business.
            raise InvalidRequest(
                problem,
                hint="--passphrase-env NAME, of a variable that holds it"
                if "no passphrase" in problem
                else None,
            )
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise InvalidRequest(
                f"{path.name} is no elliptic-curve key, and models are signed with one",
                hint=NEW_KEY,
            )
        return cls(key)

    def sign(self, message: bytes) -> bytes:
        """Return the signature of *message*, in DER."""
        from cryptography.hazmat.primitives.asymmetric import ec

        return self._key.sign(message, ec.ECDSA(_hash(self._key.curve)))


def public_pem(path: Path) -> bytes:
    """Return what *path* holds, if it looks like a public key; nothing heavy is imported.

    Raises:
        InvalidRequest: No such file, a private key, or something else.
    """
    data = _pem(path)
    if b"PRIVATE KEY-----" in data:
        raise InvalidRequest(
            f"{path.name} is a private key: only its public half belongs here",
            hint=f"openssl ec -in {path.name} -pubout -out {path.stem}.pub",
        )
    if not data.lstrip().startswith(PUBLIC_LABEL):
        raise InvalidRequest(f"{path.name} holds no public key in PEM")
    return data


def _pem(path: Path) -> bytes:
    try:
        with path.open("rb") as reader:
            data = reader.read(MAX_PEM + 1)
    except FileNotFoundError as error:
        raise InvalidRequest(f"there is no key file {path}") from error
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_PEM:
        raise InvalidRequest(f"{path.name} is too large for a key")
    return data


def _hash(curve: ec.EllipticCurve) -> HashAlgorithm:
    """Return what the format hashes with for a curve."""
    from cryptography.hazmat.primitives import hashes

    match curve.key_size:
        case 256:
            return hashes.SHA256()
        case 384:
            return hashes.SHA384()
        case _:
            return hashes.SHA512()
