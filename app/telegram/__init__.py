"""Telegram: texts, buttons, calls to the Bot API, and its limits.

It knows nothing of the database. It may import the AI package's models, the log and Redis scripts.
"""
