"""Handlers of the events process: they react to events in Kafka, and work on the tasks of the outbox.

It may import services and the layers below. One file for each subject; `subscribers` connects them.
"""
