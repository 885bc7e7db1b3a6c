"""The settings of the processes."""

from collections.abc import Callable
from datetime import time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from pydantic_settings import BaseSettings

from app.settings import Settings, SettingsError

SECRET = "a secret that is long enough for HS256"

GOOD = {
    "DATABASE_URL": "postgresql+asyncpg://lunch:hidden@db:5432/lunch",
    "REDIS_URL": "redis://:hidden@redis:6379/0",
    "KAFKA_BROKER_URL": "one:9092,two:9092",
    "JWT_SECRET_KEY": SECRET,
    "TELEGRAM_BOT_TOKEN": "123456:hidden",
    "GEMINI_API_KEYS": "AIza-hidden,lunch:AQ.hidden",
}

WRONG = [
    ("DATABASE_URL", "mysql://lunch:hidden@db/lunch"),
    ("DATABASE_URL", "postgresql://lunch:hidden@db/lunch?sslmode=hidden"),
    ("DATABASE_URL", "postgresql+asyncpg://"),
    ("DATABASE_URL", "postgresql+asyncpg://lunch:hidden@db:port/lunch"),
    ("DATABASE_POOL_SIZE", "many"),
    ("DATABASE_POOL_SIZE", "0"),
    ("REDIS_URL", "http://redis"),
    ("REDIS_URL", "redis://redis:port"),
    ("KAFKA_BROKER_URL", "kafka"),
    ("KAFKA_BROKER_URL", "kafka:9092, other:9092"),
    ("KAFKA_BROKER_URL", "kafka:nine"),
    ("KAFKA_BROKER_URL", "kafka:90000"),
    ("KAFKA_BROKER_URL", "kafka:9092,"),
    ("KAFKA_BROKER_URL", "PLAINTEXT://kafka:9092"),
    ("KAFKA_BROKER_URL", "lunch:hidden@kafka:9092"),
    ("KAFKA_PARTITIONS", "0"),
    ("KAFKA_IDEMPOTENCE", "perhaps"),
    ("JWT_SECRET_KEY", "hidden"),
    ("JWT_TTL", "soon"),
    ("JWT_TTL", "-1h"),
    ("JWT_TTL", "0s"),
    ("JWT_TTL", "999999999999d"),
    ("LINK_REQUESTS_PER_MINUTE", "0"),
    ("TELEGRAM_BOT_TOKEN", "hidden"),
    ("TELEGRAM_MANAGER_CHAT_ID", "managers"),
    ("TELEGRAM_WEBHOOK_URL", "telegram"),
    ("TELEGRAM_WEBHOOK_SECRET", "not, a secret"),
    ("ACK_REMINDER_MINUTES", "0"),
    ("ACK_REMINDER_MINUTES", "soon"),
    ("TELEGRAM_API_URL", "telegram"),
    ("TELEGRAM_API_URL", "ftp://lunch:hidden@telegram"),
    ("GEMINI_API_KEYS", "hidden,hidden"),
    ("GEMINI_API_KEYS", "lunch:hidden,kitchen:hidden"),
    ("GEMINI_API_KEYS", "hidden,lunch:"),
    ("GEMINI_API_KEYS", "hidden key"),
    ("GEMINI_API_KEYS", "hidden;ключ"),
    ("GEMINI_API_KEYS", '"hidden,hidden2"'),
    ("GEMINI_API_KEYS", "hidden,hidden2\n"),
    ("GEMINI_API_KEYS", "\ufeffhidden"),
    ("GEMINI_API_KEYS", '["hidden","hidden2"]'),
    ("GEMINI_API_KEYS", 'hidden,"hidden2"'),
    ("GEMINI_API_URL", "google"),
    ("GEMINI_API_URL", "ftp://lunch:hidden@google"),
    ("GEMINI_MODEL", "models/gemini"),
    ("GEMINI_MODEL", "gemini flash"),
    ("GEMINI_MAX_REQUESTS_PER_KEY", "0"),
    ("GEMINI_MAX_REQUESTS_PER_KEY", "many"),
    ("RECOMMENDATION_CONCURRENCY", "0"),
    ("RECOMMENDATION_CONCURRENCY", "1000"),
    ("LUNCH_TIMEZONE", "Mars"),
    ("LUNCH_TIMEZONE", "Mars/Olympus"),
    ("LUNCH_TIMEZONE", "../zoneinfo/UTC"),
    ("LUNCH_TIMEZONE", "Europe"),
    ("MORNING_MESSAGE_AT", "08:30+02:00"),
    ("MORNING_MESSAGE_AT", "soon"),
    ("MORNING_MESSAGE_AT", "8"),
    ("MORNING_MESSAGE_AT", "24:00"),
    ("MORNING_MESSAGE_AT", "08.30"),
    ("MORNING_MESSAGE_AT", "08"),
    ("MORNING_MESSAGE_AT", "8:30"),
    ("MORNING_MESSAGE_AT", "08:30:00.5"),
    ("MORNING_MESSAGE_AT", "T08:30"),
    ("MORNING_MESSAGE_AT", "30600"),
    ("PORT", "0"),
    ("PORT", "65536"),
    ("PORT", "http"),
    ("HTTP_KEEP_ALIVE", "0.1s"),
    ("HTTP_KEEP_ALIVE", "long"),
    ("CORS_ORIGINS", "dashboard.example"),
    ("CORS_ORIGINS", "https://dashboard.example/path"),
    ("GRAPHQL_INTROSPECTION", "perhaps"),
    ("LOG_LEVEL", "info"),
    ("LOG_LEVEL", "LOUD"),
    ("LOG_FORMAT", "xml"),
]


