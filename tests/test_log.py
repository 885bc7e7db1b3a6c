"""What the processes write to standard error: one JSON object a line, from every library, without secrets."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest

from app.dev.ports import free_port
from app.redaction import Redactor, redact, secrets_of
from app.settings import Settings
from tests.failing_clients import CLIENTS

PASSWORD = 'p@ss/w:rd#1"é'
SECRETS = {
    "TELEGRAM_BOT_TOKEN": "123456789:AAF-the_token_of_a_bot_with_35_char",
    "TELEGRAM_WEBHOOK_SECRET": "the-secret-of-the-webhook",
    "GEMINI_API_KEYS": "AIza-the-first-key,lunch:AQ.the-second-key",
    "JWT_SECRET_KEY": 'a secret with "quotes" that is long enough',
    "DATABASE_URL": f"postgresql+asyncpg://lunch:{quote(PASSWORD, safe='')}@127.0.0.1:1/lunch",
    "REDIS_URL": "redis://:another%20password@127.0.0.1:1/0",
}
ENVIRONMENT = SECRETS | {
    "KAFKA_BROKER_URL": "127.0.0.1:1",
    "TELEGRAM_API_URL": "http://127.0.0.1:1",
    "GEMINI_API_URL": "http://127.0.0.1:1",
    "LOG_LEVEL": "DEBUG",
}

HIDDEN = (
    "AAF-the_token",
    "the-secret-of-the-webhook",
    "the-first-key",
    "the-second-key",
    "quotes",
    "w:rd#1",
    "w%3Ard%231",
    "another password",
    "another%20password",
)
"""Parts of the secrets, as they would be recognised in any text."""

EVERY_WAY = """
import asyncio, gc, logging, os, sys, threading, warnings
from app.log import configure, get_log
from app.settings import Settings

token = os.environ["TELEGRAM_BOT_TOKEN"]
configure("test")
warnings.warn(f"before the settings {token}")
settings = Settings.load()
configure("test", settings)

from faststream._internal.context import ContextRepo
from faststream._internal.logger.logging import get_broker_logger

get_broker_logger("kafka", {}, 10, "%(message)s", ContextRepo(), logging.INFO).error("broker %s", token)

async def forget() -> None:
    async def fail() -> None:
        raise ValueError(f"task {token}")
    task = asyncio.create_task(fail())
    await asyncio.wait({task})

class Unraisable:
    def __del__(self) -> None:
        raise ValueError(f"unraisable {token}")

class NotPrintable:
    def __repr__(self) -> str:
        raise ValueError("not printable")

def fail() -> None:
    raise ValueError(f"thread {token}")

