"""Logging: one JSON object a line, or coloured lines in a terminal, for structlog and the standard library."""

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from app.settings import Settings

BOT_TOKEN = re.compile(r"/bot\d+:[\w-]+")

Log = structlog.stdlib.BoundLogger

LIBRARIES_AT_WARNING = ("aiokafka", "aiogram.event", "faststream", "httpx", "httpx2", "arq.worker", "uvicorn.error")
"""They log each step at INFO: useful for finding a fault, noise in a healthy system."""


def without_bot_tokens(text: str) -> str:
    """Remove bot tokens: every URL of Telegram's Bot API has one, and so have some errors."""
    return BOT_TOKEN.sub("/bot<token>", text)


def hide_bot_tokens(_logger: WrappedLogger, _method: str, line: Any) -> str:
    return without_bot_tokens(line)


def configure(settings: Settings, process: str) -> None:
    """Set up logging for this process. `process` (api, events, …) is in each line.

    Tracebacks have no values of variables, because some are secrets.
    """

    def add_process(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.setdefault("process", process)
        return event

    def drop_colour(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.pop("color_message", None)  # uvicorn logs the same text twice
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        add_process,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        drop_colour,
    ]
    rendering: list[Any] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)]
        if settings.log_format == "console"
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering, hide_bot_tokens],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    if settings.log_level != "DEBUG":
        for name in LIBRARIES_AT_WARNING:
            logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def get_log(name: str) -> Log:
    """The log of a module: `log = get_log(__name__)`."""
    log: Log = structlog.stdlib.get_logger(name)
    return log


@contextmanager
def log_context(**values: object) -> Iterator[None]:
    """Put `values` (a request id, an event id) into every line logged inside."""
    with structlog.contextvars.bound_contextvars(**values):
        yield
