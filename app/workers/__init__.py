"""Jobs of the worker process: deadlines, checks, reminders, recommendations and housekeeping.

It may import services and the layers below. The jobs hold no state: everything is in PostgreSQL and Redis.
"""
