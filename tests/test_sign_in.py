"""Signing in with what Telegram gives to a Web App, through both doors."""

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
from tests.conftest import MANAGER_TGID, USER_TGID
from tests.doors import Door, rows
from tests.init_data import BOT, hash_of, init_data

HOUR_S = 3600
MINUTE_S = 60

NO_TEXTS: tuple[object, ...] = (None, 5, ["x"], {})


@pytest.fixture
def bot_token() -> SecretStr | None:
    return SecretStr(BOT)


@pytest.fixture
def settings(settings: Settings, bot_token: SecretStr | None) -> Settings:
    return settings.model_copy(update={"telegram_bot_token": bot_token})


def changed(data: str, **changes: str | None) -> str:
    """Put other fields into init data that is signed already; None takes one out."""
    fields = dict(parse_qsl(data)) | changes
    return urlencode({name: value for name, value in fields.items() if value is not None})


def with_hash(hash_: str) -> str:
    return changed(init_data(USER_TGID), hash=hash_)


async def test_telegram_says_who_it_is(door: Door, clients: Clients) -> None:
    """The answer has the person, and a token that is valid as long as the setting says."""
    before = datetime.now(UTC).replace(microsecond=0)

    answer = await door("authenticate", init_data=init_data(USER_TGID))

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
async def test_the_token_lets_in(door: Door, tgid: int, role: str, may: str | None) -> None:
    """Its owner is who signed in, with their role."""
    token = (await door("authenticate", init_data=init_data(tgid))).data["token"]

    me = (await door.signed(token)("me")).data
    assert (me["tgid"], me["role"]) == (tgid, role)
    assert (await door.signed(token)("users")).code == may


async def test_other_fields_do_not_matter(door: Door) -> None:
    """Whatever Telegram adds is signed like the rest; and it may be asked for in any order, and twice."""
    data = init_data(
        USER_TGID, start_param="from a chat & more", chat_type="private", chat_instance="-42", signature="x-y_z"
    )

    answers = [await door("authenticate", init_data=text) for text in (data, "&".join(data.split("&")[::-1]), data)]

    assert [answer.code for answer in answers] == [None] * 3


async def test_a_stale_token_does_not_keep_anybody_from_signing_in(door: Door) -> None:
    """Who may do it without a token may do it with a bad one."""
    answer = await door.authorized("Bearer nonsense")("authenticate", init_data=init_data(USER_TGID))

    assert answer.code is None


def forgeries() -> dict[str, str]:
    """Init data that Telegram did not sign for this bot, and this person."""
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
    """The Login Widget signs with the token's hash: that is no signature of init data."""
    fields = {name: value for name, value in parse_qsl(data) if name != "hash"}
    lines = "\n".join(f"{name}={value}" for name, value in sorted(fields.items()))
    return hmac.digest(hashlib.sha256(BOT.encode()).digest(), lines.encode(), hashlib.sha256).hex()


async def test_what_telegram_has_not_signed_is_refused(door: Door, clients: Clients) -> None:
    """Nobody gets a token by making something up."""
    before = await rows(clients)

    answers = {name: await door("authenticate", init_data=data) for name, data in forgeries().items()}

    assert {name: answer.code for name, answer in answers.items()} == dict.fromkeys(answers, "UNAUTHENTICATED")
    assert await rows(clients) == before


def signed(**fields: str) -> str:
    """Init data that is signed, of whatever fields."""
    return urlencode(fields | {"hash": hash_of(fields)})


