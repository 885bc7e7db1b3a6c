"""The descriptions of the APIs and events as files, made from the code."""

import json
from collections.abc import Mapping
from importlib.metadata import version

from app.events.asyncapi import create_asyncapi
from app.rest.openapi import create_openapi
from app.schema.schema import create_schema


def exports() -> Mapping[str, str]:
    """Return the text of each file by its name."""
    schema = create_schema()
    return {
        "schema.graphql": schema.as_str() + "\n",
        "openapi.json": json.dumps(create_openapi(schema, version("lunch-bot")), indent=2, ensure_ascii=False) + "\n",
        "asyncapi.yaml": create_asyncapi(version("lunch-bot")),
    }
