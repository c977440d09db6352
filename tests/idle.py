"""A container that is well, and has one answer: for tests that need many endpoints and ask none.

It imports little: a hundred of them start in the time of ten model servers.
"""

from __future__ import annotations

import os
import socket


def main() -> None:
    """Answer every request with an empty object."""
    port = os.environ.get("SAGEMAKER_BIND_TO_PORT") or os.environ["AIP_HTTP_PORT"]
    listener = socket.create_server(("127.0.0.1", int(port)), backlog=16)
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                b"Content-Length: 2\r\nConnection: close\r\n\r\n{}"
            )


if __name__ == "__main__":
    main()
