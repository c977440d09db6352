"""Help, words that make no command, and what a call imports."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from typing import Any

import pytest

from cloudreg import __version__
from cloudreg.cli import arguments
from cloudreg.cli.table import EXIT_CODES, VERBS


def test_help_lists_every_verb(cloudreg: Any) -> None:
    """Help names every verb with one line and an example."""
    said = cloudreg("--help")

    assert said.code == 0
    for name, verb in VERBS.items():
        assert f"  {name:<10}{verb.summary}\n            $ {verb.example}\n" in said.out


@pytest.mark.parametrize("words", [("help",), ("-h",), ("--json", "--help")])
def test_other_ways_to_help(cloudreg: Any, words: tuple[str, ...]) -> None:
    """Help is found by the words that people try."""
    said = cloudreg(*words)

    assert said.code == 0
    assert said.out.startswith("usage: cloudreg VERB")


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb(cloudreg: Any, verb: str) -> None:
    """A verb's help shows its arguments, an example and its exit codes."""
    said = cloudreg(verb, "--help")

    assert said.code == 0
    assert said.out.startswith(f"usage: cloudreg {verb}")
    assert f"  $ {VERBS[verb].example}\n" in said.out
    assert "--config FILE" in said.out
    for code in (0, 1, 64, *VERBS[verb].codes):
        assert f"  {code:<4}{EXIT_CODES[code]}\n" in said.out
    assert cloudreg("help", verb).out == said.out


@pytest.mark.parametrize("verb", VERBS)
def test_examples_are_commands(verb: str) -> None:
    """The example of a verb is a command that its parser understands."""
    tool, named, *words = shlex.split(VERBS[verb].example)

    assert (tool, named) == ("cloudreg", verb)
    assert arguments.read(verb, words).json is False


def test_version(cloudreg: Any) -> None:
    """The version is printed alone."""
    assert cloudreg("--version").out == f"cloudreg {__version__}\n"


def test_no_words(cloudreg: Any) -> None:
    """Without a verb nothing happens but a hint."""
    said = cloudreg()

    assert (said.code, said.out) == (64, "")
    assert "cloudreg --help" in said.err


def test_typo(cloudreg: Any) -> None:
    """A verb that is nearly right is refused, and the right one is named."""
    said = cloudreg("promot", "churn:7")

    assert said.code == 64
    assert said.err == "error: no verb 'promot'\n  hint: did you mean cloudreg promote?\n"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("promote", "churn:1"), "required: --to"),
        (("promote", "--to", "prod"), "required: REF"),
        (("list", "--limit", "x"), "'x' is not a whole number from 0"),
        (("list", "--limit=-1"), "'-1' is not a whole number from 0"),
        (("list", "--lim", "3"), "unrecognized arguments: --lim"),
        (("list", "a", "b"), "unrecognized arguments: b"),
        (("show", "churn:1", "--nope"), "unrecognized arguments: --nope"),
        (("rollout", "stats"), "invalid choice: 'stats'"),
        (("rollout", "resume"), "cloudreg rollout resume needs a MODEL"),
        (("rollout", "pause", "churn", "--next-step"), "--next-step belongs to"),
        (("predict", "churn", "{}", "--timeout", "0"), "'0' is not a number of seconds above 0"),
        (("predict", "churn", "{}", "--timeout", "nan"), "'nan' is not a number of seconds"),
        (("register", "churn", "first", "--seed", "x"), "invalid int value: 'x'"),
        (("register", "churn", "first", "--metric", "auc"), "key=value is wanted"),
        (("register", "churn", "first", "--metric", "=1"), "key=value is wanted"),
        (("register", "churn", "first", "--metric", "auc=high"), "'high' is not a number"),
        (("register", "churn", "first", "--metric", "auc=nan"), "only finite numbers"),
        (("register", "churn", "first", "--metric", "auc=-inf"), "only finite numbers"),
        (("register", "churn", "first", "--label", "a=1", "--label", "a=2"), "given twice"),
        (("register", "Churn", "first"), "model name 'Churn'"),
        (("promote", "churn:1", "--to", "staging", "--out", "p"), "--out needs --dry-run"),
        (("promote", "churn:1", "--to", "staging", "--break-glass", " "), "needs a reason"),
        (("promote", "churn:1", "--to", "staging", "--expect", "0"), "whole number from 1"),
        (("rollback", "churn", "staging", "--out", "p"), "--out needs --dry-run"),
        (("apply", "p", "--prune"), "a saved plan says itself"),
        (("adopt", "churn", "--reason", ""), "--reason is empty"),
        (("adopt", "churn"), "required: --reason"),
        (("history", "churn", "--pin", "7"), "sha256: and 64 hexadecimal digits"),
        (("history", "churn", "--pin", "x:sha256:00"), "SEQ:HASH is wanted"),
        (("show", "churn"), "names a model but no version"),
        (("show", "churn:0"), "a whole number from 1"),
        (("show", "churn@sha256:12"), "a digest is sha256:"),
        (("serve", "churn:1", "--model", "x"), "--model is for folders"),
        (("init", "--endpoint"), "--endpoint needs --model"),
        (("init", "here", "--config", "there"), "say the same thing"),
        (("init", "sub", "--model", "No"), "model name 'No'"),
        (("--bogus", "list"), "--bogus is no option before a verb"),
        (("--config",), "--config needs a value"),
    ],
)
def test_usage(cloudreg: Any, churn: Any, words: tuple[str, ...], reason: str) -> None:
    """Words that can never be right end with 64 and a reason on stderr, and write nothing."""
    before = churn.files()

    said = cloudreg(*words)

    assert (said.code, said.out) == (64, "")
    assert reason in said.err
    assert "error: " in said.err
    assert churn.files() == before


