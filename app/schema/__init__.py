"""The GraphQL API: one schema, one file for each subject, and its transports. REST is a table of stored operations on it.

It may import the resolvers and everything below.
"""
