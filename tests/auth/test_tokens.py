"""Tokens: how they are issued and verified, and how the APIs answer a wrong one."""

from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from app.auth.context import Context
from app.auth.tokens import ALGORITHM, CLOCK_SKEW, issue_token, parse_bearer, read_token
from app.clients import Clients
from app.errors import Unauthenticated
from app.models import LinkRequest, Role, User
from app.settings import Settings
from tests.apis import ApiClient, RestClient, rows
from tests.conftest import JWT_SECRET, MANAGER_TGID

MANAGER = User(tgid=MANAGER_TGID, name="Maria", role=Role.MANAGER)


def make_token(secret: str = JWT_SECRET, algorithm: str = ALGORITHM, **changes: object) -> str:
    """Make a manager's token, valid except for `changes`; None leaves a claim out."""
    claims = {"sub": str(MANAGER_TGID), "role": "manager", "exp": datetime.now(UTC) + timedelta(hours=1)} | changes
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, secret, algorithm)


def invalid_tokens() -> dict[str, str]:
    valid = make_token()
    head, body, signature = valid.split(".")
    other_body = make_token(sub="1").split(".")[1]
    return {
        "expired": make_token(exp=datetime.now(UTC) - timedelta(seconds=1)),
        "another secret": make_token("another secret that is long enough for it"),
        "no signature": f"{head}.{body}.",
        "another body": f"{head}.{other_body}.{signature}",
        "cut off": valid[:-2],
        "algorithm none": make_token("", "none"),
        "no exp": make_token(exp=None),
        "exp is text": make_token(exp="tomorrow"),
        "no sub": make_token(sub=None),
        "sub is a name": make_token(sub="maria"),
        "sub is a list": make_token(sub=[MANAGER_TGID]),
        "exp is beyond all calendars": make_token(exp=10**30),
        "issued in the future": make_token(iat=datetime.now(UTC) + CLOCK_SKEW + timedelta(minutes=1)),
        "not valid yet": make_token(nbf=datetime.now(UTC) + CLOCK_SKEW + timedelta(minutes=1)),
        "an unknown user": make_token(sub="999"),
        "garbage": "garbage",
        "dots": "..",
        "long": "x" * 8000,
    }


def test_an_issued_token_can_be_read(settings: Settings) -> None:
    """A token has the Telegram id of its user."""
    assert read_token(settings, issue_token(settings, MANAGER)).tgid == MANAGER_TGID


@pytest.mark.parametrize("ttl", [timedelta(minutes=5), None])
def test_a_token_has_an_expiry(settings: Settings, ttl: timedelta | None) -> None:
    """A token is valid for the given time, or else for the time in the settings."""
    claims = read_token(settings, issue_token(settings, MANAGER, ttl))

    remaining = claims.expires_at - datetime.now(UTC)
    assert timedelta(seconds=-2) < remaining - (ttl or settings.jwt_ttl) <= timedelta(0)


def test_a_token_shows_the_role_to_clients(settings: Settings) -> None:
    """A client can read the role in its token without the secret."""
    claims = jwt.decode(issue_token(settings, MANAGER), options={"verify_signature": False})

    assert claims["role"] == "manager"


@pytest.mark.parametrize("kind", [name for name in invalid_tokens() if name != "an unknown user"])
def test_an_invalid_token_is_unauthenticated(settings: Settings, kind: str) -> None:
    """Every kind of invalid token raises Unauthenticated."""
    with pytest.raises(Unauthenticated):
        read_token(settings, invalid_tokens()[kind])


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_the_clock_of_the_issuer_may_be_ahead(settings: Settings, claim: str) -> None:
    """A token from a host whose clock is up to 60 s ahead is valid."""
    ahead: dict[str, Any] = {claim: datetime.now(UTC) + timedelta(seconds=60)}

    assert read_token(settings, make_token(**ahead)).tgid == MANAGER_TGID


def test_a_token_cannot_choose_its_algorithm(settings: Settings) -> None:
    """A token with the right secret and another algorithm raises Unauthenticated."""
    secret = "x" * 64
    long_secret = settings.model_copy(update={"jwt_secret_key": SecretStr(secret)})

    assert read_token(long_secret, make_token(secret)).tgid == MANAGER_TGID
    with pytest.raises(Unauthenticated):
        read_token(long_secret, make_token(secret, "HS512"))


@pytest.mark.parametrize("token", ["é.é.é", "\ud800", "1" * 5000, "a.b.c"])
def test_a_malformed_token_is_unauthenticated(settings: Settings, token: str) -> None:
    """A text that is not a token raises Unauthenticated and no other error."""
    with pytest.raises(Unauthenticated):
        read_token(settings, token)


@pytest.mark.parametrize("header", ["Bearer x", "bearer x", "BEARER  x ", "bEARER x"])
def test_a_header_has_a_token(header: str) -> None:
    """The scheme may be in upper or lower case (RFC 9110, section 11.1)."""
    assert parse_bearer(header) == "x"


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Bearer  ", "x", "Basic dTpw", "Bearerx", 5, ["Bearer x"], {"Bearer": "x"}],
)
def test_a_header_without_a_token_is_unauthenticated(header: object) -> None:
    """A header that is not `Bearer <token>` raises Unauthenticated."""
    with pytest.raises(Unauthenticated):
        parse_bearer(header)


async def test_the_apis_refuse_invalid_tokens(api_client: ApiClient, clients: Clients, pending: LinkRequest) -> None:
    """A request with an invalid token gets UNAUTHENTICATED and changes nothing."""
    before = await rows(clients)

    answers = {
        name: await api_client.signed(token)("approve", request_id=pending.id)
        for name, token in invalid_tokens().items()
    }

    assert {name: answer.code for name, answer in answers.items()} == dict.fromkeys(answers, "UNAUTHENTICATED")
    assert await rows(clients) == before


async def test_the_apis_refuse_invalid_headers(api_client: ApiClient, clients: Clients, pending: LinkRequest) -> None:
    """A request whose header has no token gets UNAUTHENTICATED and changes nothing."""
    headers = ("Bearer", "garbage", "Basic dTpw", "Bearer a b", "Token x")
    before = await rows(clients)

    answers = [await api_client.authorized(header)("approve", request_id=pending.id) for header in headers]

    assert {answer.code for answer in answers} == {"UNAUTHENTICATED"}
    assert await rows(clients) == before


async def test_a_deleted_user_is_refused_immediately(
    manager_client: ApiClient, clients: Clients, manager: Context
) -> None:
    """A deleted user gets UNAUTHENTICATED, even if the token has not expired."""
    async with clients.db() as session:
        await session.execute(sa.delete(User))

    assert (await manager_client("me")).code == "UNAUTHENTICATED"


@pytest.mark.parametrize("api_client", [RestClient], indirect=True)
async def test_rest_names_the_authentication_scheme(api_client: ApiClient) -> None:
    """A 401 response names the scheme (RFC 9110, section 15.5.2)."""
    response = (await api_client("me")).response

    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("api_client", [RestClient], indirect=True)
async def test_rest_forbids_with_403(user_client: ApiClient) -> None:
    """A token with the wrong role gets 403 and no request to authenticate again."""
    response = (await user_client("link_requests")).response

    assert (response.status_code, "www-authenticate" in response.headers) == (403, False)
