"""The stand-in of the local provider's tests, which also answers badly where its weights say so.

``sick STATUS`` answers every request with that status; ``lazy SECONDS`` takes its time; ``gauge
VALUE`` shows that value at ``/metrics``, where the others show none.
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


METRICS = """\
# HELP drift How far the answers are from what they were.
# TYPE drift gauge
drift{{part="a\\"b",model="churn"}} {value}
drift{{part="c",model="churn"}} 0.125
# TYPE work_seconds histogram
work_seconds_bucket{{le="0.1"}} 18
work_seconds_bucket{{le="0.5"}} 19
work_seconds_bucket{{le="+Inf"}} 20
work_seconds_sum 4.0
work_seconds_count 20
"""


class Handler(standin.Handler):
    def do_GET(self) -> None:
        if self.path != "/metrics":
            super().do_GET()
            return
        word, _, value = (Path(self.options.model_dir) / "weights.txt").read_text().partition(" ")
        text = METRICS.format(value=value) if word == "gauge" else ""
        self.send(200, text.encode(), {})

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
