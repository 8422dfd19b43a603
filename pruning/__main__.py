"""`python -m pruning`: the command line of `pruning.cli`."""

import sys

from pruning.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
