"""Events: their types, the outbox and relay that publish them to Kafka, the inbox that reads them once, and live events.

It may import the models, the clients and the layers below. The reactions to events are in `app.handlers`.
"""
