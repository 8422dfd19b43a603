"""The same work without a browser: `python -m pruning COMMAND`, where `--help` lists the commands.

Exit codes: 0 done, 2 bad input (the message says what to change), 3 `verify` found a difference, 1 anything else, 130
interrupted, 141 nobody reads what it writes any more.
"""

import sys
from collections.abc import Sequence

from pruning.cli import console
from pruning.cli.parser import build_parser
from pruning.starting import undisturbed


@console.command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Results go to stdout, everything else to stderr."""
    with undisturbed():
        options = build_parser(sys.argv[1:] if arguments is None else arguments).parse_args(arguments)
    try:
        with undisturbed():
            from pruning.cli.commands import COMMANDS  # with PyTorch and all that it needs

        return COMMANDS[options.command](options) or 0
    except ValueError as error:
        return _fail(2, str(error))
    except BrokenPipeError:  # an OSError, and no fault
        raise
    except KeyboardInterrupt:
        return _fail(130, "interrupted")
    except (RuntimeError, OSError, MemoryError) as error:
        return _fail(1, f"{type(error).__name__}: {error}")


def _fail(code: int, message: str) -> int:
    sys.stderr.write(f"error: {message}\n")
    return code
