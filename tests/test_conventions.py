"""Conventions that hold for everything, kept by walking the code and not by memory."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from dotenv import dotenv_values
from graphql import GraphQLField, GraphQLObjectType, OperationType
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from app.export import exports
from app.migrate import alembic_config, migrate
from app.models import metadata
from app.rest.openapi import create_openapi
from app.rest.routes import PREFIX, ROUTES, Route
from app.rest.stored import load
from app.schema import create_schema
from app.schema.operations import WHO, is_operation, operation_of
from app.settings import Settings

REPOSITORY = Path(__file__).parent.parent

SCHEMA = create_schema()._schema
STORED = load(SCHEMA)

WITHOUT_REST: dict[str, str] = {}
"""Operations that REST does not have, with the reason."""


def operations() -> Iterator[tuple[str, GraphQLField]]:
    """The root fields, and the fields of other types that hand over to a function as well."""
    for root in (SCHEMA.query_type, SCHEMA.mutation_type, SCHEMA.subscription_type):
        assert root is not None
        yield from root.fields.items()
    for kind in SCHEMA.type_map.values():
        if isinstance(kind, GraphQLObjectType) and kind.name not in {"Query", "Mutation", "Subscription"}:
            for name, field in kind.fields.items():
                if is_operation(field):
                    yield f"{kind.name[0].lower()}{kind.name[1:]}.{name}", field


each_operation = pytest.mark.parametrize(("name", "field"), list(operations()), ids=[name for name, _ in operations()])


@each_operation
def test_every_operation_says_who_may_do_it(name: str, field: GraphQLField) -> None:
    """A root field hands over to a function that allows a role, and its description ends with whom."""
    operation = operation_of(field)

    assert (field.description or "").endswith(f" For {WHO[operation.allowed]}.")


@each_operation
def test_every_operation_says_what_it_does(name: str, field: GraphQLField) -> None:
    """The description is that of the function, which has one."""
    summary = (operation_of(field).__doc__ or "").partition("\n")[0]

    assert summary.endswith(".")
    assert (field.description or "").startswith(summary)


@each_operation
def test_every_operation_has_a_route(name: str, field: GraphQLField) -> None:
    """What GraphQL can do REST can do, unless there is a reason: the route's operation is made by the same function."""
    made = [STORED[route.operation].purpose for route in ROUTES if _served(route) == name]

    assert [operation_of(field)] == [operation_of(purpose) for purpose in made] or WITHOUT_REST.get(name)


def _served(route: Route) -> str:
    """What a route does, as `operations` calls it: the change that it makes, or the part that it reads."""
    operation = STORED[route.operation]
    is_change = operation.node.operation is OperationType.MUTATION
    return ".".join(step.node.name.value for step in operation.path[: 1 if is_change else None])


@each_operation
def test_every_argument_is_a_parameter(name: str, field: GraphQLField) -> None:
    """A stored operation leaves out nothing that GraphQL's takes."""
    stored = [STORED[route.operation] for route in ROUTES if _served(route) == name]

    assert stored or WITHOUT_REST.get(name)
    for operation in stored:
        taken = {argument for step in operation.path for argument in step.field.args}
        assert set(operation.variable_of_argument) == taken


def test_every_route_is_in_openapi() -> None:
    """No route is left undescribed, and nothing is described that is no route."""
    paths = create_openapi(create_schema(), "1")["paths"]

    assert {(route.method.lower(), PREFIX + route.path) for route in ROUTES} == {
        (method, path) for path, item in paths.items() for method in item
    }


@pytest.mark.parametrize(
    "type_",
    [kind for kind in SCHEMA.type_map.values() if isinstance(kind, GraphQLObjectType) and kind.name[:2] != "__"],
    ids=lambda kind: kind.name,
)
def test_names_are_camel_case(type_: GraphQLObjectType) -> None:
    """GraphQL's names have no underscores."""
    names = [*type_.fields, *(argument for field in type_.fields.values() for argument in field.args)]

    assert [name for name in names if "_" in name] == []


@pytest.mark.parametrize("name", ["schema.graphql", "openapi.json", "asyncapi.yaml"])
def test_the_contracts_are_what_the_code_says(name: str) -> None:
    """The files in the repository are those of `lunch-bot export`."""
    assert (REPOSITORY / name).read_text(encoding="utf-8") == exports()[name]


def test_the_example_names_exactly_the_settings() -> None:
    """`.env.example` leaves out no setting, and names none that is not there."""
    assert {name.lower() for name in dotenv_values(REPOSITORY / ".env.example")} == set(Settings.model_fields)


def test_the_example_has_the_defaults() -> None:
    """Copied as it is, with a key, it changes nothing that has a default."""
    example = {name.lower(): value for name, value in dotenv_values(REPOSITORY / ".env.example").items() if value}
    read = Settings.model_validate(example | {"jwt_secret_key": "x" * 32})

    defaults = {name: field.get_default() for name, field in Settings.model_fields.items() if not field.is_required()}
    assert {name: getattr(read, name) for name in defaults} == defaults


async def test_the_migrations_make_the_tables_of_the_models(database_url: str) -> None:
    """`alembic check` finds nothing that a migration is missing for."""
    await _alembic(database_url, command.check)


async def test_the_migrations_go_back_and_forth(database_url: str) -> None:
    """Down to nothing, and up again, to the same tables."""
    before = await _columns(database_url)

    await _alembic(database_url, lambda config: command.downgrade(config, "base"))
    assert await _columns(database_url) == {}
    engine = create_async_engine(database_url)
    await migrate(engine)
    await engine.dispose()

    assert await _columns(database_url) == before
    assert before.keys() == metadata.tables.keys()


def test_the_migrations_are_one_line() -> None:
    """There is one newest migration, and one first."""
    script = ScriptDirectory.from_config(alembic_config())

    assert (len(script.get_heads()), len(script.get_bases())) == (1, 1)


async def _alembic(database_url: str, work: Callable[[Config], None]) -> None:
    engine = create_async_engine(database_url)

    def run(connection: Connection) -> None:
        config = alembic_config()
        config.attributes["connection"] = connection
        work(config)

    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()


async def _columns(database_url: str) -> dict[str, list[str]]:
    """The columns of each table, but Alembic's own."""
    engine = create_async_engine(database_url)

    def inspect(connection: Connection) -> dict[str, list[str]]:
        inspector = sa.inspect(connection)
        return {
            table: [
                f"{column['name']} {column['type']!r} {column['nullable']}" for column in inspector.get_columns(table)
            ]
            for table in inspector.get_table_names()
            if table != "alembic_version"
        }

    async with engine.connect() as connection:
        found = await connection.run_sync(inspect)
    await engine.dispose()
    return found
