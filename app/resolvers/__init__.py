"""The operations, one function each: rules for one viewer, one transaction, and the events of the change.

It may import auth, services and everything below. GraphQL, REST, the bot and the command line call these functions.
"""
