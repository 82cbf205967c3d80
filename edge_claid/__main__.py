"""The command ``edge-claid``, also as ``python -m edge_claid``: loading it takes seconds on a small board."""

from __future__ import annotations

import sys


def main() -> None:
    """Load the command and run it; an interrupt meanwhile is one line too."""
    try:
        from edge_claid.cli.app import main as run
    except KeyboardInterrupt:
        print("edge-claid: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    run()


if __name__ == "__main__":
    main()
