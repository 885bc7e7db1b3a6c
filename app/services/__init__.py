"""Rules and queries that several operations, event handlers and jobs share, most of them in the caller's session.

It may import Telegram's texts, the AI package, events and the layers below. It knows no viewer: access belongs to `app.resolvers`.
"""
