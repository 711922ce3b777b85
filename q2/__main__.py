"""``python -m q2`` is the command line."""

from q2.cli import main

main()