def test_usage_line(cloudreg: Any) -> None:
    """A verb that is called wrongly says how it is called."""
    assert cloudreg("promote").err.startswith("usage: cloudreg promote [-h] --to STAGE")


def test_usage_as_json(cloudreg: Any) -> None:
    """With --json a refusal is JSON on stdout, and stderr stays empty."""
    said = cloudreg("promote", "--json")

    assert said.code == 64
    assert said.err == ""
    assert said.json["error"] == "UsageError"
    assert said.json["exit_code"] == 64


def test_options_before_the_verb(cloudreg: Any, churn: Any) -> None:
    """What every verb understands may stand before it."""
    said = cloudreg("--config", "cloudreg.toml", "--as=bob", "--json", "list")

    assert said.code == 0
    assert said.json["total"] == 1


def test_options_between_arguments(cloudreg: Any, churn: Any) -> None:
    """An option between two arguments hides neither."""
    said = cloudreg("rollback", "churn", "--dry-run", "dev")

    assert said.code == 2
    assert "churn@dev" in said.out


def imported(*words: str, cwd: str | None = None) -> set[str]:
    """Return the modules of a process after a call."""
    script = (
        "import json, sys; from cloudreg.cli import main; code = main(sys.argv[1:]);"
        "print('\\n' + json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, check=True, cwd=cwd
    )
    names = json.loads(done.stdout.splitlines()[-1])
    return {*names, *(name.partition(".")[0] for name in names)}


HEAVY = {"pydantic", "pydantic_settings", "msgspec", "tqdm", "tenacity", "asyncio"}
NEVER = {
    "torch",
    "numpy",
    "aiohttp",
    "uvicorn",
    "uvloop",
    "onnx",
    "onnxruntime",
    "boto3",
    "google.auth",
}


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("promote", "--help"), ("nope",)])
def test_help_is_light(words: tuple[str, ...]) -> None:
    """Help, version and refusals load the standard library and a few small modules."""
    heavy = {
        "pydantic",
        "pydantic_settings",
        "msgspec",
        "tqdm",
        "tenacity",
        "asyncio",
        "cloudreg_local",
    }

    assert not imported(*words) & (NEVER | heavy)


def test_reading_is_light(churn: Any) -> None:
    """Reading the ledger loads no SDK, no runtime and no server."""
    for words in (
        ("list",),
        ("show", "churn:1"),
        ("history", "churn"),
        ("compare", "churn:1", "churn:2"),
    ):
        assert not imported(*words, cwd=str(churn.root)) & (NEVER | {"tqdm"})
