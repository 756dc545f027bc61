"""`python -m labelwise`: the same as the console script."""

from commands import main

main()
