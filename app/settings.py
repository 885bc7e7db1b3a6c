"""Application settings, from the environment and `.env`. Each field is one variable of `.env.example`, in upper case."""

import re
import unicodedata
from datetime import time, timedelta
from typing import Annotated, Literal, Self, get_origin
from zoneinfo import ZoneInfo

import pytimeparse
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    HttpUrl,
    SecretStr,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.addresses import is_port, parse_database_url, validate_redis_url
from app.dates import parse_time
from app.timezones import is_timezone

QUOTES = {'""', "''", "``", "“”", "„“", "‘’", "«»"}

JWT_SECRET_MIN_CHARACTERS = 32
"""HS256 needs a key that is at least as long as its hash, 256 bits (RFC 7518, section 3.2)."""


DEFAULT_PORTS = {"api": 8000, "events": 8001, "worker": 8002, "bot": 8003}
"""The port of each process without PORT."""


class SettingsError(Exception):
    """The settings are wrong: one line for each wrong value."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def duration(value: object) -> object:
    """Read `90s`, `15m`, `1h` or `7d`."""
    if not isinstance(value, str):
        return value
    seconds = pytimeparse.parse(value)
    if seconds is None:
        raise ValueError("is not a duration such as 90s, 15m, 1h or 7d")
    return seconds


def _database_url(value: SecretStr) -> SecretStr:
    parse_database_url(value.get_secret_value())
    return value


def _redis_url(value: SecretStr) -> SecretStr:
    validate_redis_url(value.get_secret_value())
    return value


def _broker_addresses(value: str) -> str:
    for address in value.split(","):
        if "://" in address:
            raise ValueError("has a scheme; write only host:9092, or one:9092,two:9092")
        if (match := re.fullmatch(r"(?:[\w.-]+|\[[0-9a-fA-F:]+\]):(\d+)", address)) is None or not is_port(
            int(match[1])
        ):
            raise ValueError("is not an address such as host:9092, or one:9092,two:9092")
    return value


def _origins(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if value != "*" and not re.fullmatch(r"https?://[^/\s]+", value):
            raise ValueError(f"{value} is not an origin such as https://dashboard.example")
    return values


def _http_url(value: str) -> str:
    TypeAdapter(HttpUrl).validate_python(value)
    return value.rstrip("/")


def _long_enough(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value()) < JWT_SECRET_MIN_CHARACTERS:
        raise ValueError(f"needs at least {JWT_SECRET_MIN_CHARACTERS} characters")
    return secret


def _bot_token(token: SecretStr) -> SecretStr:
    if not re.fullmatch(r"\d+:[\w-]+", token.get_secret_value()):
        raise ValueError("is not a bot's token, such as 123456:ABC-DEF")
    return token


def _webhook_secret(secret: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,256}", secret.get_secret_value()):
        raise ValueError("may have 1 to 256 letters, digits, _ and -")
    return secret


def _keys(values: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    texts = [value.get_secret_value() for value in values]
    keys = [text.rpartition(":")[2] for text in texts]
    if not all(re.fullmatch(r"[!#-&(-~]+", text) for text in texts) or not all(keys):
        raise ValueError("is not a list such as key1,key2 or project:key1,project:key2")
    if len(set(keys)) < len(keys):
        raise ValueError("has the same key twice")
    return values


def _zone(value: object) -> object:
    if isinstance(value, str) and not is_timezone(value):
        raise ValueError(f"{value} is not a time zone of the IANA database, such as Europe/Berlin")
    return value


def _split(value: object) -> object:
    return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value


Duration = Annotated[timedelta, BeforeValidator(duration), Field(gt=timedelta(0), le=timedelta(days=3650))]
Timeout = Annotated[Duration, Field(ge=timedelta(milliseconds=1), le=timedelta(hours=1))]
Url = Annotated[str, AfterValidator(_http_url)]
BotToken = Annotated[SecretStr, AfterValidator(_bot_token)]
CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
    """Application settings. Secrets never appear in `repr`, logs or errors."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8-sig",  # some editors begin a file with a byte order mark
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    database_url: Annotated[SecretStr, AfterValidator(_database_url)]
    database_direct_url: Annotated[SecretStr, AfterValidator(_database_url)] | None = None
    database_pool_size: Annotated[int, Field(ge=10, le=200)] = 10
    database_lock_timeout: Timeout = timedelta(seconds=3)
    database_statement_timeout: Timeout = timedelta(seconds=30)
    database_idle_in_transaction_timeout: Timeout = timedelta(seconds=30)
    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)]
    kafka_broker_url: Annotated[str, AfterValidator(_broker_addresses)]
    kafka_partitions: Annotated[int, Field(ge=1, le=1000)] = 6
    kafka_replication_factor: Annotated[int, Field(ge=1, le=10)] = 1
    kafka_fetch_max_wait_ms: Annotated[int, Field(ge=1, le=60_000)] = 500
    kafka_session_timeout_ms: Annotated[int, Field(ge=1000, le=300_000)] = 10_000
    kafka_idempotence: bool = True

    telegram_webhook_url: Url | None = None
    telegram_bot_token: BotToken | None = None
    telegram_api_url: Url = "https://api.telegram.org"
    telegram_manager_chat_id: int | None = None
    telegram_manager_chat_thread_id: Annotated[int | None, Field(ge=1)] = None
    telegram_webhook_secret: Annotated[SecretStr, AfterValidator(_webhook_secret)] | None = None
    ack_reminder_minutes: Annotated[int, Field(ge=1, le=24 * 60)] = 15

    gemini_api_keys: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split), AfterValidator(_keys)] = ()
    gemini_api_url: Url = "https://generativelanguage.googleapis.com"
    gemini_model: Annotated[str, Field(pattern=r"^[\w.-]+$")] = "gemini-3.5-flash-lite"
    gemini_max_requests_per_key: Annotated[int, Field(ge=1, le=1_000_000)] = 195
    recommendation_concurrency: Annotated[int, Field(ge=1, le=32)] = 4
    morning_message_at: Annotated[time, BeforeValidator(parse_time)] | None = None

    jwt_secret_key: Annotated[SecretStr, AfterValidator(_long_enough)]
    jwt_ttl: Duration = timedelta(hours=1)

    link_requests_per_minute: Annotated[int, Field(ge=1)] = 120

    lunch_timezone: Annotated[ZoneInfo, BeforeValidator(_zone)] = ZoneInfo("UTC")

    host: str = "127.0.0.1"
    port: Annotated[int | None, Field(ge=1, le=65_535)] = None
    http_keep_alive: Annotated[Duration, Field(ge=timedelta(seconds=1))] = timedelta(seconds=75)
    cors_origins: Annotated[CommaSeparated, AfterValidator(_origins)] = ()
    connections_per_address: Annotated[int, Field(ge=1, le=1_000_000)] = 2000
    sockets_per_viewer: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    graphql_introspection: bool = True
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] = "json"

    @field_validator("*", mode="before")
    @classmethod
    def _as_written(cls, value: object, info: ValidationInfo) -> object:
        """Refuse what Docker, Kubernetes or an editor leaves around a value: it would become a part of a secret."""
        if not isinstance(value, str):
            return value
        if any(unicodedata.category(character) in {"Cc", "Cf", "Zl", "Zp"} for character in value):
            raise ValueError("has a line break or another invisible character")
        if value.strip()[:1] + value.strip()[-1:] in QUOTES:
            raise ValueError("is in quotes; write it without them")
        is_list = get_origin(cls.model_fields[str(info.field_name)].annotation) is tuple
        if value != value.strip() and not is_list:  # the spaces around the values of a list are ignored
            raise ValueError("begins or ends with a space")
        return value

    @classmethod
    def load(cls, **values: str) -> Self:
        """Read the environment and `.env`.

        Raises SettingsError, with a line for each wrong value.

        Args:
            values: Settings that are not read.
        """
        try:
            return cls(**values)  # type: ignore[arg-type]  # pydantic parses the texts
        except ValidationError as error:
            raise SettingsError(*map(_line, error.errors())) from None

    def required(self, name: str) -> str:
        """Return a secret that only some processes need.

        Raises SettingsError if it is not set.
        """
        secret: SecretStr | None = getattr(self, name)
        if secret is None:
            raise SettingsError(f"{name.upper()}: is not set")
        return secret.get_secret_value()


