"""The stand-in of either cloud, with predictions that can be compared: a number, twice as much.

Its first argument is the stand-in, as a path.
"""

from __future__ import annotations

import importlib.util
import io
import json
import sys

spec = importlib.util.spec_from_file_location("standin", sys.argv.pop(1))
assert spec is not None
assert spec.loader is not None
standin = importlib.util.module_from_spec(spec)
spec.loader.exec_module(standin)


class Handler(standin.Handler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = json.loads(body)
        if "instances" in asked:
            scores = [{"score": value * 2} for value in asked["instances"]]
            self.answer(200, {"predictions": scores})
            return
        connection, self.rfile = self.rfile, io.BytesIO(body)
        try:
            super().do_POST()
        finally:
            self.rfile = connection


standin.Handler = Handler

if __name__ == "__main__":
    standin.main()
