"""What authors of providers test with: the conformance kit, faults and a clock.

* `cloudreg.testing.conformance`: pytest classes to subclass; they judge a provider.
* `cloudreg.testing.faults`: a provider whose n-th change fails, or takes the process with it.
* `cloudreg.testing.clock`: time that moves when a test says so.
* `vertex_client_options`: what Vertex AI's SDK has to be told to reach an emulator.

Only the kit needs pytest; a process that is to be crashed imports no test runner.
"""

from __future__ import annotations

import sys

from cloudreg.testing.vertex import vertex_client_options

__all__ = ["vertex_client_options"]

KIT = (
    "base", "objects", "listing", "keys", "uploads", "store", "registry", "serving", "traffic",
    "changes", "endpoints", "planning", "kinds", "streams", "batches", "watching",
    "capabilities", "conformance",
)  # fmt: skip
"""Modules whose assertions show the compared values, as those of a test file do."""

if "pytest" in sys.modules:
    # An installed package is not rewritten unless it asks before its modules are imported
    # (https://docs.pytest.org/en/stable/how-to/writing_plugins.html#assertion-rewriting).
    sys.modules["pytest"].register_assert_rewrite(*(f"{__name__}.{module}" for module in KIT))
