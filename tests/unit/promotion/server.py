"""The stand-in of the local provider's tests, which also answers badly where its weights say so.

``sick STATUS`` answers every request with that status; ``lazy SECONDS`` takes its time.
"""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path

spec = importlib.util.spec_from_file_location(
    "standin", Path(__file__).parent.parent / "local" / "standin.py"
)
assert spec is not None
assert spec.loader is not None
standin = importlib.util.module_from_spec(spec)
spec.loader.exec_module(standin)


class Handler(standin.Handler):
    def do_POST(self) -> None:
        word, _, number = (Path(self.options.model_dir) / "weights.txt").read_text().partition(" ")
        if word == "sick":
            b"".join(self.body())
            self.answer(int(number), {"error": "the model is sick"})
            return
        if word == "lazy":
            time.sleep(float(number))
        super().do_POST()


standin.Handler = Handler

if __name__ == "__main__":
    standin.main()
