"""GraphQL types that take their fields from the models.

A resolver returns a row, an event or a dataclass as it is: each GraphQL field reads the attribute of the same name. So
an object is not copied, and a field of a row is declared once, in `app.models`.
"""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

import strawberry
from graphql import GraphQLField, GraphQLObjectType, GraphQLResolveInfo, GraphQLSchema
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from strawberry.schema.schema_converter import GraphQLCoreConverter

from app.models.columns import IdKind
from app.schema.scalars import Id, TelegramId

MANAGERS_ONLY = "managers_only"
"""The key in the metadata of a field that is null for other viewers. Its value is the name of the attribute."""

SCALARS: Mapping[IdKind, Any] = {IdKind.ROW: Id, IdKind.TELEGRAM: TelegramId}

type Declaration = tuple[Any, dict[str, Any]]
"""The annotation of a field, and the options of `strawberry.field`."""


def output(fields: type[BaseModel], *, description: str, managers_only: Collection[str] = ()) -> Callable[[type], type]:
    """Make a GraphQL type: the fields of the class, then those of `fields` with their types and descriptions.

    Args:
        managers_only: Fields that are null for other viewers.
    """

    def declare(name: str, info: FieldInfo) -> Declaration:
        annotation = _graphql_type(info)
        return (annotation | None, {"metadata": {MANAGERS_ONLY: name}}) if name in managers_only else (annotation, {})

    return lambda cls: strawberry.type(_add_fields(cls, fields, declare), description=description)


def input_type(fields: type[BaseModel], *, description: str) -> Callable[[type], type]:
    """Make a GraphQL input type: the fields of the class, then those of `fields` with types, defaults, descriptions."""

    def declare(_name: str, info: FieldInfo) -> Declaration:
        return _graphql_type(info), {} if info.is_required() else {"default": info.default}

    return lambda cls: strawberry.input(_add_fields(cls, fields, declare), description=description)


def _add_fields(cls: type, fields: type[BaseModel], declare: Callable[[str, FieldInfo], Declaration]) -> type:
    """Add the fields that the class does not have."""
    annotations = dict(cls.__annotations__)
    for name, info in fields.model_fields.items():
        if name not in annotations and name not in vars(cls):
            annotations[name], options = declare(name, info)
            setattr(cls, name, strawberry.field(description=info.description, **options))
    cls.__annotations__ = annotations
    return cls


def metadata_of(field: GraphQLField) -> Mapping[object, Any]:
    """Return the metadata of a field, as Strawberry has it. Fields of other libraries have none."""
    return getattr(field.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF), "metadata", {})


def hide_managers_fields(schema: GraphQLSchema) -> None:
    """Make the fields that are for managers null for other viewers.

    This replaces graphql-core's resolvers, because a resolver of Strawberry costs ten times as much.
    """
    for type_ in schema.type_map.values():
        if isinstance(type_, GraphQLObjectType):
            for field in type_.fields.values():
                if name := metadata_of(field).get(MANAGERS_ONLY):
                    field.resolve = partial(_resolve_for_managers, name)


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
