"""Conventions that hold everywhere. The tests walk the code."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

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
from app.rest.routes import PREFIX
from app.rest.stored import StoredOperation, load
from app.schema.operations import OPERATION, audience, operation_of
from app.schema.schema import create_schema
from app.schema.types import metadata_of
from app.settings import Settings

REPOSITORY = Path(__file__).parent.parent

SCHEMA = create_schema()._schema
STORED = load(SCHEMA)

WITHOUT_REST = {"deadlineConnection.ordersWithoutDelivery": "It is a part of the answers with a cafe's deadlines."}
"""Operations that REST does not have, with the reason."""


def operations() -> Iterator[tuple[str, GraphQLField]]:
    """Iterate over the root fields, and the fields of other types that call an operation."""
    for root in (SCHEMA.query_type, SCHEMA.mutation_type, SCHEMA.subscription_type):
        assert root is not None
        yield from root.fields.items()
    for kind in SCHEMA.type_map.values():
        if isinstance(kind, GraphQLObjectType) and kind.name not in {"Query", "Mutation", "Subscription"}:
            for name, field in kind.fields.items():
                if OPERATION in metadata_of(field):
                    yield f"{kind.name[0].lower()}{kind.name[1:]}.{name}", field


each_operation = pytest.mark.parametrize(("name", "field"), list(operations()), ids=[name for name, _ in operations()])


@each_operation
def test_every_operation_names_its_audience(name: str, field: GraphQLField) -> None:
    """Every root field calls an operation with an access rule, and its description ends with the audience."""
    operation = operation_of(field)

    assert (field.description or "").endswith(f" For {audience(operation.access)}.")


@each_operation
def test_every_operation_has_a_description(name: str, field: GraphQLField) -> None:
    """The description of a field is the docstring of its operation."""
    summary = (operation_of(field).__doc__ or "").partition("\n")[0]

    assert summary.endswith(".")
    assert (field.description or "").startswith(summary)


@each_operation
def test_every_operation_has_a_route(name: str, field: GraphQLField) -> None:
    """REST has every operation of GraphQL, unless there is a reason: the route calls the same operation."""
    stored = [operation for operation in STORED.values() if _name_of(operation) == name]

    assert [operation_of(field)] == [operation_of(found.target_field) for found in stored] or WITHOUT_REST.get(name)


def _name_of(operation: StoredOperation) -> str:
    """Return the name that `operations` uses: the mutation, or the path to the field that is read."""
    is_change = operation.node.operation is OperationType.MUTATION
    return ".".join(step.node.name.value for step in operation.path[: 1 if is_change else None])


@each_operation
def test_every_argument_is_a_parameter(name: str, field: GraphQLField) -> None:
    """A stored operation has every argument of GraphQL's field."""
    stored = [operation for operation in STORED.values() if _name_of(operation) == name]

    assert stored or WITHOUT_REST.get(name)
    for operation in stored:
        taken = {argument for step in operation.path for argument in step.field.args}
        assert set(operation.variable_of_argument) == taken


