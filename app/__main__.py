"""`python -m app` is `lunch-bot`."""

from app.cli import main

main()
