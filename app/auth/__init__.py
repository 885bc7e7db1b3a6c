"""Access to operations: tokens, the caller and the viewer, the context, and the rule of each operation.

It may import events and the layers below.
"""
