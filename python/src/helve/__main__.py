"""``python -m helve`` is the command line."""

from helve._cli import main

main()
