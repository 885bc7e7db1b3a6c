"""GraphQL types that take their fields from the models.

A resolver returns a row, an event or a dataclass as it is: each GraphQL field reads the attribute of the same name. So
an object is not copied, and a field is declared once, in `app.models`.
"""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

import strawberry
from graphql import GraphQLObjectType, GraphQLResolveInfo, GraphQLSchema
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from strawberry.schema.schema_converter import GraphQLCoreConverter

from app.models.columns import IdKind
from app.schema.scalars import Id, TelegramId

MANAGERS_ONLY = "managers_only"
"""The key in the metadata of a field that is null for other viewers."""

SCALARS: Mapping[IdKind, Any] = {IdKind.ROW: Id, IdKind.TELEGRAM: TelegramId}


def output(fields: type[BaseModel], *, description: str, managers_only: Collection[str] = ()) -> Callable[[type], type]:
    """Make a GraphQL type: the fields of the class, then those of `fields` with their types and descriptions.

    Args:
        managers_only: Fields that are null for other viewers.
    """

    def decorate(cls: type) -> type:
        annotations = dict(cls.__annotations__)
        for name, info in fields.model_fields.items():
            if name in annotations or name in vars(cls):
                continue
            annotations[name] = _graphql_type(info)
            metadata = {MANAGERS_ONLY: True} if name in managers_only else None
            if metadata:
                annotations[name] |= None
            setattr(cls, name, strawberry.field(description=info.description, metadata=metadata))
        cls.__annotations__ = annotations
        return strawberry.type(cls, description=description)

    return decorate


def input_type(fields: type[BaseModel], *, description: str) -> Callable[[type], type]:
    """Make a GraphQL input type: the fields of the class, then those of `fields` with types, defaults, descriptions."""

    def decorate(cls: type) -> type:
        annotations = dict(cls.__annotations__)
        for name, info in fields.model_fields.items():
            if name not in annotations:
                annotations[name] = _graphql_type(info)
                default = {} if info.is_required() else {"default": info.default}
                setattr(cls, name, strawberry.field(description=info.description, **default))
        cls.__annotations__ = annotations
        return strawberry.input(cls, description=description)

    return decorate


def hide_managers_fields(schema: GraphQLSchema) -> None:
    """Make the fields that are for managers null for other viewers.

    This replaces graphql-core's resolvers, because a resolver of Strawberry costs ten times as much.
    """
    for type_ in schema.type_map.values():
        if isinstance(type_, GraphQLObjectType):
            for field in type_.fields.values():
                definition = field.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
                if MANAGERS_ONLY in getattr(definition, "metadata", {}):
                    field.resolve = partial(_resolve_for_managers, definition.python_name)


def _resolve_for_managers(name: str, row: Any, info: GraphQLResolveInfo[Any]) -> Any:
    return getattr(row, name) if info.context.is_manager else None


def _graphql_type(info: FieldInfo) -> Any:
    """Return the annotation of a field, with the GraphQL scalars of ids."""
    annotation: Any = info.annotation
    kind = next((mark for mark in (*info.metadata, *_marks(annotation)) if isinstance(mark, IdKind)), None)
    if kind is None:
        return annotation
    return SCALARS[kind] | None if NoneType in get_args(annotation) else SCALARS[kind]


def _marks(annotation: Any) -> list[Any]:
    marks = list(annotation.__metadata__) if get_origin(annotation) is Annotated else []
    return marks + [mark for part in get_args(annotation) for mark in _marks(part)]
