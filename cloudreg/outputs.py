"""What Terraform says of the targets: one output of a root, as a layer below ``cloudreg.toml``.

It comes from what ``terraform output -json`` printed, from terraform itself, or from the outputs
of a state file. Nothing else of a state is looked at, and no other output is kept: they may hold
secrets.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloudreg.errors import ConfigError

CONTRACT = 1
"""Of the output; ``terraform/README.md`` says what it holds."""

STATE_VERSION = 4
"""Of a state file's format, the only one whose outputs are known to stand where we look."""

PROGRAMS = ("terraform", "tofu")
PATIENCE_S = 120.0
"""For a program that may have to ask a remote backend."""

STDIN = "-"

_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What one output says.

    Attributes:
        name: Where it stands, for messages.
        document: Sections of a configuration, to be laid below the file.
        facts: What other tools may want to know; nothing is decided by it.
    """

    name: str
    document: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def read(
    root: Path,
    *,
    outputs: str | None = None,
    chdir: str | None = None,
    state: str | None = None,
    output: str = "cloudreg",
) -> Outputs | None:
    """Return what Terraform says; None where nothing tells where to look.

    Args:
        root: The folder that relative paths start from.
        outputs: A file with what ``terraform output -json`` printed; ``-`` is standard input.
        chdir: The folder of a root, where terraform is asked.
        state: A state file; a remote one is fetched by ``terraform state pull``.
        output: The output's name.

    Raises:
        ConfigError: It cannot be read, or is not what this cloudreg understands.
    """
    if outputs is not None:
        text, place = _file(root, outputs), "standard input" if outputs == STDIN else outputs
        found = _object(text, place, hint="terraform output -json > outputs.json")
    elif chdir is not None:
        place = chdir
        found = _object(_asked(root / chdir, chdir), place, hint=f"terraform -chdir={chdir} init")
    elif state is not None:
        place = state
        found = _of_state(_object(_file(root, state), place, hint="terraform state pull"), place)
    else:
        return None
    name = f"output {output!r} of Terraform ({place})"
    if output not in found:
        known = ", ".join(sorted(found)[:10]) or "none"
        raise ConfigError(
            f"{place}: Terraform has no output {output!r}; there are {known}",
            hint=f'output "{output}" in the root, then terraform apply',
        )
    return _understood(found[output], name)


def _understood(entry: Any, name: str) -> Outputs:
    """Return the layer that an output is.

    Raises:
        ConfigError: It is secret, of another contract, or of another shape.
    """
    if not isinstance(entry, Mapping) or "value" not in entry:
        raise ConfigError(f"{name}: not an output as Terraform prints one: it has no value")
    if entry.get("sensitive"):
        raise ConfigError(
            f"{name}: it is sensitive, and what it holds stands in plans and errors",
            hint="take what is secret out of it: cloudreg needs no secrets, "
            "its credentials come from the cloud's own chain",
        )
    value = entry["value"]
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name}: an object is wanted, not a {type(value).__name__}")
    contract = value.get("contract")
    if contract != CONTRACT or isinstance(contract, bool):
        raise ConfigError(
            f"{name}: it speaks contract {contract!r}, this cloudreg speaks {CONTRACT}",
            hint="use the modules and the cloudreg of one release",
        )
    unknown = sorted(set(value) - {"contract", "targets", "facts"})
    if unknown:
        raise ConfigError(f"{name}: unknown key {unknown[0]!r}", hint="known are targets and facts")
    targets, facts = value.get("targets") or {}, value.get("facts") or {}
    for key, part in (("targets", targets), ("facts", facts)):
        if not isinstance(part, Mapping):
            raise ConfigError(f"{name}: {key}: an object is wanted, not a {type(part).__name__}")
    for target, section in targets.items():
        if not isinstance(section, Mapping):
            raise ConfigError(
                f"{name}: targets.{target}: an object is wanted, not a {type(section).__name__}"
            )
    return Outputs(
        name=name, document={"targets": _set(targets)} if targets else {}, facts=dict(facts)
    )


def _set(value: Any) -> Any:
    """Return *value* without the keys that are null: Terraform's way of not setting one."""
    if isinstance(value, Mapping):
        return {key: _set(item) for key, item in value.items() if item is not None}
    return [_set(item) for item in value] if isinstance(value, list) else value


def _file(root: Path, name: str) -> str:
    try:
        if name == STDIN:
            return sys.stdin.read() if sys.stdin is not None else ""
        return (root / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"{name}: what Terraform says cannot be read: {reason}",
            hint=f"terraform output -json > {name}" if name != STDIN else None,
        ) from error


def _object(text: str, place: str, *, hint: str) -> Mapping[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{place}: not the JSON that Terraform prints: {error}", hint=hint
        ) from error
    if not isinstance(document, dict):
        raise ConfigError(f"{place}: not the JSON that Terraform prints: no object", hint=hint)
    return document


def _of_state(document: Mapping[str, Any], place: str) -> Mapping[str, Any]:
    if document.get("version") != STATE_VERSION:
        raise ConfigError(
            f"{place}: a state of version {document.get('version')!r}, "
            f"only {STATE_VERSION} is understood",
            hint='outputs = "outputs.json" in [terraform], from terraform output -json',
        )
    found = document.get("outputs")
    return found if isinstance(found, Mapping) else {}


def _asked(folder: Path, shown: str) -> str:
    """Return what terraform, or else tofu, prints of a root."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        raise ConfigError(
            f"{shown}: neither terraform nor tofu is on the PATH",
            hint='outputs = "outputs.json" in [terraform], from terraform output -json',
        )
    if not folder.is_dir():
        raise ConfigError(f"{shown}: there is no such folder", hint="chdir in [terraform]")
    name = Path(program).name
    try:
        done = subprocess.run(
            [program, f"-chdir={folder}", "output", "-json", "-no-color"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=PATIENCE_S,
            env={**os.environ, "TF_IN_AUTOMATION": "1", "TF_INPUT": "0"},
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(
            f"{shown}: {name} output said nothing for {PATIENCE_S:g} s",
            hint=f"{name} -chdir={shown} output -json",
        ) from error
    if done.returncode != 0:
        raise ConfigError(
            f"{shown}: {name} output failed: {_error(done.stderr.decode(errors='replace'))}",
            hint=f"{name} -chdir={shown} init",
        )
    return done.stdout.decode(errors="replace")


def _error(said: str) -> str:
    """Return the first error of what terraform wrote, in one line and without its frame."""
    lines = [line.strip(" │╷╵") for line in _ESCAPES.sub("", said).splitlines()]
    lines = [line for line in lines if line]
    first = next((n for n, line in enumerate(lines) if line.startswith("Error:")), 0)
    return " ".join(lines[first : first + 3])[:500] or "without a word"
