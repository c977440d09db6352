"""``python -m cloudreg``, the same as ``cloudreg``."""

import sys

from cloudreg.cli import main

if __name__ == "__main__":
    sys.exit(main())