asyncio.run(forget())
del Unraisable
gc.collect()
stubborn = logging.getLogger("stubborn")
stubborn.addHandler(logging.StreamHandler(sys.stdout))
stubborn.propagate = False
stubborn.warning("library %s", token)
stubborn.warning("%d", "no number")
get_log("ours").warning("ours", number=float("nan"), of={"a": [token, settings.jwt_secret_key, b"x", {1, 2}]})
get_log("ours").warning("ours", of=NotPrintable())
get_log("ours").warning("lines\\nand\\u2028lines \\ud800")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
raise ValueError(f"crash {token}")
""".replace("del Unraisable", "Unraisable()")


@dataclass(frozen=True)
class Output:
    """What a program has written."""

    out: str
    lines: list[dict[str, Any]]
    status: int | None

    def find(self, **facts: object) -> list[dict[str, Any]]:
        """The lines with these facts."""
        return [line for line in self.lines if facts.items() <= line.items()]


async def start(*arguments: str, **environment: str) -> asyncio.subprocess.Process:
    """Start Python with secrets in its environment."""
    outside = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, *arguments),
        env=outside | ENVIRONMENT | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def read(process: asyncio.subprocess.Process, begin: bytes = b"") -> Output:
    """Read what a program writes until it ends. Each line on standard error must be JSON without a secret."""
    out, rest = await process.communicate()
    err = begin + rest
    assert [part for part in HIDDEN if part in (out + err).decode()] == []
    return Output(out.decode(), [json.loads(line) for line in err.decode().splitlines()], process.returncode)


@pytest.mark.slow
async def test_every_way_to_write_is_a_line_of_the_log() -> None:
    """Warnings, libraries with handlers of their own, forgotten tasks, threads and a crash write JSON without secrets."""
    output = await read(await start("-c", EVERY_WAY))

    text = json.dumps(output.lines)
    assert (output.out, output.status) == ("", 1)
    for word in ("before the settings", "broker", "task", "unraisable", "library", "thread", "crash"):
        assert f"{word} <redacted>" in text, word
    assert output.find(
        logger="ours", number="nan", of={"a": ["<redacted>", "SecretStr('**********')", "b'x'", "{1, 2}"]}
    )
    assert len([line for line in output.lines if line["event"].startswith("log.failed: ")]) == 2
    assert output.find(event="lines\nand\u2028lines \ud800")
    assert {line["process"] for line in output.lines} == {"test"}


@pytest.mark.slow
async def test_failing_clients_show_no_secret() -> None:
    """However a service fails, what is logged about it is JSON without a secret."""
    output = await read(await start("-m", "tests.failing_clients"))

    assert output.out == ""
    for client, (_, faults) in CLIENTS.items():
        for fault in ("refused", *faults):
            assert output.find(event="failed", client=client, fault=fault), (client, fault)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["api", "events", "worker", "bot"])
async def test_a_process_without_services_writes_no_secret(command: str) -> None:
    """A process without its services logs in JSON from its start to its end."""
    process = await start("-m", "app", command, PORT=str(free_port()))
    assert process.stderr is not None
    begin = b""
    while b'"level": "warning"' not in begin and (line := await process.stderr.readline()):
        begin += line
    process.terminate()

    output = await read(process, begin)

    assert output.out == ""
    assert output.find(process=command, level="warning")


@pytest.mark.parametrize(
    "text",
    [
        "POST https://api.telegram.org/bot42:a-token/sendMessage",
        "https://api.telegram.org/bot42%3Aa-token/sendMessage",
        "123456789:AAF-token_of_35_characters_or_so__ok",
        "x-goog-api-key: AIzaSyA-a-token_of_39_characters_or_so",
        "key AQ.Ab8RN6-a-token_of_39_characters_or_so",
        "Authorization: Bearer a-token-that-is-opaque",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ0b2tlbiJ9.a-token",
        "postgresql+asyncpg://lunch:a-token@db/lunch",
        "redis://:a@token@redis:6379/0",
    ],
)
def test_what_looks_like_a_secret_is_cut_out(text: str) -> None:
    """A secret is recognised by its shape, even if it is not in the settings."""
    assert "token" not in redact(text).replace("key ", "")


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-29T10:30:00+03:00 kafka.connected http://127.0.0.1:8000/graphql lunch-bot.orders",
        "Authorization must be: Bearer <token>.",
        "the user-2 of lunch-bot has ordered by user.name@example.com",
    ],
)
def test_other_text_stays(text: str) -> None:
    """Text without a secret is not changed, even if a part of a word is a short password."""
    assert Redactor(["user"])(text) == text


def test_a_short_password_is_cut_out_as_a_word() -> None:
    """A short password is found as a whole word."""
    assert Redactor(["lunch"])("password lunch of lunch-bot") == "password <redacted> of lunch-bot"


@pytest.mark.parametrize("written", [PASSWORD, quote(PASSWORD, safe=""), json.dumps(PASSWORD), repr(PASSWORD)])
def test_a_secret_is_found_however_it_is_written(written: str) -> None:
    """A secret is cut out of text, addresses, JSON, and Python's representation."""
    assert "rd#1" not in Redactor([PASSWORD])(f"wrong: {written}").replace("%23", "#")


def test_settings_give_their_secrets() -> None:
    """Each secret of the settings is known: a password without its address, a key without its project."""
    given = {name.lower(): value for name, value in ENVIRONMENT.items()}
    parts = {PASSWORD, "another password", "the-secret-of-the-webhook", "AIza-the-first-key", "AQ.the-second-key"}

    known = set(secrets_of(Settings.model_validate(given)))

    assert parts | {given["telegram_bot_token"], given["jwt_secret_key"]} <= known
