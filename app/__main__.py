"""`python -m app` is `lunch-bot`."""

from app.cli.main import main

main()
