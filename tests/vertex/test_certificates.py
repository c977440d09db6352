"""Whom the store trusts: those that requests is told of, for everything that it sends."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from urllib3.exceptions import InsecureRequestWarning

from cloudreg.errors import ConfigError
from cloudreg_emulator.google.http import HttpServer
from cloudreg_emulator.google.storage import Storage, handle
from cloudreg_vertex.connections import mounted
from cloudreg_vertex.settings import VertexSettings
from cloudreg_vertex.store import GcsObjects

PROJECT, LOCATION = "my-project", "us-central1"


def certify(certificate: Path, key: Path) -> None:
    """Write a certificate of the loopback that nobody else signed."""
    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "storage")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(secret, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        secret.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    made = tmp_path / "bundle.pem"
    certify(made, tmp_path / "key.pem")
    return made


@pytest.fixture
def store(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GcsObjects]:
    """Yield a store behind TLS whose certificate no system knows."""
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)
    storage = Storage(project=PROJECT, project_number=1)
    storage.create_bucket("models", {"location": LOCATION.upper()}, project=PROJECT)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bundle, bundle.with_name("key.pem"))
    with HttpServer(lambda request: handle(storage, request)) as server:
        listener = server._server
        listener.socket = context.wrap_socket(listener.socket, server_side=True)
        settings = VertexSettings(
            project=PROJECT,
            location=LOCATION,
            bucket="models",
            project_number=1,
            storage_url=f"https://127.0.0.1:{server.port}",
        )
        made = GcsObjects(settings, target="gcp")
        yield made
        made.close()


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_bundle(
    store: GcsObjects, bundle: Path, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is made, listed and read goes to whoever the environment says to trust."""
    monkeypatch.setenv(variable, str(bundle))
    store.put(b"bytes", "a/b")

    assert [found.key for found in store.list("a/")] == ["a/b"]
    with store.open("a/b") as reader:
        assert reader.read() == b"bytes"


def test_unreadable(
    store: GcsObjects, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Certificates that cannot be read are told with the variable that names them."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "absent.pem"))

    with pytest.raises(ConfigError, match="REQUESTS_CA_BUNDLE"):
        store.put(b"bytes", "a/b")


def test_nobody_else_is_trusted(store: GcsObjects) -> None:
    """A server whose certificate nobody was told to trust gets no request."""
    url = str(store._settings.storage_url)
    session = mounted(requests.Session(), connections=2)

    with pytest.raises(requests.exceptions.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        session.get(f"{url}/models")
    session.verify = False
    with pytest.warns(InsecureRequestWarning):
        assert session.get(f"{url}/models").status_code == 200


def test_what_is_trusted_is_read_once(
    store: GcsObjects, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections that come later trust whom the first one trusted, and read nothing again."""
    copy = tmp_path / "trusted.pem"
    copy.write_bytes(bundle.read_bytes())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(copy))
    url = str(store._settings.storage_url)
    session = mounted(requests.Session(), connections=2)
    again = {"Connection": "close"}
    assert session.get(f"{url}/models", headers=again).status_code == 200
    copy.write_text("not a certificate")

    assert session.get(f"{url}/models", headers=again).status_code == 200
    with pytest.raises(OSError, match="certificate"):
        mounted(requests.Session(), connections=2).get(f"{url}/models")
