"""``python -m edge_claid``: the command without its script."""

from edge_claid.cli.app import main

main()
