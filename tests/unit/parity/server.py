"""The stand-in of the local provider's tests, whose answers depend on where it runs.

Its first argument is how far this target is off. A version whose file ``weights.txt`` says
``skewed`` shows that in its answers; one that says ``sick`` does not answer on such a target.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

SKEW = float(sys.argv.pop(1))

spec = importlib.util.spec_from_file_location(
    "standin", Path(__file__).parent.parent / "local" / "standin.py"
)
assert spec is not None
assert spec.loader is not None
standin = importlib.util.module_from_spec(spec)
spec.loader.exec_module(standin)


class Handler(standin.Handler):
    def do_POST(self) -> None:
        asked = json.loads(b"".join(self.body()))
        word = (Path(self.options.model_dir) / "weights.txt").read_text().partition(" ")[0]
        if word == "sick" and SKEW:
            self.answer(500, {"error": "the model is sick"})
            return
        off = SKEW if word == "skewed" else 0.0
        predictions = [{"score": value * 2 + off} for value in asked.get("instances", ())]
        self.answer(200, {"number": self.options.number, "predictions": predictions})


standin.Handler = Handler

if __name__ == "__main__":
    standin.main()