class TelegramSettings(Settings):
    """The settings of a process that calls Telegram."""

    telegram_bot_token: BotToken


NO_POLLING = "is set, so the api process gets the updates, and no bot is needed"
"""The problem of TELEGRAM_WEBHOOK_URL for the bot process."""


def _no_webhook(url: str | None) -> str | None:
    if url is not None:
        raise ValueError(NO_POLLING)
    return url


class BotSettings(TelegramSettings):
    """The settings of the bot process, which polls: Telegram allows either polling or a webhook."""

    telegram_webhook_url: Annotated[Url | None, AfterValidator(_no_webhook)] = None


class ApiSettings(Settings):
    """The settings of the api process. A webhook needs a token and a secret."""

    @field_validator("telegram_bot_token", "telegram_webhook_secret")
    @classmethod
    def _complete_webhook(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        """Check a field that comes after `telegram_webhook_url`: a validator knows only the fields before its own."""
        if value is None and info.data.get("telegram_webhook_url") is not None:
            raise ValueError("is not set")
        return value


def _line(problem: ErrorDetails) -> str:
    return f"{str(problem['loc'][0]).upper()}: {_sentence(problem)}"


def _sentence(problem: ErrorDetails) -> str:
    match problem["type"]:
        case "missing":
            return "is not set"
        case "value_error":
            return str(problem["ctx"]["error"])
        case _:
            return f"{problem['msg'][0].lower()}{problem['msg'][1:]}"
