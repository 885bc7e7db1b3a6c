"""Recommendations from Gemini: the prompt, the client, the key pool, and the models of the answer and the statistics.

It knows nothing of the database. It may import settings, the log and Redis scripts.
"""
