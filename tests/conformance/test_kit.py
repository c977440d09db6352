"""The kit can fail: every broken provider is noticed, and a sound one passes."""

from __future__ import annotations

import ast
import importlib
import re
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from cloudreg import testing
from cloudreg.capabilities import Capabilities
from cloudreg.testing.capabilities import LESSER
from cloudreg.testing.conformance import (
    CapabilityTests,
    EndpointTests,
    ProviderTests,
    RegistryTests,
    StoreTests,
)

pytest_plugins = ["pytester"]

_SLIP = re.compile(r"^(TypeError|NameError|AttributeError|ImportError)\b", re.MULTILINE)

PARTS = (StoreTests, RegistryTests, EndpointTests, CapabilityTests)

SOUND = """
from cloudreg.testing.conformance import ProviderTests
from memory import BARE, BareEndpoints, MemoryTests

class TestSound(MemoryTests, ProviderTests):
    pass

class TestBare(MemoryTests, ProviderTests):
    parts = {"capabilities": BARE, "endpoints": BareEndpoints}
"""

BROKEN = """
from broken import MUTANTS
from memory import MemoryTests

for number, mutant in enumerate(MUTANTS):
    # Of the kit's tests only the one that has to notice.
    others = {
        name: None for name in dir(mutant.kit) if name.startswith("test_") and name != mutant.test
    }
    name = f"Test_{number}_{mutant.name}_{mutant.test}"
    knobs = {"parts": mutant.parts, "threads": 8, "endpoint_timeout_s": 1.0}
    globals()[name] = type(name, (MemoryTests, mutant.kit), {**others, **knobs})
"""


def promises(*kits: type) -> set[str]:
    return {name for kit in kits for name in dir(kit) if name.startswith("test_")}


def run(pytester: pytest.Pytester, source: str) -> Any:
    pytester.syspathinsert(Path(__file__).parent)
    return pytester.inline_run(
        str(pytester.makepyfile(source)),
        *("-q", "-W", "error", "-p", "no:cacheprovider", "--tb=native"),
    )


def test_sound_providers_pass(pytester: pytest.Pytester) -> None:
    """A sound provider passes every test, and one that can do little fails none."""
    passed, skipped, failed = run(pytester, SOUND).listoutcomes()
    full = {
        report.nodeid.split("::")[2].partition("[")[0]
        for report in passed
        if "TestSound" in report.nodeid
    }

    assert failed == []
    assert full == promises(ProviderTests)
    assert all("TestBare" in report.nodeid for report in skipped)


def test_broken_providers_are_noticed(pytester: pytest.Pytester) -> None:
    """Each broken provider turns the very test red that speaks of it; each test can turn red."""
    failed = run(pytester, BROKEN).listoutcomes()[2]
    mutants = importlib.import_module("broken").MUTANTS
    red = {report.nodeid.split("::")[1] for report in failed if report.when == "call"}
    wanted = {f"Test_{n}_{m.name}_{m.test}": m for n, m in enumerate(mutants)}
    # A slip in the mutant itself is no merit of the kit.
    slips = [r.nodeid for r in failed if _SLIP.search(r.longreprtext)]
    unnoticed = [name for name in wanted if name not in red]
    print(f"{len(red)} of {len(wanted)} mutants noticed, {len({m.name for m in mutants})} kinds")

    assert slips == []
    assert unnoticed == []
    assert promises(ProviderTests) - {m.test for m in mutants} == set()


def test_parts_do_not_hide_each_other() -> None:
    """No two parts of the kit have a test of one name: the bundle would lose one of them."""
    count = Counter(
        name for kit in ProviderTests.__mro__ for name in vars(kit) if name.startswith("test_")
    )

    assert [name for name, times in count.items() if times > 1] == []
    assert promises(ProviderTests) == promises(*PARTS)


def test_every_promise_is_written() -> None:
    """Every test of the kit says its promise in a sentence."""
    silent = [n for n in promises(ProviderTests) if not (getattr(ProviderTests, n).__doc__ or "")]

    assert silent == []


def test_every_capability_is_judged() -> None:
    """A capability without a reason to be less, or without a test, does not go unnoticed."""
    declared = {field.name for field in fields(Capabilities)} - {"reasons", "nearest"}

    assert set(LESSER) == declared
    tested = " ".join(promises(CapabilityTests))
    assert [name for name in declared if name not in tested] == []


def test_every_module_of_the_kit_is_rewritten() -> None:
    """Every module of the kit that needs pytest or asserts is among those that are rewritten."""
    sources = {
        path.stem: path.read_text(encoding="utf-8")
        for path in Path(testing.__file__).parent.glob("*.py")
        if path.stem != "__init__"
    }
    asserting = {
        name
        for name, text in sources.items()
        if any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(text)))
    }

    assert asserting <= set(testing.KIT) <= set(sources)


def test_failures_show_values(pytester: pytest.Pytester) -> None:
    """An assertion of the kit that fails shows what it compared, as one of a test file does."""
    pytester.makepyfile(
        """
        import pytest
        from cloudreg.testing.conformance import RegistryTests

        class Registry:
            def published(self, model):
                return ["something"]

        class TestMine(RegistryTests):
            @pytest.fixture(scope="class")
            @classmethod
            def provider(cls):
                class Provider:
                    registry = Registry()
                return Provider
        """
    )
    result = pytester.runpytest_subprocess("-k", "test_unknown_model", "-W", "error")

    result.stdout.fnmatch_lines(["*AssertionError: assert ?'something'? == ??*"])


def test_readme(pytester: pytest.Pytester) -> None:
    """The snippets of the README run as they stand."""
    text = (Path(testing.__file__).parent / "README.md").read_text(encoding="utf-8")
    kit, faults = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    result = pytester.inline_run(str(pytester.makepyfile(test_mine=kit)), "-q", "-W", "error")
    passed, skipped, failed = result.listoutcomes()

    assert {r.nodeid.split("::")[2].partition("[")[0] for r in passed} == promises(
        StoreTests, RegistryTests
    )
    assert (skipped, failed) == ([], [])
    exec(compile(faults, "README.md", "exec"), {})


def test_readme_names_every_knob() -> None:
    """Everything that a subclass can give or turn is in the README."""
    text = (Path(testing.__file__).parent / "README.md").read_text(encoding="utf-8")
    knobs = {
        name
        for kit in ProviderTests.__mro__
        for name in getattr(kit, "__annotations__", {})
        if kit.__module__.startswith("cloudreg.")
    }

    assert {"threads", "endpoint_timeout_s", "split_tolerance"} < knobs
    assert sorted(name for name in knobs if name not in text) == []
