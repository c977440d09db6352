"""Streams and data sets on the command line, with a stand-in for the model server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cloudreg.operations import poll_until


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_stream(served: Any, cloudreg: Any) -> None:
    """Each piece is a line of its own; with --json they come together."""
    said = cloudreg("predict", "churn-staging", '{"pieces": 3}', "--stream")
    facts = cloudreg("predict", "churn-staging", '{"pieces": 2}', "--stream", "--json").json

    assert said.code == 0, said.err
    assert [json.loads(line) for line in said.out.splitlines()] == [
        {"predictions": [0]},
        {"predictions": [1]},
        {"predictions": [2]},
    ]
    assert facts["pieces"] == [{"predictions": [0]}, {"predictions": [1]}]


@pytest.mark.parametrize(
    ("request_", "code", "reason"),
    [
        ('{"pieces": 2, "error": "the beast"}', 1, "in the middle of its answer: the beast"),
        ('{"pieces": 2, "broken": true}', 1, "broke off"),
        ('{"status": 400}', 64, "answered 400"),
        ('{"stream": 1}', 1, "something else than predictions"),
    ],
)
def test_stream_that_fails(
    served: Any, cloudreg: Any, request_: str, code: int, reason: str
) -> None:
    """What goes wrong after some pieces is a failure, and the pieces are printed."""
    said = cloudreg("predict", "churn-staging", request_, "--stream")

    assert said.code == code
    assert reason in said.err
    assert len(said.out.splitlines()) == json.loads(request_).get("pieces", 0)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["{}", "--stream", "--no-wait"], "do not go together"),
        (["{}", "--result", "a"], "takes no request"),
        (["--result", "a", "--no-wait"], "do not go together"),
        (["{}", "--no-wait", "--variant", "primary"], "weights alone"),
    ],
)
def test_ways_that_do_not_go_together(
    served: Any, cloudreg: Any, words: list[str], reason: str
) -> None:
    """A request is answered in one way."""
    said = cloudreg("predict", "churn-staging", *words)

    assert said.code == 64
    assert reason in said.err


@pytest.mark.parametrize("words", [["{}", "--no-wait"], ["--result", "abc"]])
def test_nothing_is_queued_here(served: Any, cloudreg: Any, words: list[str]) -> None:
    """An endpoint that answers at once queues nothing, and says what to type."""
    said = cloudreg("predict", "churn-staging", *words)

    assert said.code != 0
    assert "queues nothing" in said.err
    assert "cloudreg predict churn-staging" in said.err


@pytest.mark.parametrize("kind", ["serverless", "asynchronous"])
def test_kinds_that_are_not_here(churn: Any, cloudreg: Any, kind: str) -> None:
    """A kind of endpoint that this target has not is refused in the plan, with the reason."""
    churn.configure(f'[endpoints.e]\nmodel = "churn"\nstage = "dev"\nkind = "{kind}"\n')
    said = cloudreg("plan")

    assert said.code != 0
    assert f"no {kind} endpoints on this provider" in said.err
    assert "'real_time'" in said.err


def test_batch(churn: Any, cloudreg: Any) -> None:
    """Each record has its answer in its place, and those that got none are counted and told."""
    Path("data.jsonl").write_text("\n\n".join(json.dumps(r) for r in ([1], {"a": 2}, 3)))
    said = cloudreg("batch", "churn:2", "--input", "data.jsonl", "--output", "out", "--json")

    assert said.code == 0, said.err
    assert (said.json["records"], said.json["failed"]) == (3, 0)
    assert said.json["version"] == "churn:2"
    found = lines(Path("out/predictions.jsonl"))
    assert [one["prediction"]["asked"] for one in found] == [[1], {"a": 2}, 3]
    assert {one["prediction"]["number"] for one in found} == {2}


def test_batch_with_failures(churn: Any, cloudreg: Any) -> None:
    """A record without a prediction makes the exit code 1; the others are there."""
    Path("data.jsonl").write_text('[1]\n{"fail": "too long"}\n[3]\n')
    said = cloudreg("batch", "churn:1", "--input", "data.jsonl", "--output", "out")

    assert said.code == 1
    assert "1 got no prediction; record 2: too long" in said.out
    assert ["error" in one for one in lines(Path("out/predictions.jsonl"))] == [False, True, False]


def test_batch_in_parts(churn: Any, cloudreg: Any) -> None:
    """Several replicas share a data set, and the order stays."""
    Path("data.jsonl").write_text("".join(f"[{n}]\n" for n in range(500)))
    said = cloudreg(
        "batch", "churn:1", "--input", "data.jsonl", "--output", "out", "--replicas", "3"
    )

    assert said.code == 0, said.err
    found = lines(Path("out/predictions.jsonl"))
    assert [one["prediction"]["asked"] for one in found] == [[n] for n in range(500)]


def test_batch_left_in_the_store(churn: Any, cloudreg: Any) -> None:
    """Without a folder the answers stay in the store; a second call scores nothing again."""
    Path("data.jsonl").write_text("[1]\n")
    first = cloudreg("batch", "churn:1", "--input", "data.jsonl", "--json").json
    again = cloudreg("batch", "churn:1", "--input", "data.jsonl", "--output", "out", "--json")

    assert first["path"] is None
    assert first["output"].startswith("batch/churn-1-")
    assert again.json["job"] == first["job"]
    assert not list(Path(".cloudreg").glob("**/batch/*/models/*"))
    assert not list(Path(".cloudreg").glob("**/input/*.jsonl"))
    assert "was begun before" in again.err
    assert len(lines(Path("out/predictions.jsonl"))) == 1


def test_batch_after_a_kill(churn: Any, cloudreg: Any) -> None:
    """Who asks again after a kill waits for the job that runs, and begins no other."""
    Path("data.jsonl").write_text('{"sleep_s": 1.5}\n')
    words = ["batch", "churn:1", "--input", "data.jsonl", "--output", "out", "--quiet"]
    process = subprocess.Popen([sys.executable, "-m", "cloudreg", *words])
    jobs = Path(".cloudreg")
    found = poll_until(lambda: list(jobs.glob("**/batch/churn-*/job.json")), bool, timeout_s=60.0)
    process.kill()
    process.wait()
    assert found
    assert not Path("out/predictions.jsonl").exists()

    said = cloudreg(*[word for word in words if word != "--quiet"])

    assert said.code == 0, said.err
    assert "was begun before" in said.err
    assert len(lines(Path("out/predictions.jsonl"))) == 1
    assert len(list(jobs.glob("**/batch/churn-*/job.json"))) == 1


def test_batch_that_failed_is_tried_again(churn: Any, cloudreg: Any) -> None:
    """A job that failed tells why, with its last lines; the same call is another attempt."""
    broken = churn.model("crash 4", "broken")
    assert cloudreg("register", "churn", broken).code == 0
    Path("data.jsonl").write_text("[1]\n")
    for attempt in (1, 2):
        said = cloudreg("batch", "churn:3", "--input", "data.jsonl", "--output", "out")
        assert said.code == 1
        assert "exit code 4" in said.err
        assert "the weights make no sense" in said.err
        assert len(list(Path(".cloudreg").glob("**/batch/churn-3-*/job.json"))) == attempt
    assert not Path("out/predictions.jsonl").exists()


@pytest.mark.parametrize(
    ("text", "words", "code", "reason"),
    [
        ("[1]\nno JSON\n", [], 64, "data.jsonl, line 2 is no JSON"),
        ("[NaN]\n", [], 64, "line 1 is no JSON"),
        ("\n \n", [], 64, "holds no record"),
        (None, [], 64, "data.jsonl cannot be read"),
        ("[1]\n", ["--replicas", "0"], 64, "--replicas 0"),
        ("[1]\n", ["--replicas", "17"], 1, "17 replicas, 16 at most"),
        ("[1]\n", ["--gpu", "L4"], 1, "no L4 on this provider"),
        ("[1]\n", ["--target", "moon"], 1, "no target 'moon'"),
    ],
)
def test_batch_that_cannot_be(
    churn: Any, cloudreg: Any, text: str | None, words: list[str], code: int, reason: str
) -> None:
    """A data set or a machine that cannot be is refused, and no answers are written."""
    if text is not None:
        Path("data.jsonl").write_text(text)
    said = cloudreg("batch", "churn:1", "--input", "data.jsonl", "--output", "out", *words)

    assert (said.code, said.out) == (code, "")
    assert reason in said.err
    assert not Path("out/predictions.jsonl").exists()


def test_answers_are_not_written_over(churn: Any, cloudreg: Any) -> None:
    """Answers that are there already stay as they are."""
    Path("data.jsonl").write_text("[1]\n")
    Path("out").mkdir()
    Path("out/predictions.jsonl").write_text("mine")
    said = cloudreg("batch", "churn:1", "--input", "data.jsonl", "--output", "out")

    assert said.code == 1
    assert "is there already" in said.err
    assert Path("out/predictions.jsonl").read_text() == "mine"
