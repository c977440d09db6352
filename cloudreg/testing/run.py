"""Run a program with a faulty provider, so that it can be crashed at its n-th change.

::

    $ python -m cloudreg.testing.run --provider local \
        --fault '{"verb": "store.put", "subject": "ledger/", "call": 2, "action": "kill"}' \
        --record calls.jsonl  cloudreg.cli:main promote churn:7 --to prod

The options come before the program, which is ``module:function`` or the path of a script; what
follows is the program's own. Where options cannot be given, the environment variable
``FAULTS_FOR_CLOUDREG`` holds them as JSON (see `environment`); its name does not begin with
``CLOUDREG_`` because the settings refuse what they do not know.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cloudreg import plugins
from cloudreg.errors import CloudregError, InvalidRequest
from cloudreg.testing.faults import Fault, Faults, faulty

VARIABLE = "FAULTS_FOR_CLOUDREG"


def environment(
    faults: Sequence[Fault] = (), *, provider: str = "local", record: Path | None = None
) -> dict[str, str]:
    """Return the variable that makes this runner, or `from_environment`, strike *faults*."""
    document = {
        "provider": provider,
        "faults": [fault.to_json() for fault in faults],
        "record": str(record) if record else None,
    }
    return {VARIABLE: json.dumps(document)}


def from_environment(environ: Mapping[str, str] = os.environ) -> Faults | None:
    """Register the faulty provider that the environment asks for; None where it asks for none.

    Raises:
        InvalidRequest: The variable holds something else than `environment` wrote.
    """
    text = environ.get(VARIABLE)
    if text is None:
        return None
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InvalidRequest(f"{VARIABLE} is no JSON: {error}") from error
    if not isinstance(document, dict) or set(document) != {"provider", "faults", "record"}:
        raise InvalidRequest(f"{VARIABLE}: an object with provider, faults and record")
    record = document["record"]
    return _registered(
        document["provider"],
        [Fault.from_json(fault) for fault in document["faults"]],
        Path(record) if record else None,
    )


def _registered(provider: str, faults: Sequence[Fault], record: Path | None) -> Faults:
    made = Faults(faults, record=record)
    plugins.register(faulty(plugins.provider_plugin(provider), made))
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program, and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m cloudreg.testing.run", allow_abbrev=False)
    parser.add_argument("--provider", default="local", help="whose plug-in is wrapped")
    parser.add_argument("--fault", action="append", default=[], help="a fault as JSON; repeatable")
    parser.add_argument("--record", type=Path, help="file that gets a line for each change")
    parser.add_argument("program", help="module:function, or the path of a script")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="the program's own arguments")
    options = parser.parse_args(arguments)
    try:
        if options.fault or options.record:
            if VARIABLE in os.environ:
                raise InvalidRequest(f"both options and {VARIABLE}: one of them would be ignored")
            faults = [Fault.from_json(_json(text)) for text in options.fault]
            _registered(options.provider, faults, options.record)
        else:
            from_environment()
    except CloudregError as error:
        parser.error(str(error))
    sys.argv = [options.program, *options.rest]
    if options.program.endswith(".py"):
        runpy.run_path(options.program, run_name="__main__")
        return 0
    module, colon, function = options.program.partition(":")
    if not colon:
        parser.error(f"program {options.program!r}: module:function, or the path of a script")
    answer = getattr(importlib.import_module(module), function)()
    return int(answer or 0)


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidRequest(f"--fault {text!r} is no JSON: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
