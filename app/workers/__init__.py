"""Jobs of the worker process: deadlines, checks, reminders, recommendations and housekeeping.

It may import services, Telegram and the AI package. The jobs hold no state: everything is in PostgreSQL and Redis.
"""
