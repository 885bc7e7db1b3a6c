"""The context of an operation that comes through an API."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from app.auth.context import Context


@dataclass
class OperationContext(Context):
    """The context of a resolver, with what only the transports need.

    Args:
        loaders: Data loaders, which combine the reads of sibling fields.
        subscribed: Set once the operation has subscribed to live events.
        connection_params: The payload of a socket's `connection_init`. Strawberry sets it.
    """

    loaders: dict[object, Any] = field(default_factory=dict, repr=False)
    subscribed: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    connection_params: object = field(default=None, repr=False)
