"""GraphQL over WebSocket: the protocol.

https://github.com/graphql/graphql-over-http/blob/main/rfcs/GraphQLOverWebSocket.md (`graphql-transport-ws`)
"""

import gc
import json
from datetime import timedelta

import pytest
from websockets.exceptions import InvalidStatus

from app.auth.tokens import issue_token
from app.models import Cafe, LinkRequest, Role, User
from app.schema.transport import OPERATIONS_PER_SOCKET
from app.settings import Settings
from tests.apis import CHAT, INIT, Served, Socket, code, connected, serving_api, signed_in
from tests.conftest import MANAGER_TGID

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
    "nested": "[" * 60_000,
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
    "query is null": '{"type": "subscribe", "id": "1", "payload": {"query": null}}',
    "query is a number": '{"type": "subscribe", "id": "1", "payload": {"query": 1}}',
    "variables are a list": '{"type": "subscribe", "id": "1", "payload": {"query": "{ __typename }", "variables": []}}',
    "name is a number": '{"type": "subscribe", "id": "1", "payload": {"query": "{ __typename }", "operationName": 1}}',
    "complete without an id": '{"type": "complete"}',
    "complete with a number": '{"type": "complete", "id": 1}',
}


async def test_a_socket_is_acknowledged(served: Served) -> None:
    """The server acknowledges `connection_init`, which needs no token."""
    payloads: tuple[dict[str, object], ...] = ({}, {"payload": {}}, {"payload": None}, {"payload": {"other": [1]}})
    answers = []
    for payload in payloads:
        async with connected(served) as socket:
            await socket.say(INIT | payload)
            answers.append(await socket.hear())

    assert answers == [{"type": "connection_ack"}] * len(payloads)


async def test_the_payload_is_not_kept(served: Served, manager_token: str) -> None:
    """An open socket keeps nothing of `connection_init` but the authorization."""
    async with connected(served) as socket:
        await socket.say(INIT | {"payload": {"Authorization": f"Bearer {manager_token}", "much": [[]] * 1000}})
        await socket.hear()  # the acknowledgement

        kept = [
            thing for thing in gc.get_objects() if type(thing) is dict and "much" in thing
        ]  # weak proxies may be dead

    assert kept == []


async def test_completing_an_unknown_operation_is_accepted(socket: Socket) -> None:
    """Server and client may end an operation at the same time."""
    await socket.say({"type": "complete", "id": "never"})

    await socket.say({"type": "ping"})
    assert await socket.hear() == {"type": "pong"}


@pytest.mark.parametrize("payload", [{}, {"payload": {"a": 1}}])
async def test_a_ping_is_answered(socket: Socket, payload: dict[str, object]) -> None:
    """The server answers a ping with a pong."""
    await socket.say({"type": "ping", **payload})

    assert (await socket.hear())["type"] == "pong"


async def test_a_pong_is_accepted(socket: Socket) -> None:
    """A pong without a ping is a heartbeat."""
    await socket.say({"type": "pong"})

    await socket.say({"type": "ping"})
    assert await socket.hear() == {"type": "pong"}


async def test_an_unknown_message_closes_the_socket(served: Served, manager_token: str) -> None:
    """A frame that is not a message of the protocol closes the socket with 4400."""
    codes = {}
    for name, frame in NOT_MESSAGES.items():
        async with signed_in(served, manager_token) as socket:
            await socket.connection.send(frame)
            codes[name] = await socket.closed()

    assert codes == dict.fromkeys(NOT_MESSAGES, 4400)


async def test_a_malformed_payload_closes_the_socket(served: Served) -> None:
    """The payload of `connection_init` must be an object."""
    codes = []
    payloads: tuple[object, ...] = ([], "x", 42, True)
    for payload in payloads:
        async with connected(served) as socket:
            await socket.say(INIT | {"payload": payload})
            codes.append(await socket.closed())

    assert codes == [4400] * 4


async def test_a_malformed_token_closes_the_socket(served: Served) -> None:
    """A malformed token closes the socket immediately with 4401."""
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
    """A token with another signature, or an expired one, closes the socket with 4401."""
    other = Settings.model_validate(settings.model_dump() | ({"jwt_secret_key": secret} if secret else {}))
    token = issue_token(other, User(tgid=MANAGER_TGID, name="", role=Role.MANAGER), timedelta(seconds=ttl))
    async with connected(served) as socket:
        await socket.say(INIT | {"payload": {"Authorization": f"Bearer {token}"}})

        assert await socket.closed() == 4401


async def test_the_case_of_the_key_does_not_matter(served: Served, manager_token: str) -> None:
    """The key in the payload is read like the name of a header."""
    for key in ("authorization", "AUTHORIZATION", "aUTHORIZATION"):
        async with connected(served) as socket:
            await socket.say(INIT | {"payload": {key: f"Bearer {manager_token}"}})
            await socket.hear()  # the acknowledgement

            await socket.ask("{ me { tgid } }")

            assert (await socket.hear())["payload"] == {"data": {"me": {"tgid": MANAGER_TGID}}}


async def test_an_operation_before_the_init_closes_the_socket(served: Served) -> None:
    """An operation before `connection_init` closes the socket with 4401."""
    async with connected(served) as socket:
        await socket.ask("{ __typename }")

        assert await socket.closed() == 4401


