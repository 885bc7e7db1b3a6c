"""Tokens, and whom they let in."""

from datetime import UTC, datetime, timedelta

import jwt
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from app.auth import ALGORITHM, bearer, issue_token, read_token
from app.clients import Clients
from app.context import Context
from app.errors import Unauthenticated
from app.models import LinkRequest, Role, User
from app.settings import Settings
from tests.conftest import JWT_SECRET, MANAGER_TGID
from tests.doors import Door, RestDoor, rows

MANAGER = User(tgid=MANAGER_TGID, name="Maria", role=Role.MANAGER)


def signed(secret: str = JWT_SECRET, algorithm: str = ALGORITHM, **changes: object) -> str:
    """Make a manager's token, good but for `changes`; None leaves a claim out."""
    claims = {"sub": str(MANAGER_TGID), "role": "manager", "exp": datetime.now(UTC) + timedelta(hours=1)} | changes
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, secret, algorithm)


def bad_tokens() -> dict[str, str]:
    good = signed()
    head, body, signature = good.split(".")
    other_body = signed(sub="1").split(".")[1]
    return {
        "expired": signed(exp=datetime.now(UTC) - timedelta(seconds=1)),
        "another secret": signed("another secret that is long enough for it"),
        "no signature": f"{head}.{body}.",
        "another body": f"{head}.{other_body}.{signature}",
        "cut off": good[:-2],
        "algorithm none": signed("", "none"),
        "no exp": signed(exp=None),
        "exp is a text": signed(exp="tomorrow"),
        "no sub": signed(sub=None),
        "sub is a name": signed(sub="maria"),
        "sub is a list": signed(sub=[MANAGER_TGID]),
        "not valid yet": signed(nbf=datetime.now(UTC) + timedelta(hours=1)),
        "an unknown user": signed(sub="999"),
        "garbage": "garbage",
        "dots": "..",
        "long": "x" * 8000,
    }


def test_a_token_says_whose_it_is(settings: Settings) -> None:
    """What is issued can be read."""
    assert read_token(settings, issue_token(settings, MANAGER)).tgid == MANAGER_TGID


@pytest.mark.parametrize("ttl", [timedelta(minutes=5), None])
def test_a_token_says_until_when_it_is_valid(settings: Settings, ttl: timedelta | None) -> None:
    """It is valid as long as asked, or else as long as the setting says."""
    claims = read_token(settings, issue_token(settings, MANAGER, ttl))

    remaining = claims.expires_at - datetime.now(UTC)
    assert timedelta(seconds=-2) < remaining - (ttl or settings.jwt_ttl) <= timedelta(0)


def test_a_token_shows_the_role_to_clients(settings: Settings) -> None:
    """A dashboard may look into its own token."""
    claims = jwt.decode(issue_token(settings, MANAGER), options={"verify_signature": False})

    assert claims["role"] == "manager"


@pytest.mark.parametrize("which", [name for name in bad_tokens() if name != "an unknown user"])
def test_a_bad_token_is_not_read(settings: Settings, which: str) -> None:
    """Whatever is wrong with a token, it is Unauthenticated."""
    with pytest.raises(Unauthenticated):
        read_token(settings, bad_tokens()[which])


def test_a_token_does_not_choose_how_it_is_checked(settings: Settings) -> None:
    """Of two tokens with the right secret, only the one with our algorithm is read."""
    secret = "x" * 64
    longer = settings.model_copy(update={"jwt_secret_key": SecretStr(secret)})

    assert read_token(longer, signed(secret)).tgid == MANAGER_TGID
    with pytest.raises(Unauthenticated):
        read_token(longer, signed(secret, "HS512"))


@pytest.mark.parametrize("token", ["é.é.é", "\ud800", "1" * 5000, "a.b.c"])
def test_a_strange_token_is_not_read(settings: Settings, token: str) -> None:
    """No text makes reading fall over."""
    with pytest.raises(Unauthenticated):
        read_token(settings, token)


@pytest.mark.parametrize("header", ["Bearer x", "bearer x", "BEARER  x ", "bEARER x"])
def test_a_header_holds_a_token(header: str) -> None:
    """The scheme's case does not matter (RFC 9110, section 11.1)."""
    assert bearer(header) == "x"


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Bearer  ", "x", "Basic dTpw", "Bearerx", 5, ["Bearer x"], {"Bearer": "x"}],
)
def test_a_header_without_a_token_is_refused(header: object) -> None:
    """What is no `Bearer <token>` is Unauthenticated."""
    with pytest.raises(Unauthenticated):
        bearer(header)


async def test_a_bad_token_is_refused(door: Door, clients: Clients, pending: LinkRequest) -> None:
    """Whatever is wrong with a token, its owner is refused, and changes nothing."""
    before = await rows(clients)

    answers = {name: await door.signed(token)("approve", request_id=pending.id) for name, token in bad_tokens().items()}

    assert {name: answer.code for name, answer in answers.items()} == dict.fromkeys(answers, "UNAUTHENTICATED")
    assert await rows(clients) == before


async def test_garbage_is_refused(door: Door, clients: Clients, pending: LinkRequest) -> None:
    """A header that holds no token is refused."""
    headers = ("Bearer", "garbage", "Basic dTpw", "Bearer a b", "Token x")
    before = await rows(clients)

    answers = [await door.authorized(header)("approve", request_id=pending.id) for header in headers]

    assert {answer.code for answer in answers} == {"UNAUTHENTICATED"}
    assert await rows(clients) == before


async def test_who_is_gone_is_refused_at_once(manager_door: Door, clients: Clients, manager: Context) -> None:
    """A token that has not expired does not help a user who was deleted."""
    async with clients.db() as session:
        await session.execute(sa.delete(User))

    assert (await manager_door("me")).code == "UNAUTHENTICATED"


@pytest.mark.parametrize("door", [RestDoor], indirect=True)
async def test_rest_says_how_to_sign_in(door: Door) -> None:
    """A 401 names the scheme (RFC 9110, section 15.5.2)."""
    response = (await door("me")).response

    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("door", [RestDoor], indirect=True)
async def test_rest_forbids_with_403(user_door: Door) -> None:
    """A token of the wrong role is no reason to sign in again."""
    response = (await user_door("link_requests")).response

    assert (response.status_code, "www-authenticate" in response.headers) == (403, False)
