"""GraphQL over WebSocket: the protocol.

https://github.com/graphql/graphql-over-http/blob/main/rfcs/GraphQLOverWebSocket.md (`graphql-transport-ws`)
"""

import json
from datetime import timedelta

import pytest
from websockets.exceptions import InvalidStatus

from app.auth import issue_token
from app.models import Cafe, LinkRequest, Role, User
from app.schema.transport import OPERATIONS_PER_SOCKET
from app.settings import Settings
from tests.conftest import MANAGER_TGID
from tests.doors import CHAT, INIT, Served, Socket, code, connected, serving_api, signed_in

UPDATES = "subscription { linkRequestUpdates { id } }"

BAD_AUTHORIZATIONS: tuple[object, ...] = (
    "Bearer garbage",
    "garbage",
    "Bearer",
    "Basic dTpw",
    "Bearer " + "x" * 500,
    42,
    ["Bearer x"],
    {"token": "x"},
)

NOT_MESSAGES: dict[str, str | bytes] = {
    "list": "[]",
    "number": "42",
    "string": '"x"',
    "null": "null",
    "not JSON": "{",
    "nothing": "",
    "nested": "[" * 100_000,
    "binary": b'{"type": "ping"}',
    "no type": "{}",
    "type is a number": '{"type": 1}',
    "type is unknown": '{"type": "start"}',
    "type is unknown and long": json.dumps({"type": "x" * 500}),
    "no id": '{"type": "subscribe", "payload": {"query": "{ __typename }"}}',
    "id is a number": '{"type": "subscribe", "id": 1, "payload": {"query": "{ __typename }"}}',
    "id is a list": '{"type": "subscribe", "id": [], "payload": {"query": "{ __typename }"}}',
    "no payload": '{"type": "subscribe", "id": "1"}',
    "payload is a string": '{"type": "subscribe", "id": "1", "payload": "{ __typename }"}',
    "no query": '{"type": "subscribe", "id": "1", "payload": {}}',
    "query is a number": '{"type": "subscribe", "id": "1", "payload": {"query": 1}}',
    "variables are a list": '{"type": "subscribe", "id": "1", "payload": {"query": "{ __typename }", "variables": []}}',
    "name is a number": '{"type": "subscribe", "id": "1", "payload": {"query": "{ __typename }", "operationName": 1}}',
    "complete without an id": '{"type": "complete"}',
    "complete with a number": '{"type": "complete", "id": 1}',
}


async def test_a_socket_is_acknowledged(served: Served) -> None:
    """The first message is answered; it needs no token."""
    payloads: tuple[dict[str, object], ...] = ({}, {"payload": {}}, {"payload": None}, {"payload": {"other": [1]}})
    answers = []
    for payload in payloads:
        async with connected(served) as socket:
            await socket.say(INIT | payload)
            answers.append(await socket.hear())

    assert answers == [{"type": "connection_ack"}] * len(payloads)


async def test_completing_what_is_not_there_is_no_fault(socket: Socket) -> None:
    """Server and client may end an operation at the same time."""
    await socket.say({"type": "complete", "id": "never"})

    await socket.say({"type": "ping"})
    assert await socket.hear() == {"type": "pong"}


@pytest.mark.parametrize("payload", [{}, {"payload": {"a": 1}}])
async def test_a_ping_is_answered(socket: Socket, payload: dict[str, object]) -> None:
    """Either side may see whether the other is there."""
    await socket.say({"type": "ping", **payload})

    assert (await socket.hear())["type"] == "pong"


async def test_a_pong_is_taken(socket: Socket) -> None:
    """A pong that nobody asked for is a heartbeat."""
    await socket.say({"type": "pong"})

    await socket.say({"type": "ping"})
    assert await socket.hear() == {"type": "pong"}


async def test_what_is_no_message_closes_the_socket(served: Served, manager_token: str) -> None:
    """Whatever a frame holds that the protocol does not know, the socket is closed with 4400."""
    codes = {}
    for name, frame in NOT_MESSAGES.items():
        async with signed_in(served, manager_token) as socket:
            await socket.connection.send(frame)
            codes[name] = await socket.closed()

    assert codes == dict.fromkeys(NOT_MESSAGES, 4400)


