"""``cloudreg doctor``: what would stop a command later, found now."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cloudreg.cli.arguments import UsageError
from cloudreg.cli.desk import Answer
from cloudreg.cli.verbs.rollout import under_way
from cloudreg.cli.words import count, size
from cloudreg.errors import CloudregError, NotFound

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk
    from cloudreg.workspace import Workspace

OK, WARN, FAIL = "ok", "warn", "fail"
LITTLE_BYTES = 2**30
"""Less free space than that is worth a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was looked at, and what was found.

    Attributes:
        name: What was looked at.
        state: ``ok``, ``warn`` or ``fail``.
        found: In people's words.
        hint: The next thing to type.
    """

    name: str
    state: str
    found: str
    hint: str = ""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument(
        "--iam",
        metavar="PROVIDER",
        help="print what a deployer must be permitted to do, as that cloud's own policy",
    )
    parser.add_argument("--target", metavar="NAME", help="with --iam: one of that provider's")
    parser.add_argument("--stage", help="with --iam: up to this stage, and not beyond")


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Look at everything, and fail where anything would."""
    if options.iam is not None:
        from cloudreg.cli.permissions import policy

        return policy(desk.workspace, options.iam, target=options.target, stage=options.stage)
    for name in ("target", "stage"):
        if getattr(options, name) is not None:
            raise UsageError(f"--{name} says which policy --iam prints", hint="add --iam PROVIDER")
    checks = list(_all(desk))
    failed = sum(check.state == FAIL for check in checks)
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.state:<4}  {check.name:<{width}}  {check.found}")
        if check.hint:
            lines.append(f"{' ' * (width + 8)}hint: {check.hint}")
    return Answer(
        facts={"checks": checks, "ok": not failed}, text=lines, exit_code=1 if failed else 0
    )


def _all(desk: Desk) -> Iterator[Check]:
    from cloudreg import __version__

    version = ".".join(map(str, sys.version_info[:3]))
    yield Check(name="python", state=OK, found=f"{version}, cloudreg {__version__}")
    if shutil.which("git"):
        yield Check(name="git", state=OK, found="found: commits are recorded with versions")
    else:
        yield Check(name="git", state=WARN, found="not found: no commit is recorded with versions")
    try:
        workspace = desk.workspace
    except CloudregError as error:
        yield _failed("configuration", error)
        yield from _extras({"serving"})
        return
    settings = workspace.settings
    yield Check(
        name="configuration",
        state=OK,
        found=f"home {settings.home}; {', '.join(settings.order)}; "
        f"{count(len(settings.endpoints), 'endpoint')}; you are {workspace.actor}",
    )
    extras = {"serving"}
    for target in workspace.targets:
        yield _target(workspace, target)
        extra = _extra(settings.targets[target].provider)
        extras |= {extra} if extra else set()
    yield from _ledgers(workspace)
    yield from _extras(extras)
    yield _disk(workspace.root)


def _failed(name: str, error: CloudregError) -> Check:
    return Check(name=name, state=FAIL, found=error.message, hint=error.hint or "")


def _target(workspace: Workspace, target: str) -> Check:
    provider = workspace.settings.targets[target].provider
    name = f"target {target}"
    try:
        opened = workspace.targets[target]
        next(iter(opened.store.list("ledger/")), None)
        endpoints = len(list(opened.endpoints.endpoints()))
    except CloudregError as error:
        return _failed(name, error)
    running = count(endpoints, "endpoint")
    return Check(name=name, state=OK, found=f"{provider}: its store answers; {running}")


def _extra(provider: str) -> str | None:
    from cloudreg.plugins import provider_plugin

    try:
        return provider_plugin(provider).extra
    except CloudregError:
        return None  # the target's own check says so


def _ledgers(workspace: Workspace) -> Iterator[Check]:
    try:
        models = [summary.model for summary in workspace.models()]
        versions = 0
        for model in models:
            versions += workspace.fold(model).last_number
            work = under_way(workspace, model)
            if work is not None:
                hint = f"cloudreg rollout resume {model}" if work.paused else ""
                yield Check(name=f"model {model}", state=WARN, found=str(work), hint=hint)
    except CloudregError as error:
        yield _failed("ledger", error)
        return
    found = f"{count(len(models), 'model')}, {count(versions, 'version')}, readable to their heads"
    hint = f"cloudreg history {models[0]} --verify reads every entry" if models else ""
    yield Check(name="ledger", state=OK, found=found, hint=hint)


def _extras(wanted: set[str]) -> Iterator[Check]:
    """Say whether the model server can run here, and which models it can load."""
    for extra in sorted(wanted):
        try:
            missing = _missing(extra)
        except NotFound as error:
            yield _failed(f"extra {extra}", error)
            continue
        if missing:
            yield Check(
                name=f"extra {extra}",
                state=WARN,
                found=f"{', '.join(missing)} missing: no model server can run here",
                hint=f"pip install 'cloudreg[{extra}]'",
            )
        else:
            yield Check(name=f"extra {extra}", state=OK, found="complete")
    for runtime, module in (("torch", "torch"), ("onnx", "onnxruntime")):
        # Found, not imported: that alone takes seconds.
        if importlib.util.find_spec(module) is not None:
            yield Check(name=f"runtime {runtime}", state=OK, found=f"{module} is there")
        else:
            yield Check(
                name=f"runtime {runtime}",
                state=WARN,
                found=f"{module} is missing: {runtime} models cannot be served here",
                hint=f"pip install 'cloudreg[{runtime}]'",
            )


def _missing(extra: str) -> list[str]:
    """Return the distributions of an extra that are not installed.

    Raises:
        NotFound: This is no installed cloudreg.
    """
    try:
        requirements = importlib.metadata.requires("cloudreg") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise NotFound("cloudreg is not installed", hint="pip install cloudreg") from error
    missing = []
    for text in requirements:
        if not re.search(rf"extra\s*==\s*['\"]{re.escape(extra)}['\"]", text):
            continue
        match = re.match(r"[A-Za-z0-9._-]+", text)
        name = match[0] if match else text
        if name == "cloudreg":
            inner = re.search(r"\[([^\]]+)\]", text)
            for other in (inner[1] if inner else "").split(","):
                missing += _missing(other.strip())
            continue
        if "sys_platform" in text and sys.platform == "win32":
            continue  # the one marker that the extras use: not for Windows
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    return sorted(set(missing))


def _disk(root: Path) -> Check:
    free = shutil.disk_usage(root).free
    state = OK if free >= LITTLE_BYTES else WARN
    return Check(name="disk", state=state, found=f"{size(free)} free beside cloudreg.toml")
