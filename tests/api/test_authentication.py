"""Authentication with the init data of a Telegram Web App, in both APIs."""

import hashlib
import hmac
import json
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlencode

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from app.clients import Clients
from app.models import Language, User
from app.settings import Settings
from tests.apis import ApiClient, rows
from tests.conftest import MANAGER_TGID, USER_TGID
from tests.init_data import BOT, hash_of, init_data

HOUR_S = 3600
MINUTE_S = 60

BAD_TEXTS: tuple[object, ...] = (None, 5, ["x"], {})


@pytest.fixture
def bot_token() -> SecretStr | None:
    return SecretStr(BOT)


@pytest.fixture
def settings(settings: Settings, bot_token: SecretStr | None) -> Settings:
    return settings.model_copy(update={"telegram_bot_token": bot_token})


def changed(data: str, **changes: str | None) -> str:
    """Replace fields of signed init data; None removes a field."""
    fields = dict(parse_qsl(data)) | changes
    return urlencode({name: value for name, value in fields.items() if value is not None})


def with_hash(hash_: str) -> str:
    return changed(init_data(USER_TGID), hash=hash_)


async def test_init_data_gives_a_user_and_a_token(api_client: ApiClient, clients: Clients) -> None:
    """The answer has the user, and a token that is valid as long as the setting says."""
    before = datetime.now(UTC).replace(microsecond=0)

    answer = await api_client("authenticate", init_data=init_data(USER_TGID))

    assert (answer.data["user"]["tgid"], answer.data["user"]["name"], answer.data["user"]["role"]) == (
        USER_TGID,
        "Ivan",
        "user",
    )
    expires_at = datetime.fromisoformat(answer.data["expires_at"])
    ttl = clients.settings.jwt_ttl
    assert before + ttl <= expires_at <= datetime.now(UTC) + ttl
    assert expires_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize(("tgid", "role", "may"), [(USER_TGID, "user", "FORBIDDEN"), (MANAGER_TGID, "manager", None)])
async def test_the_token_belongs_to_the_user(api_client: ApiClient, tgid: int, role: str, may: str | None) -> None:
    """The owner of the token is the user who signed in, with that user's role."""
    token = (await api_client("authenticate", init_data=init_data(tgid))).data["token"]

    me = (await api_client.signed(token)("me")).data
    assert (me["tgid"], me["role"]) == (tgid, role)
    assert (await api_client.signed(token)("users")).code == may


async def test_other_fields_do_not_matter(api_client: ApiClient) -> None:
    """Additional fields that Telegram has signed are accepted, in any order and repeatedly."""
    data = init_data(
        USER_TGID, start_param="from a chat & more", chat_type="private", chat_instance="-42", signature="x-y_z"
    )

    answers = [
        await api_client("authenticate", init_data=text) for text in (data, "&".join(data.split("&")[::-1]), data)
    ]

    assert [answer.code for answer in answers] == [None] * 3


async def test_an_expired_token_does_not_prevent_signing_in(api_client: ApiClient) -> None:
    """Authentication is public, so a bad token in the header does not matter."""
    answer = await api_client.authorized("Bearer nonsense")("authenticate", init_data=init_data(USER_TGID))

    assert answer.code is None


def forgeries() -> dict[str, str]:
    """Return init data that Telegram did not sign for this bot and this user."""
    good = init_data(USER_TGID)
    hash_ = dict(parse_qsl(good))["hash"]
    return {
        "another bot's": init_data(USER_TGID, bot="123456:OTHER"),
        "another user": changed(good, user=dict(parse_qsl(init_data(MANAGER_TGID)))["user"]),
        "another time": changed(good, auth_date=str(int(time.time()) + 1)),
        "one more field": changed(good, start_param="x"),
        "one field less": changed(good, query_id=None),
        "a second user behind": f"{good}&{urlencode({'user': dict(parse_qsl(init_data(MANAGER_TGID)))['user']})}",
        "a second user before": f"{urlencode({'user': dict(parse_qsl(init_data(MANAGER_TGID)))['user']})}&x=1&{good}",
        "no hash": changed(good, hash=None),
        "an empty hash": with_hash(""),
        "a wrong hash": with_hash("0" * 64),
        "half a hash": with_hash(hash_[:32]),
        "a hash in capitals": with_hash(hash_.upper()),
        "a hash of other letters": with_hash("é" * 64),
        "a hash of other digits": with_hash("٠" * 64),
        "a hash with a NUL": with_hash(f"{hash_}\0"),
        "the key that others use": with_hash(_with_other_key(good)),
        "nothing": "",
        "a space": " ",
        "no fields": "nonsense",
        "JSON": '{"user": {"id": 2002}}',
        "broken escapes": f"{good}&%zz=%",
        "a lot": "x" * 100_000,
    }


def _with_other_key(data: str) -> str:
    """Sign with the hash of the token, as the Login Widget does: that is not a signature of init data."""
    fields = {name: value for name, value in parse_qsl(data) if name != "hash"}
    lines = "\n".join(f"{name}={value}" for name, value in sorted(fields.items()))
    return hmac.digest(hashlib.sha256(BOT.encode()).digest(), lines.encode(), hashlib.sha256).hex()


async def test_unsigned_init_data_is_refused(api_client: ApiClient, clients: Clients) -> None:
    """Forged init data gives no token."""
    before = await rows(clients)

    answers = {name: await api_client("authenticate", init_data=data) for name, data in forgeries().items()}

    assert {name: answer.code for name, answer in answers.items()} == dict.fromkeys(answers, "UNAUTHENTICATED")
    assert await rows(clients) == before


