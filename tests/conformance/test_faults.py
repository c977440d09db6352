"""Faults strike the call they name, once, and can be seen to have struck."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cloudreg import plugins
from cloudreg.errors import AlreadyExists, InvalidRequest, NotFound, QuotaExceeded, Unavailable
from cloudreg.provider import Provider, ProviderContext
from cloudreg.testing.conformance import make_version
from cloudreg.testing.faults import VERBS, Action, Call, Fault, Faults, When, faulty, recorded
from cloudreg.testing.run import VARIABLE, environment, from_environment, main
from cloudreg.types import EndpointSpec, Variant
from cloudreg_local import PLUGIN

PROGRAM = """
import sys
from pathlib import Path
from cloudreg import plugins
from cloudreg.provider import ProviderContext

plugin = plugins.provider_plugin("local")
context = ProviderContext(target="child", root=Path(sys.argv[1]))
store = plugins.open_provider(plugin, plugin.settings()(), context).store
for key in sys.argv[2:]:
    store.put(key.encode(), key)
    print(key, flush=True)
"""

Opener = Callable[..., tuple[Provider, Faults]]


def opened(root: Path, *, target: str = "laptop") -> Provider:
    return PLUGIN.open(PLUGIN.settings()(), ProviderContext(target=target, root=root))


@pytest.fixture
def struck(tmp_path: Path) -> Opener:
    """Open a local target that the given faults strike."""

    def make(*faults: Fault, target: str = "laptop") -> tuple[Provider, Faults]:
        made = Faults(faults)
        plugin = faulty(PLUGIN, made)
        context = ProviderContext(target=target, root=tmp_path)
        return plugin.open(plugin.settings()(), context), made

    return make


def keys(provider: Provider, prefix: str = "") -> list[str]:
    return [stored.key for stored in provider.store.list(prefix)]


def test_calls_are_recorded(struck: Opener, tmp_path: Path) -> None:
    """Every call that changes something is recorded, in order; looks are not."""
    provider, faults = struck()
    version = make_version(opened(tmp_path).store, 1, model="churn")
    spec = EndpointSpec(
        name="churn-prod",
        stage="prod",
        variants=(Variant(name="primary", model="churn", number=1, digest="sha256:" + "0" * 64),),
    )
    provider.store.put(b"x", "a")
    provider.store.copy("a", "b")
    provider.store.delete("a")
    provider.registry.publish(version)
    provider.registry.point("churn", "prod", version.digest)
    provider.registry.point("churn", "prod", None)
    provider.registry.withdraw("churn", version.digest)
    for verb in (provider.endpoints.create, provider.endpoints.update):
        with pytest.raises(InvalidRequest):
            verb(spec, artifacts={})
    provider.endpoints.delete("churn-prod")

    provider.store.open("b").close()
    provider.store.get("b", tmp_path / "b")
    assert keys(provider, "b") == ["b", *[k for k in keys(provider) if k.startswith("blobs/")]]
    assert list(provider.registry.published("churn")) == []
    assert list(provider.endpoints.endpoints()) == []
    assert provider.endpoints.endpoint("churn-prod") is None
    for look in (
        lambda: provider.endpoints.logs("churn-prod"),
        lambda: provider.endpoints.metrics("churn-prod", window_s=1.0),
        lambda: provider.endpoints.invoke("churn-prod", b"", content_type="x/y", timeout_s=1.0),
    ):
        with pytest.raises(NotFound):
            look()
    provider.close()

    assert [(call.verb, call.subject) for call in faults.calls] == [
        ("store.put", "a"),
        ("store.copy", "b"),
        ("store.delete", "a"),
        ("registry.publish", "churn"),
        ("registry.point", "churn/prod"),
        ("registry.point", "churn/prod"),
        ("registry.withdraw", "churn"),
        ("endpoints.create", "churn-prod"),
        ("endpoints.update", "churn-prod"),
        ("endpoints.delete", "churn-prod"),
    ]
    assert {call.verb for call in faults.calls} == set(VERBS)
    assert [call.number for call in faults.calls] == list(range(1, 11))
    assert provider.capabilities == opened(tmp_path).capabilities


def test_before(struck: Opener) -> None:
    """A fault before the call: nothing is done, and the next call goes through."""
    provider, faults = struck(Fault(call=2))
    provider.store.put(b"1", "a")
    with pytest.raises(Unavailable, match=r"call 2: store.put b \(not done\)") as caught:
        provider.store.put(b"2", "b")
    assert keys(provider) == ["a"]

    provider.store.put(b"3", "c")
    assert keys(provider) == ["a", "c"]
    assert caught.value.target == "laptop"
    assert [call.number for call, _ in faults.struck] == [2]


@pytest.mark.parametrize("when", [When.AFTER, When.LOST])
def test_done_without_an_answer(struck: Opener, when: When) -> None:
    """A fault after the call: it is done, and the caller hears that nobody knows."""
    provider, faults = struck(Fault(when=when))
    with pytest.raises(Unavailable, match=r"\(done\)"):
        provider.store.put(b"1", "a", if_absent=True)

    assert keys(provider) == ["a"]
    assert len(faults.struck) == 1
    with pytest.raises(AlreadyExists):
        provider.store.put(b"1", "a", if_absent=True)


def test_refusal_is_lost(struck: Opener) -> None:
    """A refusal is an answer, too: it is lost like any other, and stays the cause to be read."""
    provider, faults = struck(Fault(when=When.LOST, verb="store.copy"))
    with pytest.raises(Unavailable, match=r"\(refused\)") as caught:
        provider.store.copy("missing", "a")

    assert isinstance(caught.value.__context__, NotFound)
    assert len(faults.struck) == 1
    with pytest.raises(NotFound):
        provider.store.copy("missing", "a")


def test_own_error(struck: Opener) -> None:
    """A fault raises the error that it was given."""
    error = QuotaExceeded("no more endpoints", target="laptop")
    provider, _ = struck(Fault(verb="endpoints", error=error))
    with pytest.raises(QuotaExceeded) as caught:
        provider.endpoints.delete("churn-prod")

    assert caught.value is error


def test_filters(struck: Opener) -> None:
    """A fault counts only the calls of its verb and subject: the second put below ledger/."""
    provider, faults = struck(Fault(verb="store.put", subject="ledger/", call=2))
    provider.store.put(b"", "ledger/1")
    provider.store.put(b"", "blobs/1")
    provider.store.put(b"", "blobs/2")
    provider.store.copy("blobs/1", "ledger/copy")
    with pytest.raises(Unavailable):
        provider.store.put(b"", "ledger/2")
    provider.store.put(b"", "ledger/3")

    assert [(call.number, call.subject) for call, _ in faults.struck] == [(5, "ledger/2")]


def test_half_a_verb_means_its_part(struck: Opener) -> None:
    """The first half of a verb means every call to that part, and not to another."""
    provider, _ = struck(Fault(verb="registry"))
    provider.store.put(b"", "a")
    with pytest.raises(Unavailable):
        provider.registry.withdraw("churn", "sha256:" + "0" * 64)


def test_filter_by_target(tmp_path: Path) -> None:
    """Targets that share their faults are counted together, and told apart by name."""
    faults = Faults([Fault(target="gcp", call=1)])
    plugin = faulty(PLUGIN, faults)
    first, second = (
        plugin.open(plugin.settings()(), ProviderContext(target=name, root=tmp_path / name))
        for name in ("aws", "gcp")
    )
    first.store.put(b"", "a")
    with pytest.raises(Unavailable):
        second.store.put(b"", "a")

    assert [(call.number, call.target) for call in faults.calls] == [(1, "aws"), (2, "gcp")]


def test_several_faults(struck: Opener) -> None:
    """Each fault counts for itself, and strikes once."""
    provider, faults = struck(Fault(call=1), Fault(call=3, when=When.LOST))
    outcomes = []
    for number in range(4):
        try:
            provider.store.put(b"", str(number))
            outcomes.append("done")
        except Unavailable:
            outcomes.append("unavailable")

    assert outcomes == ["unavailable", "done", "unavailable", "done"]
    assert keys(provider) == ["1", "2", "3"]
    assert len(faults.struck) == 2


def test_one_of_many_threads(struck: Opener) -> None:
    """Of many threads exactly one meets the fault."""
    provider, faults = struck(Fault(call=5))
    errors: list[Exception] = []

    def put(number: int) -> None:
        try:
            provider.store.put(b"", str(number))
        except Unavailable as error:
            errors.append(error)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(errors) == len(faults.struck) == 1
    assert sorted(call.number for call in faults.calls) == list(range(1, 17))


@pytest.mark.parametrize(
    "wrong",
    [
        {"call": 0},
        {"verb": "store.get"},
        {"verb": "sto"},
        {"when": When.LOST, "action": Action.KILL},
        {"when": When.LOST, "error": QuotaExceeded("x")},
        {"action": Action.STOP, "error": QuotaExceeded("x")},
    ],
    ids=str,
)
def test_fault_that_cannot_be(wrong: dict[str, object]) -> None:
    """A fault that could never strike, or contradicts itself, is refused when it is made."""
    with pytest.raises(InvalidRequest):
        Fault(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "document",
    [None, [], {"cal": 1}, {"call": 0}, {"when": "later"}, {"action": "explode"}, {"call": "x"},
     {"error": "x"}, {"when": "lost", "action": "kill"}],
    ids=json.dumps,
)  # fmt: skip
def test_wrong_json(document: object) -> None:
    """A fault is read from JSON without a guess: unknown keys and words are refused."""
    with pytest.raises(InvalidRequest):
        Fault.from_json(document)


def test_json_round_trip() -> None:
    """A fault comes back from JSON as it was; one with an error of its own does not go."""
    fault = Fault(call=3, verb="store.put", subject="ledger/", target="aws", action=Action.KILL)

    assert Fault.from_json(json.loads(json.dumps(fault.to_json()))) == fault
    assert Fault.from_json({}) == Fault()
    with pytest.raises(InvalidRequest):
        Fault(error=QuotaExceeded("x")).to_json()


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def start(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cloudreg.testing.run", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    )


@pytest.mark.parametrize(("when", "there"), [("before", ["a"]), ("after", ["a", "b"])])
@pytest.mark.parametrize("way", ["arguments", "environment"])
def test_kill(tmp_path: Path, program: Path, when: str, there: list[str], way: str) -> None:
    """A process is killed at its n-th change, before or after it, and leaves its record."""
    record = tmp_path / "calls.jsonl"
    fault = Fault(call=2, when=When(when), action=Action.KILL)
    if way == "arguments":
        options: list[str | Path] = ["--fault", json.dumps(fault.to_json()), "--record", record]
        env = None
    else:
        options, env = [], environment([fault], record=record)
    with start(*options, program, tmp_path, "a", "b", "c", env=env) as child:
        said = child.communicate()

    assert child.returncode == -signal.SIGKILL, said
    assert said[0] == "a\n"
    assert keys(opened(tmp_path)) == there
    assert recorded(record) == [
        Call(number=n, target="child", verb="store.put", subject=key)
        for n, key in ((1, "a"), (2, "b"))
    ]


def test_stop(tmp_path: Path, program: Path) -> None:
    """A process halts in the middle of a change, and goes on with it when it is told to."""
    fault = json.dumps({"call": 2, "action": "stop"})
    with start("--fault", fault, program, tmp_path, "a", "b", "c") as child:
        assert os.waitpid(child.pid, os.WUNTRACED)[1] >> 8 == signal.SIGSTOP
        halted = keys(opened(tmp_path))
        os.kill(child.pid, signal.SIGCONT)
        said = child.communicate()

    assert halted == ["a"]
    assert (child.returncode, said[0]) == (0, "a\nb\nc\n"), said
    assert keys(opened(tmp_path)) == ["a", "b", "c"]


def test_record_alone(tmp_path: Path, program: Path) -> None:
    """Without a fault the runner only records, and the program runs as it would alone."""
    with start("--record", tmp_path / "calls", program, tmp_path, "a", "--fault") as child:
        said = child.communicate()

    assert (child.returncode, said) == (0, ("a\n--fault\n", ""))
    assert [call.subject for call in recorded(tmp_path / "calls")] == ["a", "--fault"]
    assert recorded(tmp_path / "never written") == []


def test_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program may be a function, whose answer is the exit code."""
    (tmp_path / "kit_program.py").write_text(
        "import sys\ndef main():\n    return int(sys.argv[1])\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "argv", [])

    assert main(["kit_program:main", "4"]) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fault", "{", "x:y"], "no JSON"),
        (["--fault", '{"cal": 1}', "x:y"], "cal"),
        (["--fault", "{}", "--provider", "nobody", "x:y"], "nobody"),
        (["plain"], "module:function"),
        ([], "program"),
    ],
    ids=str,
)
def test_wrong_arguments(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the runner cannot read ends it with the reason, before the program starts."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert caught.value.code == 2
    assert words in capsys.readouterr().err


def test_two_sources(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Options and environment at once are refused: one of them would be ignored."""
    monkeypatch.setenv(VARIABLE, environment()[VARIABLE])
    with pytest.raises(SystemExit):
        main(["--fault", "{}", "x:y"])

    assert VARIABLE in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"provider": "local", "faults": [{"x": 1}], "record": null}']
)
def test_wrong_environment(text: str) -> None:
    """A variable that holds something else is refused, and registers nothing."""
    before = plugins.provider_plugin("local")
    with pytest.raises(InvalidRequest):
        from_environment({VARIABLE: text})

    assert plugins.provider_plugin("local") is before


def test_no_environment() -> None:
    """Without the variable there is no fault; its name is none that the settings look at."""
    assert from_environment({}) is None
    assert not VARIABLE.startswith("CLOUDREG_")


def test_child_imports_no_test_runner(tmp_path: Path, program: Path) -> None:
    """A process that is to be crashed does without pytest."""
    program.write_text(PROGRAM + "\nprint('pytest' in sys.modules)\n")
    with start(program, tmp_path) as child:
        said = child.communicate()

    assert said == ("False\n", "")
