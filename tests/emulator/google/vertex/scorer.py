"""A container for batch jobs: it answers each instance with itself, and refuses on request."""

from __future__ import annotations

import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer(200, {})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for one in asked["instances"]:
            wishes = one if isinstance(one, dict) else {}
            time.sleep(wishes.get("sleep_s", 0))
            if "status" in wishes:
                self.answer(wishes["status"], {"refused": one})
                return
        said = [
            {"read": one, "of": len(asked["instances"]), "parameters": asked.get("parameters")}
            for one in asked["instances"]
        ]
        self.answer(200, {"predictions": said[1:] if os.environ.get("FAIL") == "short" else said})

    def answer(self, status: int, document: object) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


if os.environ.get("FAIL") == "exit":
    raise SystemExit(3)
ThreadingHTTPServer(("127.0.0.1", int(os.environ["AIP_HTTP_PORT"])), Handler).serve_forever()
