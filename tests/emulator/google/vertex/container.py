"""A container that starts at once, and fails in every way on request.

It speaks Vertex AI's contract with the standard library alone. ``FAIL`` in its environment decides
how it starts: ``exit`` (it ends at once), ``deaf`` (it is never healthy), ``mute`` (it never
listens); ``CLOSED`` names a file as long as which exists it is not healthy. A body that is no JSON
comes back as it is; what JSON asks for is in `Handler.do_POST`.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

FAIL = os.environ.get("FAIL")
CLOSED = os.environ.get("CLOSED")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes: the second would wait 40 ms

    def do_GET(self) -> None:
        closed = CLOSED is not None and Path(CLOSED).exists()
        ill = FAIL == "deaf" or closed or self.path != os.environ["AIP_HEALTH_ROUTE"]
        self.answer(503 if ill else 200, b"{}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path != os.environ["AIP_PREDICT_ROUTE"]:
            self.answer(404, b"no such route")
            return
        try:
            asked = json.loads(body)
        except ValueError:
            self.answer(200, body, kind=self.headers.get("Content-Type", ""))
            return
        if "instances" in asked:
            self.answer(200, predictions(asked))
            return
        time.sleep(asked.get("sleep_s", 0))
        if asked.get("log"):
            print(asked["log"], flush=True)
        if asked.get("die"):
            os._exit(9)
        if "stream" in asked:
            self.stream(asked)
            return
        said = {
            "pid": os.getpid(),
            "argv": sys.argv[1:],
            "env": dict(os.environ),
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "path": self.path,
            "weights": weights(),
            "padding": "x" * asked.get("size", 0),
        }
        self.answer(asked.get("status", 200), json.dumps(said).encode())

    def stream(self, asked: dict) -> None:
        """Answer in chunks, each at once, and perhaps break off."""
        self.send_response(asked.get("status", 200))
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(asked["stream"]):
            data = b"piece %d;" % number
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
            time.sleep(0.01)
        if asked.get("cut"):
            self.close_connection = True
            return
        self.wfile.write(b"0\r\n\r\n")

    def answer(self, status: int, body: bytes, *, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def predictions(asked: dict) -> bytes:
    """Answer with what was read of each instance, or with what one of them asks for."""
    first = asked["instances"][0] if asked["instances"] else None
    if isinstance(first, dict) and "answer" in first:
        text: str = first["answer"]
        return text.encode()
    said = [
        {"read": json.dumps(one), "version": os.environ.get("MARK")} for one in asked["instances"]
    ]
    return json.dumps({"predictions": said, "parameters": asked.get("parameters")}).encode()


def weights() -> str | None:
    """Return what is in ``weights.txt`` where the artifacts are."""
    bucket, _, prefix = os.environ["AIP_STORAGE_URI"].removeprefix("gs://").partition("/")
    if not bucket:
        return None
    name = quote(f"{prefix}/weights.txt", safe="")
    url = f"{os.environ['STORAGE_EMULATOR_HOST']}/storage/v1/b/{bucket}/o/{name}?alt=media"
    with urllib.request.urlopen(url, timeout=30) as answer:
        text: str = answer.read().decode()
        return text


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    print(f"starting as {os.environ['AIP_DEPLOYED_MODEL_ID']}", flush=True)
    if FAIL == "exit":
        print("the weights make no sense", flush=True)
        sys.exit(3)
    if FAIL == "mute":
        time.sleep(600)
    Server(("127.0.0.1", int(os.environ["AIP_HTTP_PORT"])), Handler).serve_forever()


if __name__ == "__main__":
    main()
