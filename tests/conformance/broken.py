"""All mutants."""

import broken_batches  # noqa: F401
import broken_capabilities  # noqa: F401  # each registers its own
import broken_endpoints  # noqa: F401
import broken_kinds  # noqa: F401
import broken_registry  # noqa: F401
import broken_store  # noqa: F401
import broken_uploads  # noqa: F401
from mutants import MUTANTS

__all__ = ["MUTANTS"]