async def test_a_payload_that_is_no_object_closes_the_socket(served: Served) -> None:
    """`connection_init` carries an object, if anything."""
    codes = []
    payloads: tuple[object, ...] = ([], "x", 42, True)
    for payload in payloads:
        async with connected(served) as socket:
            await socket.say(INIT | {"payload": payload})
            codes.append(await socket.closed())

    assert codes == [4400] * 4


async def test_what_is_no_token_closes_the_socket(served: Served) -> None:
    """A token that cannot be read is refused at once, with 4401."""
    codes = []
    for authorization in BAD_AUTHORIZATIONS:
        async with connected(served) as socket:
            await socket.say(INIT | {"payload": {"Authorization": authorization}})
            codes.append(await socket.closed())

    assert codes == [4401] * len(BAD_AUTHORIZATIONS)


@pytest.mark.parametrize(("secret", "ttl"), [("another secret that is long enough", 60), (None, -1)])
async def test_a_forged_or_expired_token_closes_the_socket(
    served: Served, settings: Settings, secret: str | None, ttl: int
) -> None:
    """So is one that somebody else has signed, or that has expired."""
    other = Settings.model_validate(settings.model_dump() | ({"jwt_secret_key": secret} if secret else {}))
    token = issue_token(other, User(tgid=MANAGER_TGID, name="", role=Role.MANAGER), timedelta(seconds=ttl))
    async with connected(served) as socket:
        await socket.say(INIT | {"payload": {"Authorization": f"Bearer {token}"}})

        assert await socket.closed() == 4401


async def test_the_keys_case_does_not_matter(served: Served, manager_token: str) -> None:
    """A payload's key is read like a header's name."""
    for key in ("authorization", "AUTHORIZATION", "aUTHORIZATION"):
        async with connected(served) as socket:
            await socket.say(INIT | {"payload": {key: f"Bearer {manager_token}"}})
            await socket.hear()  # the acknowledgement

            await socket.ask("{ me { tgid } }")

            assert (await socket.hear())["payload"] == {"data": {"me": {"tgid": MANAGER_TGID}}}


async def test_nothing_can_be_asked_before_the_beginning(served: Served) -> None:
    """An operation before `connection_init` closes the socket with 4401."""
    async with connected(served) as socket:
        await socket.ask("{ __typename }")

        assert await socket.closed() == 4401


async def test_there_is_one_beginning(socket: Socket) -> None:
    """A second `connection_init` closes the socket with 4429."""
    await socket.say(INIT)

    assert await socket.closed() == 4429


@pytest.mark.parametrize("id_", ["1", "x" * 500])
async def test_an_id_is_used_once_at_a_time(served: Served, socket: Socket, id_: str) -> None:
    """A second operation with the id of one that goes on closes the socket with 4409."""
    await socket.ask(UPDATES, id_)
    await served.listened_to()

    await socket.ask(UPDATES, id_)

    assert await socket.closed() == 4409


@pytest.mark.parametrize("protocol", ["graphql-ws", "soap"])
async def test_other_protocols_are_not_spoken(served: Served, protocol: str) -> None:
    """Neither the older protocol of Apollo's nor any other is accepted."""
    async with connected(served, protocol) as socket:
        assert socket.connection.subprotocol is None
        assert await socket.closed() == 4406


WRONG = {
    'subscription { linkRequestUpdates(cafeId: "x") { id } }': "BAD_INPUT",
    "subscription { linkRequestUpdates { nope } }": "GRAPHQL_INVALID",
    "subscription { linkRequestUpdates { id ": "GRAPHQL_INVALID",
    "subscription { " + "x" * 500 + " 42": "GRAPHQL_INVALID",
    "subscription { a: linkRequestUpdates { id } b: linkRequestUpdates { id } }": "GRAPHQL_INVALID",
    "{ " + "a { " * 600 + "b" + " }" * 601: "GRAPHQL_INVALID",
    "fragment f on Query { me { tgid } }": "GRAPHQL_INVALID",
}


