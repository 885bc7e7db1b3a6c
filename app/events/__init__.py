"""Events: their types, the outbox and relay that publish them to Kafka, the inbox that reads them once, and live events.

It may import the models and the clients. What reacts to events is in `app.handlers`.
"""