def test_every_route_is_in_openapi() -> None:
    """OpenAPI has every route and nothing else."""
    paths = create_openapi(create_schema(), "1")["paths"]

    assert {(operation.route.method.lower(), PREFIX + operation.route.path) for operation in STORED.values()} == {
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
def test_the_contracts_are_exported(name: str) -> None:
    """The contracts in the repository are those of `lunch-bot export`."""
    assert (REPOSITORY / name).read_text(encoding="utf-8") == exports()[name]


def test_the_example_names_exactly_the_settings() -> None:
    """`.env.example` has every setting and nothing else."""
    assert {name.lower() for name in dotenv_values(REPOSITORY / ".env.example")} == set(Settings.model_fields)


def test_the_example_has_the_defaults() -> None:
    """A copy of `.env.example` with a key does not change a default."""
    example = {name.lower(): value for name, value in dotenv_values(REPOSITORY / ".env.example").items() if value}
    read = Settings.model_validate(example | {"jwt_secret_key": "x" * 32})

    defaults = {name: field.get_default() for name, field in Settings.model_fields.items() if not field.is_required()}
    assert {name: getattr(read, name) for name in defaults} == defaults


async def test_the_migrations_make_the_tables_of_the_models(database_url: str) -> None:
    """`alembic check` finds no difference between the migrations and the models."""
    await _alembic(database_url, command.check)


async def test_the_migrations_go_back_and_forth(database_url: str) -> None:
    """A downgrade to nothing and an upgrade give the same tables."""
    before = await _columns(database_url)

    await _alembic(database_url, lambda config: command.downgrade(config, "base"))
    assert await _columns(database_url) == {}
    engine = create_async_engine(database_url)
    await migrate(engine)
    await engine.dispose()

    assert await _columns(database_url) == before
    assert before.keys() == metadata.tables.keys()


ROWS_BEFORE_0006 = (
    "INSERT INTO users (tgid, name) VALUES (5, 'Ivan')",
    "INSERT INTO cafes (name) VALUES ('Basil')",
    """
    INSERT INTO recommendation_runs
      (date, status, total, done, failed, keys_suffice_for, started_at, pause_reason, pauses)
    VALUES
      ('2026-03-01', 'paused', 3, 1, 1, 2, now(), 'keys_resting', 4),
      ('2026-03-02', 'paused', 3, 1, 1, 2, now(), 'keys_set_aside', 4),
      ('2026-03-03', 'paused', 3, 1, 1, 2, now(), 'gemini_away', 4),
      ('2026-03-04', 'running', 3, 1, 1, 2, now(), NULL, 4)
    """,
    """
    INSERT INTO recommendation_items (date, user_tgid, position, status, told_at)
    VALUES ('2026-03-01', 5, 0, 'done', '2026-03-01T08:30Z')
    """,
    """
    INSERT INTO notifications (cafe_id, kind, tg_chat_id, parts, date, version, snapshot)
    VALUES
      (1, 'orders', -1, '{Soup}', '2026-03-04', 1,
        '{"5": {"person": "Ivan", "notes": "", "things": [[1, "Soup", 2]]}, "6": {"things": []}}'),
      (1, 'orders', -1, '{Soup}', '2026-03-04', 2, '{}'),
      (1, 'orders', -1, '{Soup}', '2026-03-04', 3, NULL)
    """,
)

SNAPSHOTS = "SELECT snapshot FROM notifications ORDER BY version"
STORED_BEFORE_0006 = (
    "SELECT pause_reason, keys_suffice_for, pauses FROM recommendation_runs ORDER BY date",
    "SELECT told_at FROM recommendation_items",
    SNAPSHOTS,
)
STORED_AFTER_0006 = (
    "SELECT pause_reason, request_budget, consecutive_pauses FROM recommendation_runs ORDER BY date",
    "SELECT notified_at FROM recommendation_items",
    SNAPSHOTS,
)


async def test_migration_0006_renames_what_is_stored(database_url: str) -> None:
    """Pause reasons, columns and the items of snapshots get their new names; a downgrade restores the old ones."""
    try:
        await _alembic(database_url, lambda config: command.downgrade(config, "0005"))
        await _execute(database_url, *ROWS_BEFORE_0006)

        await _alembic(database_url, lambda config: command.upgrade(config, "0006"))
        after = await _execute(database_url, *STORED_AFTER_0006)
        await _alembic(database_url, lambda config: command.downgrade(config, "0005"))
        before = await _execute(database_url, *STORED_BEFORE_0006)
    finally:
        await _alembic(database_url, lambda config: command.upgrade(config, "head"))

    items = [(datetime(2026, 3, 1, 8, 30, tzinfo=UTC),)]
    assert after == [
        [(reason, 2, 4) for reason in ("quota_exhausted", "keys_disabled", "gemini_unavailable", None)],
        items,
        [({"5": {"person": "Ivan", "notes": "", "items": [[1, "Soup", 2]]}, "6": {"items": []}},), ({},), (None,)],
    ]
    assert before == [
        [(reason, 2, 4) for reason in ("keys_resting", "keys_set_aside", "gemini_away", None)],
        items,
        [({"5": {"person": "Ivan", "notes": "", "things": [[1, "Soup", 2]]}, "6": {"things": []}},), ({},), (None,)],
    ]


async def test_migration_0008_cuts_fractions_of_deadlines(database_url: str) -> None:
    """A deadline that was stored with a fraction of a second has none, also just before midnight."""
    try:
        await _alembic(database_url, lambda config: command.downgrade(config, "0006"))
        await _execute(
            database_url,
            "INSERT INTO cafes (id, name) OVERRIDING SYSTEM VALUE VALUES (1, 'Basil & Thyme')",
            "INSERT INTO deadlines (cafe_id, weekday, deadline_time) "
            "VALUES (1, 0, '10:00:00.3'), (1, 1, '23:59:59.9'), (1, 2, '09:30:15')",
        )
    finally:
        await _alembic(database_url, lambda config: command.upgrade(config, "head"))

    [after] = await _execute(database_url, "SELECT deadline_time FROM deadlines ORDER BY weekday")
    assert after == [(time(10),), (time(23, 59, 59),), (time(9, 30, 15),)]


async def _execute(database_url: str, *statements: str) -> list[list[tuple[Any, ...]]]:
    """Execute statements in one transaction, and return the rows of each."""
    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        results = [await connection.exec_driver_sql(statement) for statement in statements]
        found = [[tuple(row) for row in result] if result.returns_rows else [] for result in results]
    await engine.dispose()
    return found


def test_the_migrations_are_one_line() -> None:
    """There is one first and one newest migration."""
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
    """Return the columns of each table, except Alembic's."""
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
