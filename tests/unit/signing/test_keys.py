"""Keys that are read, keys that are refused, and that nothing secret gets out."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from cloudreg.errors import InvalidRequest
from cloudreg.signing import PublicKey, SigningKey

from .conftest import private_pem, public_pem

PASSPHRASE = "correct horse battery staple"


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A folder with a key, in the clear and encrypted, and its public half."""
    key = ec.generate_private_key(ec.SECP384R1())
    (tmp_path / "a.key").write_bytes(private_pem(key))
    (tmp_path / "sealed.key").write_bytes(private_pem(key, passphrase=PASSPHRASE))
    (tmp_path / "a.pub").write_bytes(public_pem(key))
    return tmp_path


def test_read(pair: Path) -> None:
    """Both halves have one id, and so has the encrypted file."""
    public = PublicKey.read(pair / "a.pub")

    assert SigningKey.read(pair / "a.key").public.id == public.id
    assert SigningKey.read(pair / "sealed.key", passphrase=PASSPHRASE).public.id == public.id


@pytest.mark.parametrize(
    ("file", "passphrase", "reason"),
    [
        ("sealed.key", None, "is encrypted, and no passphrase was given"),
        ("sealed.key", "a wrong one", "or the passphrase does not open it"),
        ("a.key", PASSPHRASE, "is not encrypted, and a passphrase was given"),
        ("a.pub", None, "holds no private key"),
        ("none.key", None, "there is no key file"),
    ],
)
def test_refused(file: str, passphrase: str | None, reason: str, pair: Path) -> None:
    """A private key that cannot be read is refused with the reason, and without anything secret."""
    with pytest.raises(InvalidRequest, match=reason) as caught:
        SigningKey.read(pair / file, passphrase=passphrase)

    told = f"{caught.value} {caught.value.to_json()} {caught.value.__cause__!r}"
    secrets = [line for line in (pair / "a.key").read_text().split("\n") if "--" not in line]
    assert all(line not in told for line in secrets if line)
    assert passphrase is None or passphrase not in told


def test_others_keys(tmp_path: Path) -> None:
    """Keys of other kinds and curves are refused, with the command that makes one that will do."""
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    others = [ed25519.Ed25519PrivateKey.generate(), rsa_key]
    others.append(ec.generate_private_key(ec.SECP256K1()))
    for number, key in enumerate(others):
        (tmp_path / f"{number}.key").write_bytes(private_pem(key))
        (tmp_path / f"{number}.pub").write_bytes(public_pem(key))
        for read, path in ((SigningKey.read, "key"), (PublicKey.read, "pub")):
            with pytest.raises(InvalidRequest, match=r"elliptic-curve|curve secp256k1") as caught:
                read(tmp_path / f"{number}.{path}")
            assert "openssl ecparam" in str(caught.value.hint)


def test_a_private_key_is_no_public_one(pair: Path) -> None:
    """Whoever configures the private half is told how to make the public one."""
    with pytest.raises(InvalidRequest, match="only its public half belongs here") as caught:
        PublicKey.read(pair / "a.key")

    assert "-pubout" in str(caught.value.hint)


def test_what_is_no_key(tmp_path: Path) -> None:
    """A file that is no key, or far too large for one, is refused."""
    for content in (b"", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", b"x"):
        (tmp_path / "k").write_bytes(content)
        with pytest.raises(InvalidRequest, match="holds no public key"):
            PublicKey.read(tmp_path / "k")
    (tmp_path / "k").write_bytes(b"x" * 70_000)
    with pytest.raises(InvalidRequest, match="too large for a key"):
        PublicKey.read(tmp_path / "k")
    with pytest.raises(InvalidRequest, match="there is no key file"):
        SigningKey.read(tmp_path / "gone")


def test_a_key_tells_nothing(pair: Path) -> None:
    """What a program prints of a private key is its id."""
    key = SigningKey.read(pair / "a.key")

    assert repr(key) == f"<SigningKey {key.public.id[:12]}>"