def useless() -> dict[str, str]:
    """Init data that is Telegram's, or might be, and says nothing that helps."""
    now = str(int(time.time()))
    return {
        "for nobody": init_data(None),
        "no time": signed(user='{"id":2002,"first_name":"Ivan"}'),
        "time is no number": signed(user='{"id":2002,"first_name":"Ivan"}', auth_date="x"),
        "time is beyond all calendars": signed(user='{"id":2002,"first_name":"Ivan"}', auth_date="9" * 30),
        "user is no object": signed(user="[2002]", auth_date=now),
        "user is no JSON": signed(user="{2002}", auth_date=now),
        "user has no id": signed(user='{"first_name":"Ivan"}', auth_date=now),
        "id is a name": signed(user='{"id":"ivan","first_name":"Ivan"}', auth_date=now),
        "id is huge": signed(user='{"id":1e30,"first_name":"Ivan"}', auth_date=now),
        "somebody we do not know": init_data(999),
        "somebody with 52 bits": init_data(2**52 - 1),
    }


async def test_what_does_not_say_who_it_is_is_refused(door: Door, clients: Clients) -> None:
    """Whom nobody has added does not get in; and what is odd does not make signing in fall over."""
    before = await rows(clients)

    answers = {name: await door("authenticate", init_data=data) for name, data in useless().items()}

    assert {name: answer.code for name, answer in answers.items()} == dict.fromkeys(answers, "UNAUTHENTICATED")
    assert await rows(clients) == before


async def test_init_data_is_valid_for_a_day(door: Door) -> None:
    """Older data may have been stolen; Telegram's clock may be a little ahead, and no more."""
    codes = {
        24 * HOUR_S - MINUTE_S: None,
        24 * HOUR_S + MINUTE_S: "UNAUTHENTICATED",
        365 * 24 * HOUR_S: "UNAUTHENTICATED",
        -4 * MINUTE_S: None,
        -6 * MINUTE_S: "UNAUTHENTICATED",
    }

    answers = {age_s: await door("authenticate", init_data=init_data(USER_TGID, age_s=age_s)) for age_s in codes}

    assert {age_s: answer.code for age_s, answer in answers.items()} == codes


async def test_who_is_switched_off_does_not_get_in(door: Door, clients: Clients) -> None:
    """Telegram knows them; we do not let them in."""
    async with clients.db() as session:
        await session.execute(sa.text("UPDATE users SET is_active = false"))

    answer = await door("authenticate", init_data=init_data(USER_TGID))

    assert answer.code == "FORBIDDEN"


def spoken(tag: str | None) -> str:
    """Init data of the user, whose Telegram is in that language, or says none."""
    person = {"id": USER_TGID, "first_name": "Ivan"} | ({} if tag is None else {"language_code": tag})
    return signed(user=json.dumps(person), auth_date=str(int(time.time())))


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
async def test_the_persons_language_is_noted(
    door: Door, clients: Clients, tag: str | None, before: Language, after: Language
) -> None:
    """The language of their Telegram, if it says one that we have texts in."""
    await speak(clients, before)

    answer = await door("authenticate", init_data=spoken(tag))

    assert (answer.code, await language_of_the_user(clients)) == (None, after)


async def test_who_does_not_get_in_changes_nothing(door: Door, clients: Clients) -> None:
    """The language of one who is switched off stays as it is."""
    async with clients.db() as session:
        (await session.get_one(User, USER_TGID)).switch_off()

    answer = await door("authenticate", init_data=spoken("ru"))

    assert (answer.code, await language_of_the_user(clients)) == ("FORBIDDEN", Language.EN)


async def test_init_data_is_text(door: Door) -> None:
    """What is no text is bad input, before anybody looks at who it is."""
    answers = [await door("authenticate", init_data=value) for value in NO_TEXTS]
    answers.append(await door("authenticate"))

    assert [(answer.code, answer.fields) for answer in answers] == [("BAD_INPUT", ("init_data",))] * 5


@pytest.mark.parametrize("bot_token", [None])
async def test_without_a_bot_nobody_gets_in(door: Door, bot_token: None) -> None:
    """Where signing in with Telegram is not set up, whatever is given is not our bot's."""
    given = (init_data(USER_TGID), init_data(USER_TGID, bot=""), init_data(USER_TGID, bot="None"), "")

    answers = [await door("authenticate", init_data=data) for data in given]

    assert [answer.code for answer in answers] == ["UNAUTHENTICATED"] * 4
