"""Logging: one JSON object a line on standard error, or coloured lines in a terminal, from every library.

Secrets are cut out of each line.
"""

import logging
import math
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from time import perf_counter
from types import TracebackType
from typing import Any, override

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from app.redaction import environment_secrets, redact, redact_secrets, secrets_of
from app.settings import Settings

Log = structlog.stdlib.BoundLogger

LIBRARIES_AT_WARNING = (
    "aiokafka",
    "aiogram.event",
    "alembic",
    "arq.worker",
    "faststream.kafka",
    "faststream.outbox",
    "httpx",
    "httpx2",
    "uvicorn.error",
)
"""They log each step at INFO: useful for finding a fault, noise in a healthy system. FastStream sets the level of its logger
`faststream` when it is imported, so its brokers have loggers of ours below it."""

MS_PER_S = 1000


class OneWayLogger(logging.Logger):
    """A logger whose lines go to the root logger only.

    Libraries give their loggers handlers of their own, some of them again whenever they start: FastStream, for example,
    writes coloured lines to standard output. Here these handlers are not used.
    """

    @override
    def callHandlers(self, record: logging.LogRecord) -> None:
        self.root.callHandlers(record)


class Handler(logging.StreamHandler[Any]):
    """Writes to standard error. Instead of a line that cannot be formatted it writes a line that says so."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(formatter)

    @override
    def handleError(self, record: logging.LogRecord) -> None:
        with suppress(Exception):
            what = record.msg.get("event") if isinstance(record.msg, dict) else record.msg
            text = f"log.failed: {what}: {sys.exception()!r}"
            failed = {"name": record.name, "levelno": logging.ERROR, "levelname": "ERROR", "msg": text}
            self.stream.write(self.format(logging.makeLogRecord(failed)) + self.terminator)
            self.flush()


def configure(process: str, settings: Settings | None = None) -> None:
    """Set up logging for this process. `process` (api, events, …) is in each line.

    Until the settings are known, the format and the secrets are those of the environment.

    Tracebacks have no values of variables, because some are secrets.
    """
    redact_secrets(environment_secrets() if settings is None else secrets_of(settings))
    log_format = os.environ.get("LOG_FORMAT", "json") if settings is None else settings.log_format
    shared = _shared_processors(process)
    formatter = structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_rendering(log_format))
    _send_everything_to(Handler(formatter), "INFO" if settings is None else settings.log_level)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=logging.getLogger,  # structlog's factory would set another class of loggers
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    _log_uncaught_errors()


def _shared_processors(process: str) -> list[Processor]:
    def add_process(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.setdefault("process", process)
        return event

    def drop_colour(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.pop("color_message", None)  # uvicorn logs the same text twice
        return event

    return [
        structlog.contextvars.merge_contextvars,
        add_process,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        drop_colour,
    ]


def _rendering(log_format: str) -> list[Processor]:
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        if log_format == "console"
        else structlog.processors.JSONRenderer()
    )
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        _redact_values,
        renderer,
    ]


def _redact_values(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {name: _redacted(value) for name, value in event.items()}


def _redacted(value: object) -> object:
    """Cut secrets out of a value. An object that is not JSON becomes text."""
    match value:
        case float() if not math.isfinite(value):  # JSON has no such number
            return repr(value)
        case None | bool() | int() | float():
            return value
        case str():
            return redact(value)
        case Mapping():
            return {redact(str(key)): _redacted(item) for key, item in value.items()}
        case list() | tuple():
            return [_redacted(item) for item in value]
        case _:
            return redact(repr(value))


def _send_everything_to(handler: Handler, level: str) -> None:
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    logging.setLoggerClass(OneWayLogger)
    for logger in root.manager.loggerDict.values():  # those that libraries made when they were imported
        if type(logger) is logging.Logger:
            logger.__class__ = OneWayLogger
        elif isinstance(logger, logging.Logger):
            logger.handlers, logger.propagate = [], True
    for name in LIBRARIES_AT_WARNING:
        logging.getLogger(name).setLevel(logging.NOTSET if level == "DEBUG" else logging.WARNING)
    logging.captureWarnings(True)


def _log_uncaught_errors() -> None:
    """Log the errors that Python itself would print. Those of asyncio's tasks are logged by asyncio."""
    log = get_log(__name__)

    def log_crash(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        log.critical("process.crashed", exc_info=(kind, error, traceback))

    def log_thread_crash(crash: threading.ExceptHookArgs) -> None:
        log.critical("thread.crashed", exc_info=crash.exc_value)

    def log_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
        log.error("error.unraisable", of=unraisable.object, exc_info=unraisable.exc_value)

    sys.excepthook = log_crash
    threading.excepthook = log_thread_crash
    sys.unraisablehook = log_unraisable


def get_log(name: str) -> Log:
    """The log of a module: `log = get_log(__name__)`."""
    log: Log = structlog.stdlib.get_logger(name)
    return log


@contextmanager
def log_context(**values: object) -> Iterator[None]:
    """Put `values` (a request id, an event id) into every line logged inside."""
    with structlog.contextvars.bound_contextvars(**values):
        yield


_facts: ContextVar[dict[str, object] | None] = ContextVar("request_facts", default=None)


@contextmanager
def log_request(log: Log, event: str, **facts: object) -> Iterator[dict[str, object]]:
    """Log one line at the end of the block: a request or an operation, with its facts and its duration.

    The block may change the facts. Code inside adds others with `describe_request`.
    """
    token = _facts.set(facts)
    began = perf_counter()
    try:
        yield facts
    finally:
        _facts.reset(token)
        level = logging.DEBUG if facts.pop("is_routine", False) else logging.INFO
        log.log(level, event, **facts, duration_ms=round((perf_counter() - began) * MS_PER_S, 1))


def describe_request(**facts: object) -> None:
    """Add facts, such as the operation or the error code, to the line of the request in progress, if there is one."""
    if (known := _facts.get()) is not None:
        known.update(facts)
