"""`openapi.json`, from the stored operations and the schema's types.

https://spec.openapis.org/oas/v3.1.0
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLOutputType,
    GraphQLType,
    SelectionSetNode,
    Undefined,
    get_named_type,
    is_required_input_field,
    value_from_ast_untyped,
)
from strawberry.utils.str_converters import to_snake_case

from app.auth.access import PUBLIC
from app.models.users import TELEGRAM_ID_MAX
from app.rest.problem import CODES, PROBLEM_JSON
from app.rest.routes import CSV, PREFIX
from app.rest.stored import StoredOperation, Variable, load
from app.schema.operations import audience, operation_of, summary
from app.schema.schema import Schema

SCALARS: Mapping[str, dict[str, Any]] = {
    "ID": {"type": "string"},
    "String": {"type": "string"},
    "Int": {"type": "integer", "format": "int32"},
    "Float": {"type": "number"},
    "Boolean": {"type": "boolean"},
    "DateTime": {"type": "string", "format": "date-time"},
    "Date": {"type": "string", "format": "date"},
    "Time": {"type": "string", "description": "A local time.", "pattern": r"^\d\d:\d\d(:\d\d)?$"},
    "Decimal": {"type": "string", "format": "decimal", "pattern": r"^\d{1,12}(\.\d{1,2})?$"},
    "TelegramId": {
        "type": "integer",
        "format": "int64",
        "minimum": -TELEGRAM_ID_MAX,
        "maximum": TELEGRAM_ID_MAX,
        "not": {"const": 0},
    },
}

PROBLEM: Mapping[str, Any] = {
    "type": "object",
    "description": "An error (RFC 9457). Programs use `code`.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "enum": sorted(CODES)},
        "errors": {
            "type": "array",
            "description": "For BAD_INPUT: every wrong field.",
            "items": {
                "type": "object",
                "required": ["field", "detail"],
                "properties": {"field": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
        "details": {"type": "object", "description": "More facts for programs."},
        "request_id": {"type": "string"},
    },
}


def create_openapi(schema: Schema, version: str) -> dict[str, Any]:
    """Describe every route."""
    core = schema._schema  # noqa: SLF001 Strawberry gives no other way to graphql-core's schema
    operations = load(core)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations.values():
        route = operation.route
        paths.setdefault(PREFIX + route.path, {})[route.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Lunchbot",
            "version": version,
            "description": "Every operation is also a GraphQL operation, with the same access, rules and error codes.",
        },
        "paths": paths,
        "components": {
            "schemas": {"Problem": PROBLEM},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _operation(operation: StoredOperation) -> dict[str, Any]:
    route = operation.route
    function = operation_of(operation.target_field)
    in_path = [name for name in operation.variables if f"{{{name}}}" in route.path]
    others = [variable for name, variable in operation.variables.items() if name not in in_path]
    has_body = route.method in {"POST", "PUT", "PATCH"} and bool(others)
    described: dict[str, Any] = {
        "operationId": operation.name[0].lower() + operation.name[1:],
        "tags": [route.subject],
        "summary": summary(function),
        "description": f"For {audience(function.access)}.",
        "parameters": [_parameter(operation.variables[name], "path") for name in in_path]
        + ([] if has_body else [_parameter(variable, "query") for variable in others]),
        "responses": {
            str(route.status): _success(operation),
            "default": {
                "description": "An error.",
                "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
        },
    }
    if has_body:
        described["requestBody"] = _body(others)
    if function.access is not PUBLIC:
        described["security"] = [{"bearer": []}]
    return {name: value for name, value in described.items() if value not in ("", [])}


def _parameter(variable: Variable, place: str) -> dict[str, Any]:
    required = place == "path" or _is_required(variable)
    return {"name": variable.name, "in": place, "required": required, "schema": _input(variable)}


def _body(variables: list[Variable]) -> dict[str, Any]:
    required = [variable.name for variable in variables if _is_required(variable)]
    schema = {
        "type": "object",
        "properties": {variable.name: _input(variable) for variable in variables},
        "additionalProperties": False,
    }
    if required:
        schema["required"] = required
    return {"required": bool(required), "content": {"application/json": {"schema": schema}}}


def _is_required(variable: Variable) -> bool:
    return isinstance(variable.type, GraphQLNonNull) and variable.definition.default_value is None


def _input(variable: Variable) -> dict[str, Any]:
    schema = _type(variable.type, nullable=False)
    if variable.definition.default_value is not None:
        schema["default"] = _default(schema, value_from_ast_untyped(variable.definition.default_value))
    return schema


def _success(operation: StoredOperation) -> dict[str, Any]:
    if operation.route.status == HTTPStatus.NO_CONTENT:
        return {"description": "Success."}
    schema = _output(operation, operation.result.node.selection_set, operation.result.field.type)
    if operation.is_subscription:
        return {
            "description": "Server-Sent Events. The data of each event is this object as JSON. An event `error` has a "
            "problem document, and is the last one.",
            "content": {"text/event-stream": {"schema": schema}},
        }
    content = {"application/json": {"schema": schema}}
    if operation.route.csv:
        content[CSV] = {"schema": {"type": "string"}}
    return {"description": "Success.", "content": content}


def _output(
    operation: StoredOperation, selections: SelectionSetNode | None, type_: GraphQLOutputType
) -> dict[str, Any]:
    if selections is None:
        return _type(type_, nullable=True)
    if isinstance(type_, GraphQLNonNull):
        return _output(operation, selections, type_.of_type)
    if isinstance(type_, GraphQLList):
        return {"type": "array", "items": _output(operation, selections, type_.of_type)}
    properties = {
        name: _described(_output(operation, node.selection_set, field.type), field.description)
        for name, node, field in operation.fields_of(selections, type_)
    }
    return {"type": "object", "required": list(properties), "properties": properties}


def _described(schema: dict[str, Any], description: str | None) -> dict[str, Any]:
    return schema | {"description": description} if description else schema


def _type(type_: GraphQLType, *, nullable: bool) -> dict[str, Any]:
    if isinstance(type_, GraphQLNonNull):
        return _type(type_.of_type, nullable=False)
    if isinstance(type_, GraphQLList):
        schema: dict[str, Any] = {"type": "array", "items": _type(type_.of_type, nullable=True)}
    else:
        schema = _named(get_named_type(type_))
    if not nullable:
        return schema
    values = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return schema | {"type": [schema["type"], "null"]} | values


def _input_field(field: GraphQLInputField) -> dict[str, Any]:
    schema = _described(_type(field.type, nullable=True), field.description)
    return schema if field.default_value is Undefined else schema | {"default": _default(schema, field.default_value)}


def _default(schema: Mapping[str, Any], value: Any) -> Any:
    """Write the value of an enumeration in REST's case."""
    return value.lower() if "enum" in schema else value


def _named(type_: GraphQLNamedType) -> dict[str, Any]:
    if isinstance(type_, GraphQLEnumType):
        return {"type": "string", "enum": [name.lower() for name in type_.values]}
    if isinstance(type_, GraphQLInputObjectType):
        fields = {to_snake_case(name): field for name, field in type_.fields.items()}
        return {
            "type": "object",
            "properties": {name: _input_field(field) for name, field in fields.items()},
            "required": [name for name, field in fields.items() if is_required_input_field(field)],
            "additionalProperties": False,
        }
    return dict(SCALARS[type_.name])
