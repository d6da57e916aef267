"""`python -m interp` is the same as the command `interp`."""

import sys

from interp.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
