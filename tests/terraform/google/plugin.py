"""A process that Terraform takes for its google provider.

The handshake is go-plugin's: a line on standard output that says where to connect, with the
certificate that is trusted there.

Source: https://github.com/hashicorp/go-plugin/blob/main/docs/internals.md
"""

from __future__ import annotations

import base64
import datetime
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

sys.path.insert(0, str(Path(__file__).resolve().parent))

from protocol import MESSAGES, METHODS, PACKAGE  # it is a script in a folder of scripts
from provider import Provider

COOKIE = (
    "TF_PLUGIN_MAGIC_COOKIE",
    "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2",
)


def certificate() -> tuple[bytes, bytes, str]:
    """Return a key and a certificate as PEM, and the certificate as the handshake wants it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    raw = made.public_bytes(serialization.Encoding.DER)
    said = base64.b64encode(raw).decode().rstrip("=")
    return pem, made.public_bytes(serialization.Encoding.PEM), said


def methods(provider: Provider) -> dict[str, grpc.RpcMethodHandler]:
    """Return the handlers of all methods."""

    def handler(name: str) -> grpc.RpcMethodHandler:
        request, response = (MESSAGES[kind] for kind in METHODS[name])
        answer: Callable[[Any], Any] = getattr(provider, name)
        return grpc.unary_unary_rpc_method_handler(
            lambda asked, _: response(**answer(asked)),
            request_deserializer=request.FromString,
            response_serializer=response.SerializeToString,
        )

    return {name: handler(name) for name in METHODS}


def main() -> int:
    """Serve until Terraform is done with it."""
    if os.environ.get(COOKIE[0]) != COOKIE[1]:
        print("This is a plugin of Terraform, which starts it.", file=sys.stderr)
        return 1
    over = threading.Event()
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(f"{PACKAGE}.Provider", methods(Provider())),
            grpc.method_handlers_generic_handler("plugin.GRPCController", {"Shutdown": _end(over)}),
        )
    )
    key, pem, said = certificate()
    with tempfile.TemporaryDirectory(prefix="tf-") as folder:
        place = f"{folder}/s"
        server.add_secure_port(f"unix:{place}", grpc.ssl_server_credentials([(key, pem)]))
        server.start()
        print(f"1|6|unix|{place}|grpc|{said}", flush=True)
        over.wait()
        server.stop(grace=1).wait()
    return 0


def _end(over: threading.Event) -> grpc.RpcMethodHandler:
    def end(_request: bytes, _context: object) -> bytes:
        over.set()
        return b""

    return grpc.unary_unary_rpc_method_handler(end)


if __name__ == "__main__":
    sys.exit(main())
