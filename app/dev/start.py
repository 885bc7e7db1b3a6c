"""The start of `lunch-bot dev`: it finds wrong settings and speaks before the libraries are imported, which takes seconds."""

# ruff: noqa: PLC0415 see above

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from app.dev.directory_lock import directory_lock
from app.dev.ports import is_free
from app.dev.progress import Progress
from app.settings import DEFAULT_PORTS, ApiSettings, BotSettings, SettingsError

DIRECTORY = Path(".lunch-bot")
"""The data and the logs."""

MAX_PORT = 65_535

SELF_MADE = {
    "database_url": "postgresql+asyncpg://localhost/lunch_bot",
    "redis_url": "redis://localhost",
    "kafka_broker_url": "localhost:9092",
    "telegram_bot_token": "1:stand-in",
    "jwt_secret_key": "made at the first start, and then kept",
}
"""Valid examples for the settings that `dev` makes by itself if they are not set."""

INTRODUCTION = f"Lunchbot starts on this machine, with its data and logs in {DIRECTORY}/.\n"


@dataclass(frozen=True)
class Configuration:
    """The settings that are set in the environment or in `.env`, and the port of the api process."""

    values: Mapping[str, str]
    api_port: int


def start(*, demo: bool, once: bool) -> int:
    """Run the system until Ctrl-C, or with `once` until the demo ends; return the exit status.

    Raises SettingsError, EmbeddedError.
    """
    configuration = read_configuration(demo=demo)
    print(INTRODUCTION, flush=True)
    progress = Progress()
    with progress.step("Loading the program"):
        from app.dev.main import run

    return run(configuration, progress, demo=demo, once=once)


def read_configuration(*, demo: bool) -> Configuration:
    """Read and check the settings.

    Raises SettingsError, with a line for each problem; EmbeddedInUse, EmbeddedFailed.
    """
    configured = {name: value for name, value in {**dotenv_values(), **os.environ}.items() if value}
    port = configured.get("PORT", str(DEFAULT_PORTS["api"]))
    problems = [*(_find_demo_problems(configured) if demo else ()), *_find_wrong_values(configured)]
    is_port = port.isdecimal() and 1 <= int(port) <= MAX_PORT
    if not problems:
        with directory_lock(DIRECTORY):  # first: a running `dev` has taken the port, too
            pass
    if is_port and not is_free(int(port)):
        problems.append(f"PORT: {port} is taken; give another, such as PORT=8100 lunch-bot dev")
    if problems:
        raise SettingsError(*problems)
    return Configuration(configured, int(port))


def _find_demo_problems(configured: Mapping[str, str]) -> list[str]:
    stand_ins = {"TELEGRAM_BOT_TOKEN": "Telegram", "GEMINI_API_KEYS": "Gemini"}
    return [
        f"{name}: the demo uses the {service} stand-in; unset it"
        for name, service in stand_ins.items()
        if name in configured
    ]


def _find_wrong_values(configured: Mapping[str, str]) -> list[str]:
    """Check the settings of all processes: the other processes need what the api or the bot needs."""
    self_made = {name: value for name, value in SELF_MADE.items() if name.upper() not in configured}
    problems: dict[str, None] = {}
    for settings_type in (ApiSettings, BotSettings):
        try:
            settings_type.load(**self_made)
        except SettingsError as error:
            problems |= dict.fromkeys(error.problems)
    return list(problems)
