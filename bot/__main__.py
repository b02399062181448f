"""`python -m bot` is `threadbot`."""

from bot.cli import main

main()
