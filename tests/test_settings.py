"""What the processes are told from outside."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

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
}

WRONG = [
    ("DATABASE_URL", "mysql://lunch:hidden@db/lunch"),
    ("DATABASE_URL", "postgresql://lunch:hidden@db/lunch"),
    ("DATABASE_URL", "postgresql+asyncpg://"),
    ("DATABASE_URL", "postgresql+asyncpg://lunch:hidden@db:port/lunch"),
    ("DATABASE_POOL_SIZE", "many"),
    ("DATABASE_POOL_SIZE", "0"),
    ("REDIS_URL", "http://redis"),
    ("REDIS_URL", "redis://redis:port"),
    ("KAFKA_BROKER_URL", "kafka"),
    ("KAFKA_BROKER_URL", "kafka:9092, other:9092"),
    ("KAFKA_BROKER_URL", "kafka:nine"),
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
    ("PORT", "0"),
    ("PORT", "65536"),
    ("PORT", "http"),
    ("CORS_ORIGINS", "dashboard.example"),
    ("CORS_ORIGINS", "https://dashboard.example/path"),
    ("GRAPHQL_INTROSPECTION", "perhaps"),
    ("LOG_LEVEL", "info"),
    ("LOG_LEVEL", "LOUD"),
    ("LOG_FORMAT", "xml"),
]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that describes a system."""
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_a_good_environment_is_read(environment: pytest.MonkeyPatch) -> None:
    """The addresses are those of the environment."""
    assert Settings.load().kafka_broker_url == "one:9092,two:9092"


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_is_one_clear_line(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    """The line begins with the variable's name, and shows nothing that may be secret."""
    environment.setenv(name, value)

    with pytest.raises(SettingsError) as wrong:
        Settings.load()

    [line] = str(wrong.value).splitlines()
    assert line.startswith(f"{name}: ")
    assert "hidden" not in line


def test_each_wrong_value_has_its_line(environment: pytest.MonkeyPatch) -> None:
    """What is wrong in several places is told at once."""
    environment.setenv("PORT", "http")
    environment.setenv("LOG_LEVEL", "LOUD")
    environment.delenv("JWT_SECRET_KEY")

    with pytest.raises(SettingsError) as wrong:
        Settings.load()

    assert [line.split(": ")[0] for line in str(wrong.value).splitlines()] == ["JWT_SECRET_KEY", "PORT", "LOG_LEVEL"]


@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL", "KAFKA_BROKER_URL", "JWT_SECRET_KEY"])
@pytest.mark.parametrize("empty", [True, False])
def test_what_is_needed_must_be_set(environment: pytest.MonkeyPatch, name: str, empty: bool) -> None:
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
    """Durations are written as people write them."""
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
    """Spaces and empty places between commas do not count."""
    environment.setenv("CORS_ORIGINS", text)

    assert Settings.load().cors_origins == origins


def test_an_address_ends_without_a_slash(environment: pytest.MonkeyPatch) -> None:
    """Paths are put behind it."""
    environment.setenv("TELEGRAM_API_URL", "http://localhost:8081/")

    assert Settings.load().telegram_api_url == "http://localhost:8081"


@pytest.mark.parametrize("shown", [repr, str])
def test_secrets_do_not_show(environment: pytest.MonkeyPatch, shown: Callable[[object], str]) -> None:
    """Neither passwords nor keys are in what a log would show."""
    text = shown(Settings.load())

    assert SECRET not in text
    assert "hidden" not in text


def test_settings_do_not_change(environment: pytest.MonkeyPatch) -> None:
    """What a process was told holds until its end."""
    with pytest.raises(ValueError, match="frozen"):
        Settings.load().port = 1  # type: ignore[misc]


def test_a_secret_that_one_process_needs(environment: pytest.MonkeyPatch) -> None:
    """Who asks for a secret that is not set is told its variable."""
    environment.delenv("TELEGRAM_BOT_TOKEN")

    with pytest.raises(SettingsError, match=r"^TELEGRAM_BOT_TOKEN: is not set$"):
        Settings.load().required("telegram_bot_token")


def test_a_file_is_read_too(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the environment does not say may stand in `.env`; what it says wins."""
    file = tmp_path / ".env"
    file.write_text("PORT=8123\nLOG_LEVEL=DEBUG\nUNKNOWN=1\n", encoding="utf-8")
    environment.setenv("LOG_LEVEL", "ERROR")

    settings = Settings(_env_file=file)

    assert (settings.port, settings.log_level) == (8123, "ERROR")


def test_other_variables_do_not_matter(environment: pytest.MonkeyPatch) -> None:
    """The environment holds much that is not for us."""
    environment.setenv("LUNCH_BOT_NONSENSE", "1")

    assert isinstance(Settings.load(), BaseSettings)
