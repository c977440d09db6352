"""Connections of requests' sessions: kept in number, and trusting what was read once.

urllib3 reads the certificates anew for each connection: 0.02 s of a core for those that requests
brings (2 vCPU of an EPYC, 2026-11), and an upload opens some twenty.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH

SCHEMES = ("https://", "http://")


def mounted(session: Any, *, connections: int, retries: Any = 0) -> Any:
    """Let a session keep so many connections, and return it.

    One that shows a certificate of its own to Google has connections of its own kind, which stay.

    Args:
        session: Of requests, or of google-auth.
        connections: As many threads may ask at once; what more of them open is closed afterwards.
        retries: As `HTTPAdapter` takes them.
    """
    if not getattr(session, "is_mtls", False):
        for scheme in SCHEMES:
            session.mount(scheme, Connections(pool_maxsize=connections, max_retries=retries))
    return session


class Connections(HTTPAdapter):
    """An adapter whose connections share what they trust."""

    def __init__(self, **options: Any) -> None:
        """Take the options of `HTTPAdapter`."""
        self._lock = threading.Lock()
        self._contexts: dict[object, Any] = {}
        super().__init__(**options)

    def build_connection_pool_key_attributes(
        self, request: Any, verify: Any, cert: Any = None
    ) -> tuple[Any, Any]:
        """Add what is trusted to what connections of a pool have in common."""
        host, pool = super().build_connection_pool_key_attributes(request, verify, cert)
        if host["scheme"] == "https" and verify:
            pool = {key: said for key, said in pool.items() if not key.startswith("ca_cert")}
            pool["ssl_context"] = self._trusting(verify)
        return host, pool

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Keep a pool that trusts already from reading the certificates."""
        super().cert_verify(conn, url, verify, cert)
        if conn.conn_kw.get("ssl_context") is not None:
            conn.ca_certs = conn.ca_cert_dir = None

    def _trusting(self, verify: Any) -> Any:
        from urllib3.util.ssl_ import create_urllib3_context

        place = DEFAULT_CA_BUNDLE_PATH if verify is True else str(verify)
        with self._lock:
            if place not in self._contexts:
                context = create_urllib3_context()
                if Path(place).is_dir():
                    context.load_verify_locations(capath=place)
                else:
                    context.load_verify_locations(place)
                self._contexts[place] = context
            return self._contexts[place]