LEFT_AROUND_A_VALUE = {
    '"{}"': "is in quotes; write it without them",
    "'{}'": "is in quotes; write it without them",
    "“{}”": "is in quotes; write it without them",
    "{}\n": "has a line break or another invisible character",
    "{}\r": "has a line break or another invisible character",
    "{}\nhidden": "has a line break or another invisible character",
    "\ufeff{}": "has a line break or another invisible character",
    "{}\u200b": "has a line break or another invisible character",
    " {}": "begins or ends with a space",
    "{}\u00a0": "begins or ends with a space",
}

VALUES = GOOD | {"TELEGRAM_WEBHOOK_SECRET": "hidden", "TELEGRAM_API_URL": "https://telegram.example", "JWT_TTL": "1h"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A complete, valid environment."""
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_a_good_environment_is_read(environment: pytest.MonkeyPatch) -> None:
    """The settings have the addresses of the environment."""
    assert Settings.load().kafka_broker_url == "one:9092,two:9092"


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_is_one_clear_line(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    """The line begins with the name of the variable, and shows no secret."""
    environment.setenv(name, value)

    with pytest.raises(SettingsError) as wrong:
        Settings.load()

    [line] = str(wrong.value).splitlines()
    assert line.startswith(f"{name}: ")
    assert "hidden" not in line


@pytest.mark.parametrize("around", LEFT_AROUND_A_VALUE)
@pytest.mark.parametrize("name", sorted(VALUES.keys() - {"GEMINI_API_KEYS"}))
def test_what_is_left_around_a_value_is_one_clear_line(environment: pytest.MonkeyPatch, name: str, around: str) -> None:
    """Quotes, line breaks, byte order marks and spaces around a value never become a part of it."""
    environment.setenv(name, around.format(VALUES[name]))

    with pytest.raises(SettingsError) as wrong:
        Settings.load()

    assert str(wrong.value) == f"{name}: {LEFT_AROUND_A_VALUE[around]}"


def test_a_value_is_shown_as_it_is(environment: pytest.MonkeyPatch) -> None:
    """A wrong time zone is shown with its capital letter."""
    environment.setenv("LUNCH_TIMEZONE", "Mars")

    with pytest.raises(SettingsError, match=r"^LUNCH_TIMEZONE: Mars is not a time zone"):
        Settings.load()


def test_each_wrong_value_has_its_line(environment: pytest.MonkeyPatch) -> None:
    """One error has a line for each wrong value."""
    environment.setenv("PORT", "http")
    environment.setenv("LOG_LEVEL", "LOUD")
    environment.delenv("JWT_SECRET_KEY")

    with pytest.raises(SettingsError) as wrong:
        Settings.load()

    assert [line.split(": ")[0] for line in str(wrong.value).splitlines()] == ["JWT_SECRET_KEY", "PORT", "LOG_LEVEL"]


@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL", "KAFKA_BROKER_URL", "JWT_SECRET_KEY"])
@pytest.mark.parametrize("empty", [True, False])
def test_required_variables_must_be_set(environment: pytest.MonkeyPatch, name: str, empty: bool) -> None:
    """A variable that is missing or empty is not set."""
    environment.setenv(name, "")
    if not empty:
        environment.delenv(name)

    with pytest.raises(SettingsError, match=f"^{name}: is not set$"):
        Settings.load()


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("1h", timedelta(hours=1)),
        ("7d", timedelta(days=7)),
        ("1h30m", timedelta(minutes=90)),
    ],
)
def test_a_duration_is_read(environment: pytest.MonkeyPatch, text: str, duration: timedelta) -> None:
    """A duration has a unit, such as 90s or 1h30m."""
    environment.setenv("JWT_TTL", text)

    assert Settings.load().jwt_ttl == duration


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("", ()),
        ("https://a.example", ("https://a.example",)),
        (" https://a.example , http://localhost:5173,", ("https://a.example", "http://localhost:5173")),
        ("*", ("*",)),
    ],
)
def test_origins_are_separated_by_commas(environment: pytest.MonkeyPatch, text: str, origins: tuple[str, ...]) -> None:
    """Spaces and empty parts between commas are ignored."""
    environment.setenv("CORS_ORIGINS", text)

    assert Settings.load().cors_origins == origins


@pytest.mark.parametrize("name", ["TELEGRAM_API_URL", "GEMINI_API_URL"])
def test_an_address_ends_without_a_slash(environment: pytest.MonkeyPatch, name: str) -> None:
    """The slash is removed, because paths are appended."""
    environment.setenv(name, "http://localhost:8081/")

    assert getattr(Settings.load(), name.lower()) == "http://localhost:8081"


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", ()),
        (" , ", ()),
        ("AIza-1", ("AIza-1",)),
        (" AIza-1 , lunch:AQ.2,", ("AIza-1", "lunch:AQ.2")),
        ("lunch:AIza-1,lunch:AIza-2", ("lunch:AIza-1", "lunch:AIza-2")),
        ("example.com:lunch:AIza-1", ("example.com:lunch:AIza-1",)),
    ],
)
def test_keys_are_separated_by_commas(environment: pytest.MonkeyPatch, text: str, keys: tuple[str, ...]) -> None:
    """A key may have its project before it; a project may have several keys."""
    environment.setenv("GEMINI_API_KEYS", text)

    assert tuple(key.get_secret_value() for key in Settings.load().gemini_api_keys) == keys


def test_time_zone_and_time_are_read(environment: pytest.MonkeyPatch) -> None:
    """The time zone has its IANA name, the time of day has hours and minutes."""
    environment.setenv("LUNCH_TIMEZONE", "Europe/Berlin")
    environment.setenv("MORNING_MESSAGE_AT", "08:30")

    settings = Settings.load()

    assert (settings.lunch_timezone, settings.morning_message_at) == (ZoneInfo("Europe/Berlin"), time(8, 30))


def test_by_default_there_are_no_recommendations(environment: pytest.MonkeyPatch) -> None:
    """Without a key there are no requests to Gemini and no morning messages."""
    environment.delenv("GEMINI_API_KEYS")

    settings = Settings.load()

    assert (settings.gemini_api_keys, settings.morning_message_at) == ((), None)


def test_the_default_limit_of_a_key_is_195(environment: pytest.MonkeyPatch) -> None:
    """The default limit is a little lower than Google's."""
    assert Settings.load().gemini_max_requests_per_key == 195


@pytest.mark.parametrize("shown", [repr, str])
def test_secrets_do_not_show(environment: pytest.MonkeyPatch, shown: Callable[[object], str]) -> None:
    """The representation of the settings has neither passwords nor keys."""
    text = shown(Settings.load())

    assert SECRET not in text
    assert "hidden" not in text


def test_settings_do_not_change(environment: pytest.MonkeyPatch) -> None:
    """Settings are immutable."""
    with pytest.raises(ValueError, match="frozen"):
        Settings.load().port = 1  # type: ignore[misc]


def test_a_process_may_require_a_secret(environment: pytest.MonkeyPatch) -> None:
    """The error for a missing secret names its variable."""
    environment.delenv("TELEGRAM_BOT_TOKEN")

    with pytest.raises(SettingsError, match=r"^TELEGRAM_BOT_TOKEN: is not set$"):
        Settings.load().required("telegram_bot_token")


def test_a_file_is_read(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`.env` has the values that the environment does not have; the environment comes first."""
    file = tmp_path / ".env"
    file.write_text("PORT=8123\nLOG_LEVEL=DEBUG\nUNKNOWN=1\n", encoding="utf-8")
    environment.setenv("LOG_LEVEL", "ERROR")

    settings = Settings(_env_file=file)

    assert (settings.port, settings.log_level) == (8123, "ERROR")


def test_a_file_may_come_from_another_editor_or_shell(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A byte order mark, Windows' line ends, `export` and quotes in `.env` are not a part of a value."""
    file = tmp_path / ".env"
    file.write_bytes(b"\xef\xbb\xbfPORT=8123\r\nexport LOG_LEVEL=\"DEBUG\"\r\nHOST='0.0.0.0'\r\n")

    settings = Settings(_env_file=file)

    assert (settings.port, settings.log_level, settings.host) == (8123, "DEBUG", "0.0.0.0")  # noqa: S104


def test_other_variables_are_ignored(environment: pytest.MonkeyPatch) -> None:
    """The environment may have variables of other programs."""
    environment.setenv("LUNCH_BOT_NONSENSE", "1")

    assert isinstance(Settings.load(), BaseSettings)
