"""A container of sixty lines that starts at once, and fails in every way on request.

It speaks SageMaker's contract with the standard library alone. What ``model.json`` says decides
how it behaves: ``crash`` (an exit code, at the start), ``deaf`` (``/ping`` is never 200),
``stubborn`` (SIGTERM does not end it); else ``scale``: it multiplies.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BASE = Path(os.environ["SAGEMAKER_BASE_DIR"])
FILE = BASE / "model" / "model.json"
SAID = json.loads(FILE.read_text()) if FILE.exists() else {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.answer(503 if SAID.get("deaf") or (BASE / "sick").exists() else 200, b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            asked = json.loads(body)
        except ValueError:
            asked = {"echo": True} if SAID.get("binary") else None
        if asked is None:
            self.answer(400, b"that is no JSON")
            return
        print(f"asked for {len(body)} bytes", flush=True)
        time.sleep(asked.get("sleep_s", 0))
        if asked.get("die"):
            os._exit(9)
        if "stream" in asked:
            self.stream(asked)
            return
        if asked.get("echo"):
            self.answer(200, body, kind="application/octet-stream")
            return
        said = {
            "y": [SAID.get("scale", 1) * x for x in asked.get("x", [])],
            "pid": os.getpid(),
            "argv": sys.argv[1:],
            "env": dict(os.environ),
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "mark": SAID.get("mark"),
        }
        self.answer(asked.get("status", 200), json.dumps(said).encode())

    def stream(self, asked: dict) -> None:
        """Answer in chunks, each at once."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        for number in range(asked["stream"]):
            data = f"piece {number};".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
            time.sleep(asked.get("pause_s", 0.01))
        if asked.get("cut"):
            os._exit(9)
        self.wfile.write(b"0\r\n\r\n")

    def answer(self, status: int, body: bytes, *, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Amzn-SageMaker-Custom-Attributes", "from=container")
        self.send_header("X-Of-Our-Own", "stripped")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    print("the container starts", flush=True)
    if "crash" in SAID:
        print("CUDA out of memory", file=sys.stderr, flush=True)
        sys.exit(SAID["crash"])
    signal.signal(
        signal.SIGTERM, signal.SIG_IGN if SAID.get("stubborn") else lambda *_: os._exit(0)
    )
    Server(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever(0.05)
