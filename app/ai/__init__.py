"""Recommendations from Gemini: the prompt, the client, the key pool, and the models of the answer and the statistics.

This package imports only `app.settings`, `app.log`, `app.errors` and `app.redis_scripts`, and knows nothing of the database.
"""
