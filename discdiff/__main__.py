"""`python -m discdiff`."""

from __future__ import annotations

import sys

from discdiff.cli import main

if __name__ == "__main__":
    sys.exit(main())
