"""``cloudreg init``: a configuration to begin with, explained line by line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cloudreg.cli.arguments import UsageError
from cloudreg.cli.desk import Answer
from cloudreg.errors import AlreadyExists, InvalidRequest

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk

FILE = "cloudreg.toml"
IGNORED = ".cloudreg/"

TEMPLATE = """\
# cloudreg: where models are kept, how they reach production, and where they are served.
# A key that nobody knows is an error. CLOUDREG_HOME and the like beat what stands here.

# The target that keeps the ledger: the truth about versions, stages and endpoints.
home = "local"

# A target is a provider with its place. This one is a folder and processes on this machine.
[targets.local]
provider = "local"
path = ".cloudreg"
# emulate_accelerators = true   # accept gpu = "L4" and serve on what this machine has

# Stages, first to last. A version enters the first when it is registered, and the others by
# `cloudreg promote`, one after the other.
[stages.dev]

[stages.staging]

[stages.prod]
# approvals = 1                 # how many people other than the author must agree

# Gates are what must hold before a version enters a stage. Without any here, `signature` is
# checked for every stage but the first, and `lineage` and `card` too for the last one.
# A stage that lists gates is checked by those alone; the order of the
# stages and the formats of the files always count.
#
# [[stages.prod.gates]]
# kind = "metric"               # an offline metric, by itself and against what prod serves now
# name = "val_auc"
# min = 0.9
# max_regression = 0.01
#
# [[stages.prod.gates]]
# kind = "golden"               # held-out samples, replayed against a real model server
# path = "golden.jsonl"
# min_agreement = 0.98
#
# [[stages.prod.gates]]
# kind = "signature"            # nobody who calls the version of today must break
#
# [[stages.prod.gates]]
# kind = "lineage"              # somebody else could make it again
#
# [[stages.prod.gates]]
# kind = "card"                 # intended use and limits are written down
#
# [[stages.prod.gates]]
# kind = "budget"               # what the endpoints may cost, with all replicas they may have
# usd_per_month = 1000

# An endpoint follows a stage of a model: promoting a version deploys it there.
"""

ENDPOINT = """\
[endpoints.{name}]
model = "{model}"
stage = "staging"
# gpu = "L4"                    # or {{ min_memory_gib = 24 }}; `cloudreg cost` tells the price
# schedule = {{ days = "mon-fri", from = "07:00", to = "19:00" }}    # or ttl = "8h"
"""

ROLLOUT = """\
# [endpoints.{name}.rollout]
# strategy = "canary"           # 10 % of the traffic first; all at once without
# steps = [10, 50, 100]
# bake_s = 300                  # watched that long at each step
# max_error_rate = 0.01         # undone by itself above that
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("folder", nargs="?", metavar="FOLDER", help="made if it is not there")
    parser.add_argument("--model", metavar="NAME", help="the model that the example is about")
    parser.add_argument(
        "--endpoint",
        action="store_true",
        help="switch the example on: an endpoint NAME-staging that follows the stage staging",
    )


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Write the file, unless there is one."""
    from cloudreg.names import check_model

    if options.endpoint and not options.model:
        raise UsageError("--endpoint needs --model NAME", hint="cloudreg init --help")
    if options.config is not None and options.folder is not None:
        raise UsageError("a folder and --config say the same thing: give one of them")
    model = check_model(options.model) if options.model else "churn"
    path = desk.config or Path(options.folder or ".") / FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text(model, endpoint=options.endpoint))
        ignored = _ignore(path.parent)
    except FileExistsError as error:
        if not path.exists():
            raise InvalidRequest(f"{path.parent} is no folder") from error
        raise AlreadyExists(f"{path} is there already: nothing was changed") from error
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be written: {error.strerror}") from error
    lines = [f"wrote {path}"]
    if ignored:
        lines.append(f"{IGNORED} stands in {path.parent / '.gitignore'} now")
    where = "" if path.parent.resolve() == Path.cwd() else f" --config {path}"
    return Answer(
        facts={"path": str(path), "ignored": ignored},
        text=lines,
        next=f"cloudreg register {model} FOLDER_OF_YOUR_MODEL{where}",
    )


def text(model: str, *, endpoint: bool) -> str:
    """Return the file's content."""
    example = ENDPOINT.format(name=f"{model}-staging", model=model)
    if not endpoint:
        example = "".join(f"# {line}\n" for line in example.splitlines())
    return f"{TEMPLATE}{example}#\n{ROLLOUT.format(name=f'{model}-staging')}"


def _ignore(folder: Path) -> bool:
    """Keep the local target's bytes out of git; return whether a line was added."""
    folder = folder.resolve()
    if not any((above / ".git").exists() for above in (folder, *folder.parents)):
        return False
    file = folder / ".gitignore"
    before = file.read_text(encoding="utf-8", errors="surrogateescape") if file.exists() else ""
    if {line.strip().strip("/") for line in before.splitlines()} & {IGNORED.strip("/")}:
        return False
    with file.open("a", encoding="utf-8") as writer:
        if before and not before.endswith("\n"):
            writer.write("\n")
        writer.write(f"{IGNORED}\n")
    return True
