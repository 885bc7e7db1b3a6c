"""The REST API: routes that run stored operations on the GraphQL schema, and their OpenAPI description.

It may import the schema and everything below. `operations/` has a file for each subject, with routes and operations.
"""
