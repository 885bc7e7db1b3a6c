"""The operations, one function each: rules for one viewer, one transaction, and the events of the change.

It may import auth, services and the layers below. GraphQL, REST and the bot call these functions.
"""
