"""A model server of sixty lines, started as Vertex AI starts a container.

It speaks the health and the predict route with the standard library alone, fetches its files from
where ``AIP_STORAGE_URI`` says, and fails in every way on request. A file ``weights.txt`` that
starts with ``crash`` ends it once it was read.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes: the second would wait 40 ms

    def do_GET(self) -> None:
        self.answer(200 if self.path == os.environ["AIP_HEALTH_ROUTE"] else 404, {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path != os.environ["AIP_PREDICT_ROUTE"]:
            self.answer(404, {"error": f"no route {self.path}"})
            return
        try:
            asked = json.loads(body)
        except ValueError:
            self.answer(400, {"error": "that is no JSON"})
            return
        if "instances" in asked:
            self.answer(*self.predicted(asked["instances"]))
            return
        if "log" in asked:
            print(asked["log"], file=sys.stderr, flush=True)
        if "sleep_s" in asked:
            time.sleep(asked["sleep_s"])
        if "stream" in asked:
            self.stream(asked["stream"], broken=asked.get("broken", False))
            return
        self.answer(asked.get("status", 200), self.said())

    def predicted(self, instances: list[object]) -> tuple[int, object]:
        """Answer all, or refuse all for one of them."""
        for one in instances:
            if isinstance(one, dict):
                time.sleep(one.get("sleep_s", 0))
                if "status" in one:
                    return one["status"], {"error": f"the instance asks for {one['status']}"}
        return 200, {"predictions": [{**self.said(), "instance": one} for one in instances]}

    def said(self) -> dict[str, object]:
        return {
            "number": int(os.environ["CLOUDREG_NUMBER"]),
            "digest": os.environ["CLOUDREG_DIGEST"],
            "type": self.headers.get("Content-Type"),
            "mark": os.environ.get("KIT_MARK"),
            "machine": os.environ["AIP_MACHINE_TYPE"],
            "accelerator": os.environ.get("AIP_ACCELERATOR_TYPE"),
        }

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

    def answer(self, status: int, document: object) -> None:
        data = json.dumps(document).encode()
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


def fetched(path: str) -> str | None:
    """Return a file of the version; None where it has none."""
    bucket, _, prefix = os.environ["AIP_STORAGE_URI"].removeprefix("gs://").partition("/")
    name = quote(f"{prefix}/{path}", safe="")
    url = f"{os.environ['STORAGE_EMULATOR_HOST']}/storage/v1/b/{bucket}/o/{name}?alt=media"
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            text: str = answer.read().decode()
            return text
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        return None


def main() -> None:
    assert os.environ["AIP_MODE"] == "PREDICTION"
    assert fetched(".cloudreg/manifest.json") is not None
    if (fetched("weights.txt") or "").startswith("crash"):
        print("the weights make no sense", file=sys.stderr, flush=True)
        sys.exit(4)
    server = Server(("127.0.0.1", int(os.environ["AIP_HTTP_PORT"])), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"serving {os.environ['CLOUDREG_MODEL']}", file=sys.stderr, flush=True)
    server.serve_forever(poll_interval=0.05)


if __name__ == "__main__":
    main()
