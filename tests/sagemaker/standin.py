"""A model server of sixty lines, started as SageMaker starts a container: ``standin.py serve``.

It speaks ``/ping`` and ``/invocations`` with the standard library alone, and fails in every way on
request. A file ``weights.txt`` that starts with ``crash`` ends it before it listens.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes: the second would wait 40 ms

    def do_GET(self) -> None:
        self.answer(200 if self.path == "/ping" else 404, {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Type") == "application/jsonlines":
            said = [self.scored(line) for line in body.splitlines()]
            self.answer(200, said, lines=True)
            return
        try:
            asked = json.loads(body)
        except ValueError:
            self.answer(400, {"error": "that is no JSON"})
            return
        if "log" in asked:
            print(asked["log"], file=sys.stderr, flush=True)
        if "sleep_s" in asked:
            time.sleep(asked["sleep_s"])
        if "stream" in asked:
            self.stream(asked["stream"], broken=asked.get("broken", False))
            return
        said = {
            "number": int(os.environ["CLOUDREG_NUMBER"]),
            "digest": os.environ["CLOUDREG_DIGEST"],
            "type": self.headers.get("Content-Type"),
            "mark": os.environ.get("KIT_MARK"),
        }
        self.answer(asked.get("status", 200), said)

    def scored(self, line: bytes) -> object:
        """Answer one record of a data set."""
        try:
            asked = json.loads(line)
        except ValueError:
            return {"error": "that is no JSON"}
        time.sleep(asked.get("sleep_s", 0))
        return {"prediction": {"number": int(os.environ["CLOUDREG_NUMBER"])}}

    def stream(self, count: int, *, broken: bool) -> None:
        """Answer in chunks, each at once, and perhaps break off."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(count):
            data = b"row %d\n" % number
            try:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.flush()
            except OSError:
                print("the reader left", file=sys.stderr, flush=True)
                self.close_connection = True
                return
            time.sleep(0.05)
        if broken:
            self.close_connection = True
            return
        self.wfile.write(b"0\r\n\r\n")

    def answer(self, status: int, document: object, *, lines: bool = False) -> None:
        data = json.dumps(document).encode()
        if lines and isinstance(document, list):
            data = b"".join(json.dumps(one).encode() + b"\n" for one in document)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    assert sys.argv[1:] == ["serve"], sys.argv
    folder = Path(os.environ["SAGEMAKER_BASE_DIR"]) / "model"
    assert (folder / ".cloudreg" / "manifest.json").is_file()
    weights = folder / "weights.txt"
    if weights.exists() and weights.read_text().startswith("crash"):
        print("the weights make no sense", file=sys.stderr, flush=True)
        sys.exit(4)
    server = Server(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"serving {os.environ['CLOUDREG_MODEL']}", file=sys.stderr, flush=True)
    server.serve_forever(poll_interval=0.05)


if __name__ == "__main__":
    main()
