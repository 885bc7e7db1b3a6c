"""Access to operations: roles, chats, the user's own data, and the validation after the authorization."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Annotated, Any

import pytest

from app.auth.access import CHAT, PUBLIC, Access, Open, Self, allow
from app.auth.context import Context
from app.auth.viewer import Caller
from app.errors import BadInput, FieldProblem, Forbidden, NotFound, Unauthenticated
from app.models import CafeInput, Role
from app.resolvers import cafes, links, notifications, users
from app.validation import Input, Name, range_rule
from tests.conftest import MANAGER_TGID, USER_TGID

CHAT_ID = -1001

CHAT_OPERATIONS = [links.unlink_chat, links.get_chat_status, notifications.acknowledge]

Quantity = Annotated[int, range_rule(1, 9)]


class Note(Input):
    """An object with rules."""

    text: Name
    priority: Quantity = 1


class Recorder:
    """An operation with rules for its arguments, which records its calls."""

    def __init__(self, access: Access) -> None:
        self.calls: list[tuple[int, int, Note, str]] = []

        @allow(access)
        async def operation(ctx: Context, tgid: int, quantity: Quantity, note: Note, name: Name = "lunch") -> str:
            self.calls.append((tgid, quantity, note, name))
            return name

        self.operation = operation

    async def call_with_invalid_arguments(self, ctx: Context) -> None:
        await self.operation(ctx, MANAGER_TGID, 0, Note.collect(text="", priority=10), name="\0")


@pytest.fixture
def callers(anonymous: Context, user: Context, manager: Context) -> dict[str, Context]:
    """A caller without a token, a user and a manager."""
    return {"anonymous": anonymous, "user": user, "manager": manager}


def in_chat(ctx: Context) -> Context:
    """The same context, called from a chat."""
    return replace(ctx, caller=Caller(telegram_chat=CHAT_ID))


@allow(CHAT)
async def get_chat_id(ctx: Context) -> int:
    """Return the chat of the caller."""
    return ctx.chat_id


async def test_the_chat_comes_from_the_context(anonymous: Context) -> None:
    """An operation for chats gets the chat that Telegram names as the caller."""
    assert await get_chat_id(in_chat(anonymous)) == CHAT_ID


async def test_operations_for_chats_need_a_chat(anonymous: Context, user: Context, manager: Context) -> None:
    """An operation for chats is Forbidden for every caller without a chat, also for a manager."""
    for ctx in (anonymous, user, manager):
        with pytest.raises(Forbidden):
            await get_chat_id(ctx)


@pytest.mark.parametrize("operation", CHAT_OPERATIONS, ids=lambda operation: operation.__name__)
async def test_every_operation_for_chats_needs_a_chat(manager: Context, operation: Any) -> None:
    """The application's operations for chats are Forbidden without a chat."""
    with pytest.raises(Forbidden):
        await operation(manager)


def test_the_list_of_operations_for_chats_is_complete() -> None:
    """The tests above call every operation that allows `CHAT`."""
    operations = [value for module in (links, notifications) for value in vars(module).values()]

    assert [one for one in operations if getattr(one, "access", None) is CHAT] == CHAT_OPERATIONS


async def test_a_chat_gets_only_its_own_data(anonymous: Context) -> None:
    """A chat without a cafe has no status, and an unknown notification is not found."""
    assert await links.get_chat_status(in_chat(anonymous)) is None
    with pytest.raises(NotFound):
        await notifications.acknowledge(in_chat(anonymous), 999, "Boris")


@pytest.mark.parametrize(
    "call",
    [users.get_user, lambda ctx, tgid: users.get_user(ctx, tgid=tgid)],
    ids=["by position", "by keyword"],
)
async def test_users_may_call_it_for_themselves(
    user: Context, manager: Context, anonymous: Context, call: Callable[[Context, int], Awaitable[Any]]
) -> None:
    """An operation with `Self` is for managers and for the user with that id, whether the id is positional or not."""
    assert (await call(user, USER_TGID)).tgid == USER_TGID
    assert (await call(manager, USER_TGID)).tgid == USER_TGID
    with pytest.raises(Forbidden):
        await call(user, MANAGER_TGID)
    with pytest.raises(Unauthenticated):
        await call(anonymous, USER_TGID)


def test_the_parameter_of_self_must_exist() -> None:
    """`Self` with the name of an unknown parameter raises TypeError when the operation is defined."""

    async def operation(ctx: Context, tgid: int) -> None:
        """Do nothing."""

    with pytest.raises(TypeError, match="has no parameter user_id"):
        allow(Self("user_id"))(operation)


