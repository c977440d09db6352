"""A model server of the standard library that does whatever the version's file tells it.

``model/plan.json`` holds what happens: ``start`` (ok, crash, mute, deaf, garbage), and ``answers``
by instance. It writes what it was started with beside the model folder's parent, at ``log``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    pings = 0
    plan: dict[str, object]

    def do_GET(self) -> None:
        Handler.pings += 1
        # Loading takes three questions, not seconds.
        late = self.plan["start"] == "deaf" or Handler.pings < 3
        self.answer(503 if late else 200, b"{}")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/invocations"
        assert self.headers["Content-Type"] == "application/json"
        (first, *_) = body["instances"]
        match first:
            case "refuse":
                said = {"error": "an array of 3 is wanted", "field": "instances[0].x"}
                self.answer(400, json.dumps(said).encode())
            case "fail":
                print("kernel panic on device 0", file=sys.stderr, flush=True)
                self.answer(500, b"oh no")
            case "die":
                print("out of memory", file=sys.stderr, flush=True)
                os._exit(9)
            case "hang":
                threading.Event().wait()
            case "short":
                self.answer(200, b'{"predictions": []}')
            case "nan":
                self.answer(200, b'{"predictions": [NaN]}')
            case "html":
                self.answer(200, b"<html>")
            case "chatty":
                print("x" * 200_000, file=sys.stderr, flush=True)
                self.answer(200, b'{"predictions": [1]}')
            case _:
                twice = [instance * 2 for instance in body["instances"]]
                self.answer(200, json.dumps({"predictions": twice}).encode())

    def answer(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--model-dir", "--digest", "--model", "--number", "--host"):
        parser.add_argument(name, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--exit-with-parent", action="store_true", required=True)
    options = parser.parse_args()
    folder = Path(options.model_dir)
    Handler.plan = plan = json.loads((folder / "plan.json").read_bytes())
    env = {name: text for name, text in os.environ.items() if name.startswith("CLOUDREG_")}
    said = {
        **vars(options),
        "pid": os.getpid(),
        "env": env,
        "files": sorted(p.name for p in folder.iterdir()),
    }
    Path(plan["log"]).write_text(json.dumps(said))
    if plan["start"] == "crash":
        print("no such tensor: w", file=sys.stderr, flush=True)
        sys.exit(4)
    if plan["start"] == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        # The end of the parent, unlike SIGTERM, is not to be slept through.
        threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    if plan["start"] == "parent":
        # A child that outlives the server holds its streams open.
        subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"])
    if plan["start"] == "mute":
        threading.Event().wait()
    server = ThreadingHTTPServer((options.host, options.port), Handler)
    print("this line is no JSON")
    print('{"event": "other", "port": 1}')
    print(json.dumps({"event": "listening", "port": server.server_address[1]}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
