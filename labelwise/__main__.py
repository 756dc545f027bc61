"""`python -m labelwise`: the same as the console script."""

from labelwise.cli import main

main()
