"""The processes: api, events, worker and bot, and what they share: a server, background tasks, health.

It may import every other package but the command line and what is for development.
"""
