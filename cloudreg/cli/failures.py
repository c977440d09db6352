"""What an error looks like, and which exit code it has."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from cloudreg.cli.arguments import UsageError
from cloudreg.cli.words import clean, forget, tell
from cloudreg.errors import CloudregError

BUG = 70
INTERRUPTED = 130
TRACEBACK = "CLOUDREG_TRACEBACK"


def report(error: BaseException, *, as_json: bool) -> int:
    """Print *error* and return the exit code.

    Args:
        error: Whatever ended the command.
        as_json: On stdout, and nothing on stderr.
    """
    wanted = os.environ.get(TRACEBACK, "") not in ("", "0")
    if wanted:
        import traceback

        traceback.print_exception(error)
    document = _document(error)
    try:
        if as_json:
            print(clean(json.dumps(document, ensure_ascii=False)))
            sys.stdout.flush()
        else:
            _print(error, document, wanted=wanted)
    except OSError:  # nobody reads it, or there is no room; the exit code says it too
        forget(sys.stdout)
    return int(document["exit_code"])


def _document(error: BaseException) -> dict[str, Any]:
    if isinstance(error, CloudregError):
        document = error.to_json()
    elif isinstance(error, KeyboardInterrupt):
        document = {"error": "Interrupted", "message": "interrupted", "exit_code": INTERRUPTED}
    else:
        document = {
            "error": type(error).__name__,
            "message": f"unexpected {type(error).__name__}: {error}",
            "exit_code": BUG,
        }
    notes = getattr(error, "__notes__", ())
    return {**document, "notes": list(notes)} if notes else document


def _print(error: BaseException, document: dict[str, Any], *, wanted: bool) -> None:
    usage = error.usage if isinstance(error, UsageError) else ""
    text = str(error) if isinstance(error, CloudregError) else str(document["message"])
    lines = [*usage.splitlines(), *f"error: {text}".splitlines()]
    lines += [f"  note: {note}" for note in document.get("notes", ())]
    if document["exit_code"] == BUG and not wanted:
        lines.append(f"  hint: this is a bug; {TRACEBACK}=1 shows where it happened")
    for line in lines:
        tell(line, sys.stderr)