def signed(**fields: str) -> str:
    """Return signed init data with the given fields."""
    return urlencode(fields | {"hash": hash_of(fields)})


def useless() -> dict[str, str]:
    """Return signed init data that names no valid user."""
    now = str(int(time.time()))
    return {
        "without a user": init_data(None),
        "no time": signed(user='{"id":2002,"first_name":"Ivan"}'),
        "time is no number": signed(user='{"id":2002,"first_name":"Ivan"}', auth_date="x"),
        "time is beyond all calendars": signed(user='{"id":2002,"first_name":"Ivan"}', auth_date="9" * 30),
        "user is no object": signed(user="[2002]", auth_date=now),
        "user is no JSON": signed(user="{2002}", auth_date=now),
        "user has no id": signed(user='{"first_name":"Ivan"}', auth_date=now),
        "id is a name": signed(user='{"id":"ivan","first_name":"Ivan"}', auth_date=now),
        "id is huge": signed(user='{"id":1e30,"first_name":"Ivan"}', auth_date=now),
        "unknown user": init_data(999),
        "unknown user with 52 bits": init_data(2**52 - 1),
    }


async def test_init_data_without_a_known_user_is_refused(api_client: ApiClient, clients: Clients) -> None:
    """An unknown user is refused, and malformed user data is refused in the same way."""
    before = await rows(clients)

    answers = {name: await api_client("authenticate", init_data=data) for name, data in useless().items()}

    assert {name: answer.code for name, answer in answers.items()} == dict.fromkeys(answers, "UNAUTHENTICATED")
    assert await rows(clients) == before


async def test_init_data_is_valid_for_a_day(api_client: ApiClient) -> None:
    """Older init data is refused, because it may be stolen; Telegram's clock may be a little ahead."""
    codes = {
        24 * HOUR_S - MINUTE_S: None,
        24 * HOUR_S + MINUTE_S: "UNAUTHENTICATED",
        365 * 24 * HOUR_S: "UNAUTHENTICATED",
        -4 * MINUTE_S: None,
        -6 * MINUTE_S: "UNAUTHENTICATED",
    }

    answers = {age_s: await api_client("authenticate", init_data=init_data(USER_TGID, age_s=age_s)) for age_s in codes}

    assert {age_s: answer.code for age_s, answer in answers.items()} == codes


async def test_a_deactivated_user_cannot_sign_in(api_client: ApiClient, clients: Clients) -> None:
    """A deactivated user is refused, although the init data is valid."""
    async with clients.db() as session:
        await session.execute(sa.text("UPDATE users SET is_active = false"))

    answer = await api_client("authenticate", init_data=init_data(USER_TGID))

    assert answer.code == "FORBIDDEN"


def init_data_with_language(tag: str | None) -> str:
    """Return init data of the user, whose Telegram has the given language or none."""
    telegram_user = {"id": USER_TGID, "first_name": "Ivan"} | ({} if tag is None else {"language_code": tag})
    return signed(user=json.dumps(telegram_user), auth_date=str(int(time.time())))


async def speak(clients: Clients, language: Language) -> None:
    async with clients.db() as session:
        (await session.get_one(User, USER_TGID)).language = language


async def language_of_the_user(clients: Clients) -> Language:
    async with clients.db() as session:
        return (await session.get_one(User, USER_TGID)).language


@pytest.mark.parametrize(
    ("tag", "before", "after"),
    [
        ("ru-RU", Language.EN, Language.RU),
        ("RU", Language.EN, Language.RU),
        ("en", Language.RU, Language.EN),
        ("de", Language.RU, Language.RU),
        ("", Language.RU, Language.RU),
        (None, Language.RU, Language.RU),
    ],
)
async def test_the_users_language_is_stored(
    api_client: ApiClient, clients: Clients, tag: str | None, before: Language, after: Language
) -> None:
    """The language of the user's Telegram is stored if we have texts in it."""
    await speak(clients, before)

    answer = await api_client("authenticate", init_data=init_data_with_language(tag))

    assert (answer.code, await language_of_the_user(clients)) == (None, after)


async def test_a_refused_user_keeps_the_language(api_client: ApiClient, clients: Clients) -> None:
    """The language of a deactivated user does not change."""
    async with clients.db() as session:
        (await session.get_one(User, USER_TGID)).deactivate()

    answer = await api_client("authenticate", init_data=init_data_with_language("ru"))

    assert (answer.code, await language_of_the_user(clients)) == ("FORBIDDEN", Language.EN)


async def test_init_data_is_text(api_client: ApiClient) -> None:
    """A value that is not a text is BAD_INPUT."""
    answers = [await api_client("authenticate", init_data=value) for value in BAD_TEXTS]
    answers.append(await api_client("authenticate"))

    assert [(answer.code, answer.fields) for answer in answers] == [("BAD_INPUT", ("init_data",))] * 5


@pytest.mark.parametrize("bot_token", [None])
async def test_without_a_bot_token_all_init_data_is_refused(api_client: ApiClient, bot_token: None) -> None:
    """Without TELEGRAM_BOT_TOKEN no init data is valid."""
    given = (init_data(USER_TGID), init_data(USER_TGID, bot=""), init_data(USER_TGID, bot="None"), "")

    answers = [await api_client("authenticate", init_data=data) for data in given]

    assert [answer.code for answer in answers] == ["UNAUTHENTICATED"] * 4
