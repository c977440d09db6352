"""``python -m cloudreg.serving``, and ``cloudreg-serve``: see ``--help``."""

from __future__ import annotations

import logging
import os
import sys

from cloudreg.errors import CloudregError
from cloudreg.serving.options import read


def main() -> None:
    """Serve until a signal; never returns."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        options = read(sys.argv[1:], os.environ)
        from cloudreg.serving.server import serve

        code = serve(options)
    except CloudregError as error:
        sys.stderr.write(f"{error}\n")
        code = error.exit_code
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: a thread may be deep in a model, and torch's own end takes seconds.
    os._exit(code)


if __name__ == "__main__":
    main()