async def test_what_is_wrong_ends_the_operation_and_not_the_socket(socket: Socket) -> None:
    """An operation that cannot be executed has an error with a code; the others go on."""
    told = {}
    for query in WRONG:
        await socket.ask(query)
        told[query] = code(await socket.hear())

    assert told == {query: ("error", expected) for query, expected in WRONG.items()}


async def test_an_unknown_operation_name_ends_the_operation_and_not_the_socket(socket: Socket) -> None:
    """So has one whose name is not in the document, however long it is."""
    await socket.ask("query A { __typename }", operationName="x" * 500)

    assert code(await socket.hear()) == ("error", "GRAPHQL_INVALID")


async def test_queries_work_over_the_socket(socket: Socket) -> None:
    """One answer, and the operation is complete."""
    await socket.ask("query ($first: Int!) { cafes(first: $first) { totalCount } }", variables={"first": 1})

    assert await socket.hear() == {"type": "next", "id": "1", "payload": {"data": {"cafes": {"totalCount": 0}}}}
    assert await socket.hear() == {"type": "complete", "id": "1"}


async def test_mutations_work_over_the_socket(socket: Socket, pending: LinkRequest) -> None:
    """A manager may decide there, too."""
    await socket.ask(f"mutation {{ approve(requestId: {pending.id}) {{ status processedBy }} }}")

    assert (await socket.hear())["payload"]["data"] == {"approve": {"status": "APPROVED", "processedBy": MANAGER_TGID}}


async def test_a_field_that_fails_is_answered(socket: Socket) -> None:
    """An error of an operation that was executed is part of its answer."""
    await socket.ask("{ cafe(id: 999) { id } }")

    assert code(await socket.hear()) == ("next", "NOT_FOUND")


async def test_a_wrong_variable_is_told(socket: Socket) -> None:
    """A variable that cannot be coerced has its code there, too."""
    await socket.ask("query ($id: ID!) { cafe(id: $id) { id } }")

    assert code(await socket.hear())[1] == "BAD_INPUT"


async def test_anybody_may_ask_for_a_link_over_the_socket(served: Served, cafe: Cafe) -> None:
    """What needs no token needs none there."""
    async with signed_in(served, None) as socket:
        await socket.ask(f"mutation {{ linkRequest(cafeId: {cafe.id}, tgChatId: {CHAT}) {{ status }} }}")

        assert (await socket.hear())["payload"]["data"] == {"linkRequest": {"status": "PENDING"}}


async def test_a_socket_has_so_many_operations_and_no_more(served: Served, socket: Socket) -> None:
    """One more is refused, with a code like any other error."""
    for number in range(OPERATIONS_PER_SOCKET):
        await socket.ask(UPDATES, str(number))
    await served.listened_to(OPERATIONS_PER_SOCKET)

    await socket.ask(UPDATES, "one more")

    refused = await socket.hear()
    assert (refused["type"], refused["id"]) == ("error", "one more")
    assert "code" in refused["payload"][0].get("extensions", {})


async def test_a_foreign_page_gets_no_socket(served: Served) -> None:
    """A page of another origin is refused at the handshake."""
    with pytest.raises(InvalidStatus) as refused:
        async with connected(served, origin="https://evil.example"):
            pass

    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("origin", ["own", "https://dashboard.example"])
async def test_our_own_pages_get_a_socket(settings: Settings, people: None, origin: str) -> None:
    """The origin that serves it is welcome, and so are those of CORS_ORIGINS."""
    allowing = settings.model_copy(update={"cors_origins": ("https://dashboard.example",)})
    async with (
        serving_api(allowing) as served,
        connected(served, origin=served.address if origin == "own" else origin) as socket,
    ):
        await socket.say(INIT)

        assert (await socket.hear())["type"] == "connection_ack"