async def test_a_manager_may_call_the_operations_of_users(anonymous: Context, user: Context, manager: Context) -> None:
    """An operation for users is open to managers, and an operation for managers is not open to users."""
    for_users, for_managers = Recorder(Role.USER).operation, Recorder(Role.MANAGER).operation
    arguments = (USER_TGID, 1, Note(text="hello"))

    assert await for_users(user, *arguments) == await for_users(manager, *arguments) == "lunch"
    assert await for_managers(manager, *arguments) == "lunch"
    with pytest.raises(Forbidden):
        await for_managers(user, *arguments)
    for operation in (for_users, for_managers):
        with pytest.raises(Unauthenticated):
            await operation(anonymous, *arguments)


async def test_a_public_operation_ignores_the_token(anonymous: Context) -> None:
    """A caller with an invalid token may call a public operation."""
    stale = replace(anonymous, caller=Caller(authorization="Bearer expired"))

    assert await Recorder(PUBLIC).operation(stale, 1, 1, Note(text="hello")) == "lunch"


async def test_an_operation_gets_validated_arguments(manager: Context) -> None:
    """The operation gets the arguments as validation returns them, and defaults for those that are left out."""
    recorder = Recorder(Role.MANAGER)

    await recorder.operation(manager, 5, quantity=9, note=Note.collect(text="  hello "), name=" a ")
    await recorder.operation(manager, 5, 1, Note(text="hello", priority=2))

    (*_, note, name), (*_, other_note, default) = recorder.calls
    assert (note.values(), name) == ({"text": "hello"}, "a")
    assert (other_note.values(), default) == ({"text": "hello", "priority": 2}, "lunch")


async def test_one_error_names_every_wrong_field(manager: Context) -> None:
    """All wrong arguments, also the fields of objects, are in one BadInput, in the order of the signature."""
    recorder = Recorder(Role.MANAGER)

    with pytest.raises(BadInput) as refused:
        await recorder.call_with_invalid_arguments(manager)

    assert refused.value.problems == (
        FieldProblem("quantity", "must be from 1 to 9"),
        FieldProblem("text", "must not be empty"),
        FieldProblem("priority", "must be from 1 to 9"),
        FieldProblem("name", "has a character that is not allowed"),
    )
    assert (refused.value.field, refused.value.details) == ("quantity", {"field": "quantity"})
    assert refused.value.message == (
        "quantity: must be from 1 to 9; text: must not be empty; priority: must be from 1 to 9; "
        "name: has a character that is not allowed"
    )
    assert recorder.calls == []


@pytest.mark.parametrize(
    ("access", "caller", "error"),
    [
        (Role.USER, "anonymous", Unauthenticated),
        (Role.MANAGER, "anonymous", Unauthenticated),
        (Role.MANAGER, "user", Forbidden),
        (Self("tgid"), "anonymous", Unauthenticated),
        (Self("tgid"), "user", Forbidden),
        (CHAT, "manager", Forbidden),
    ],
)
async def test_authorization_comes_before_validation(
    callers: dict[str, Context], access: Access, caller: str, error: type[Exception]
) -> None:
    """A caller without access gets no information about wrong arguments."""
    recorder = Recorder(access)

    with pytest.raises(error):
        await recorder.call_with_invalid_arguments(callers[caller])

    assert recorder.calls == []


@pytest.mark.parametrize(
    ("access", "caller"),
    [(Role.USER, "user"), (Role.MANAGER, "manager"), (Self("tgid"), "manager"), (PUBLIC, "anonymous")],
)
async def test_validation_follows_authorization(callers: dict[str, Context], access: Access, caller: str) -> None:
    """A caller with access and wrong arguments gets BadInput."""
    with pytest.raises(BadInput):
        await Recorder(access).call_with_invalid_arguments(callers[caller])


async def test_users_get_no_validation_of_operations_for_managers(user: Context, manager: Context) -> None:
    """An invalid new cafe is Forbidden for a user, and bad input with all its fields for a manager."""
    fields = CafeInput.collect(name="", timezone="Mars/Olympus")

    with pytest.raises(Forbidden):
        await cafes.create_cafe(user, fields)
    with pytest.raises(BadInput) as refused:
        await cafes.create_cafe(manager, fields)

    assert [problem.field for problem in refused.value.problems] == ["name", "timezone"]


@pytest.mark.parametrize("access", [Role.USER, Role.MANAGER, *Open, Self("tgid")])
def test_an_operation_shows_its_access(access: Access) -> None:
    """The access of an operation can be read from it."""
    assert Recorder(access).operation.access == access
