"""A model server of a hundred lines: it starts at once, and fails in every way on request.

It speaks what the supervisor needs of ``cloudreg.serving``, with the standard library alone.
What the file ``weights.txt`` starts with decides how it starts: ``crash N``, ``slow SECONDS``,
``gate FILE`` (it waits until there is such a file), ``liar`` (it says it serves something else),
``stubborn`` (SIGTERM does not end it).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes: the second would wait 40 ms
    options: argparse.Namespace

    def do_GET(self) -> None:
        if self.path == "/ping":
            self.answer(200, {})
        elif self.path == "/cloudreg":
            self.answer(200, {**vars(self.options), "ready": True})
        elif self.path.startswith("/echo"):
            self.echo()
        else:
            self.answer(404, {"error": self.path})

    def do_POST(self) -> None:
        if self.path.startswith("/echo"):
            self.echo()
            return
        body = b"".join(self.body())
        if self.headers.get("Content-Type") == "application/jsonlines":
            said = [json.dumps(self.scored(line)).encode() + b"\n" for line in body.splitlines()]
            self.send(200, b"".join(said), {})
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
        if asked.get("die"):
            os._exit(9)
        if asked.get("half"):
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"x" * 50)
            self.wfile.flush()
            os._exit(9)
        if "pieces" in asked:
            self.stream(
                asked["pieces"],
                row=b'{"predictions": [%d]}\n',
                last=asked.get("error"),
                broken=asked.get("broken", False),
            )
            return
        if "stream" in asked:
            self.stream(
                asked["stream"], cut=asked.get("cut", False), broken=asked.get("broken", False)
            )
            return
        self.answer(
            asked.get("status", 200),
            {
                "pid": os.getpid(),
                "number": self.options.number,
                "digest": self.options.digest,
                "path": self.path,
                "type": self.headers.get("Content-Type"),
                "env": os.environ.get("STANDIN_MARK"),
                "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
                "device": os.environ.get("CLOUDREG_DEVICE"),
            },
        )

    def scored(self, line: bytes) -> object:
        """Answer one record of a data set."""
        try:
            asked = json.loads(line)
        except ValueError:
            return {"error": "that is no JSON"}
        if isinstance(asked, dict):
            time.sleep(asked.get("sleep_s", 0))
            if "fail" in asked:
                return {"error": asked["fail"]}
        return {"prediction": {"number": self.options.number, "asked": asked}}

    def echo(self) -> None:
        """Say what came in."""
        digest, size = hashlib.sha256(), 0
        for chunk in self.body():
            digest.update(chunk)
            size += len(chunk)
        said = {
            "method": self.command,
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "size": size,
            "sha256": digest.hexdigest(),
        }
        self.answer(200, said, headers={"Connection": "X-Hop", "X-Hop": "1", "X-Kept": "2"})

    def body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left and (chunk := self.rfile.read(min(left, 65536))):
            left -= len(chunk)
            yield chunk

    def stream(
        self,
        count: int,
        *,
        row: bytes = b"row %d\n",
        last: str | None = None,
        cut: bool = False,
        broken: bool = False,
    ) -> None:
        """Answer in chunks, each at once, and end the process or the connection in the middle."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        rows = [row % number for number in range(count)]
        if last is not None:
            rows.append(json.dumps({"error": last}).encode() + b"\n")
        for data in rows:
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
        if cut:
            os._exit(9)
        self.wfile.write(b"0\r\n\r\n")

    def answer(self, status: int, document: object, headers: dict[str, str] | None = None) -> None:
        self.send(status, json.dumps(document).encode(), headers or {})

    def send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
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
    parser = argparse.ArgumentParser()
    for name in ("--model-dir", "--digest", "--model", "--host"):
        parser.add_argument(name)
    for name in ("--number", "--port"):
        parser.add_argument(name, type=int)
    parser.add_argument("--exit-with-parent", action="store_true")
    Handler.options = options = parser.parse_args()
    weights = (Path(options.model_dir) / "weights.txt").read_text()
    if weights.startswith("crash"):
        print("the weights make no sense", file=sys.stderr, flush=True)
        sys.exit(int(weights.split()[1]))
    if weights.startswith("slow"):
        time.sleep(float(weights.split()[1]))
    if weights.startswith("gate"):
        while not Path(weights.split(maxsplit=1)[1]).exists():
            time.sleep(0.01)
    if "liar" in weights:
        options.digest = "sha256:" + "0" * 64
    server = Server((options.host, options.port), Handler)
    said = {"event": "listening", "port": server.server_address[1], "pid": os.getpid()}
    if weights.startswith("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"serving {options.model}:{options.number} as {os.getpid()}", file=sys.stderr, flush=True)
    print(json.dumps(said), flush=True)

    def follow() -> None:
        sys.stdin.read()
        os._exit(0)

    if options.exit_with_parent:
        threading.Thread(target=follow, daemon=True).start()
    server.serve_forever(poll_interval=0.05)


if __name__ == "__main__":
    main()