async def test_a_second_init_closes_the_socket(socket: Socket) -> None:
    """A second `connection_init` closes the socket with 4429."""
    await socket.say(INIT)

    assert await socket.closed() == 4429


@pytest.mark.parametrize("id_", ["1", "x" * 500])
async def test_an_id_in_use_closes_the_socket(served: Served, socket: Socket, id_: str) -> None:
    """A second operation with the id of a running one closes the socket with 4409."""
    await socket.ask(UPDATES, id_)
    await served.listened_to()

    await socket.ask(UPDATES, id_)

    assert await socket.closed() == 4409


@pytest.mark.parametrize("protocol", ["graphql-ws", "soap"])
async def test_other_protocols_are_refused(served: Served, protocol: str) -> None:
    """The server refuses Apollo's older protocol and all others."""
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
    "": "GRAPHQL_INVALID",
    " \n": "GRAPHQL_INVALID",
    "# x": "GRAPHQL_INVALID",
    "query A { me { tgid } } query B { me { tgid } }": "GRAPHQL_INVALID",
    "subscription A { linkRequestUpdates { id } } subscription B { linkRequestUpdates { id } }": "GRAPHQL_INVALID",
    "{ me { tgid } } #" + "x" * 20_000: "GRAPHQL_INVALID",
    "query ($n: Int! = 100) { "
    + " ".join(f"a{n}: cafes(first: $n) {{ nodes {{ id name description }} }}" for n in range(30))
    + " }": "GRAPHQL_INVALID",
}


async def test_an_invalid_operation_does_not_close_the_socket(socket: Socket) -> None:
    """An operation that cannot be executed gets an error with a code; the others continue."""
    answers = {}
    for query in WRONG:
        await socket.ask(query)
        answers[query] = code(await socket.hear())

    assert answers == {query: ("error", expected) for query, expected in WRONG.items()}


async def test_an_unknown_operation_name_does_not_close_the_socket(socket: Socket) -> None:
    """An operation whose name is not in the document gets an error, for a name of any length."""
    await socket.ask("query A { __typename }", operationName="x" * 500)

    assert code(await socket.hear()) == ("error", "GRAPHQL_INVALID")


async def test_queries_work_over_the_socket(socket: Socket) -> None:
    """A query has one answer, and then the operation is complete."""
    await socket.ask("query ($first: Int!) { cafes(first: $first) { totalCount } }", variables={"first": 1})

    assert await socket.hear() == {"type": "next", "id": "1", "payload": {"data": {"cafes": {"totalCount": 0}}}}
    assert await socket.hear() == {"type": "complete", "id": "1"}


async def test_mutations_work_over_the_socket(socket: Socket, pending: LinkRequest) -> None:
    """A manager may call a mutation over the socket."""
    await socket.ask(f"mutation {{ approve(requestId: {pending.id}) {{ status processedBy }} }}")

    assert (await socket.hear())["payload"]["data"] == {"approve": {"status": "APPROVED", "processedBy": MANAGER_TGID}}


async def test_a_field_that_fails_is_answered(socket: Socket) -> None:
    """An error of an executed operation is part of its answer."""
    await socket.ask("{ cafe(id: 999) { id } }")

    assert code(await socket.hear()) == ("next", "NOT_FOUND")


async def test_a_wrong_variable_is_bad_input(socket: Socket) -> None:
    """A variable that cannot be coerced is BAD_INPUT."""
    await socket.ask("query ($id: ID!) { cafe(id: $id) { id } }")

    assert code(await socket.hear())[1] == "BAD_INPUT"


async def test_a_link_request_over_the_socket_needs_no_token(served: Served, cafe: Cafe) -> None:
    """A public operation needs no token over the socket."""
    async with signed_in(served, None) as socket:
        await socket.ask(f"mutation {{ linkRequest(cafeId: {cafe.id}, tgChatId: {CHAT}) {{ status }} }}")

        assert (await socket.hear())["payload"]["data"] == {"linkRequest": {"status": "PENDING"}}


async def test_a_socket_has_a_limit_of_operations(served: Served, socket: Socket) -> None:
    """One operation above the limit is refused with a code."""
    for number in range(OPERATIONS_PER_SOCKET):
        await socket.ask(UPDATES, str(number))
    await served.listened_to(OPERATIONS_PER_SOCKET)

    await socket.ask(UPDATES, "one more")

    refused = await socket.hear()
    assert (refused["type"], refused["id"]) == ("error", "one more")
    assert "code" in refused["payload"][0].get("extensions", {})


async def test_a_foreign_page_gets_no_socket(served: Served) -> None:
    """The handshake refuses a page of another origin."""
    with pytest.raises(InvalidStatus) as refused:
        async with connected(served, origin="https://evil.example"):
            pass

    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("origin", ["own", "https://dashboard.example"])
async def test_our_own_pages_get_a_socket(settings: Settings, people: None, origin: str) -> None:
    """The handshake accepts the server's own origin and those of CORS_ORIGINS."""
    allowing = settings.model_copy(update={"cors_origins": ("https://dashboard.example",)})
    async with (
        serving_api(allowing) as served,
        connected(served, origin=served.address if origin == "own" else origin) as socket,
    ):
        await socket.say(INIT)

        assert (await socket.hear())["type"] == "connection_ack"
