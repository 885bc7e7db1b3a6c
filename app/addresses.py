"""Addresses of PostgreSQL and Redis, read once for every client.

An address of PostgreSQL means what it means to libpq, and an address of Redis what it means to redis-py. A parameter that
would have another effect, or none, is refused.

https://www.postgresql.org/docs/18/libpq-connect.html#LIBPQ-CONNSTRING-URIS
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

LAST_PORT = 65_535


def is_port(number: int) -> bool:
    """Whether a service can listen on this port."""
    return 0 < number <= LAST_PORT


DATABASE_URL = re.compile(
    r"(?:postgresql|postgres|postgresql\+asyncpg)://"
    r"(?:(?P<user>[^:/?@]*)(?::(?P<password>[^/@]*))?@)?"
    r"(?P<hosts>[^/?@]*)(?:/(?P<database>[^?]*))?(?:\?(?P<query>.*))?"
)
HOST = re.compile(r"(?:\[(?P<ipv6>[^\]]+)\]|(?P<name>[^:\[\]]*))(?::(?P<port>\d*))?")

TLS_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")

DATABASE_CHOICES: Mapping[str, Sequence[str]] = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "ssl_min_protocol_version": TLS_VERSIONS,
    "ssl_max_protocol_version": TLS_VERSIONS,
    "target_session_attrs": ("any", "read-write", "primary"),
}
"""A standby cannot serve: every process writes."""
DATABASE_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
DATABASE_TEXTS = ("application_name", "options")

WITHOUT_EFFECT: Mapping[str, Sequence[str]] = {
    "channel_binding": ("prefer", "disable"),
    "client_encoding": ("UTF8", "utf8", "auto"),
    "gssencmode": ("prefer", "disable"),
    "load_balance_hosts": ("disable",),
}
"""The values that ask for what asyncpg does in any case."""

REDIS_LOGIN = ("db", "username", "password", "client_name")
REDIS_TIMES = ("socket_timeout", "socket_connect_timeout", "socket_keepalive", "health_check_interval")
REDIS_OPTIONS = frozenset((*REDIS_LOGIN, *REDIS_TIMES, "max_connections"))
REDIS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
REDIS_TLS_OPTIONS = frozenset((*REDIS_FILES, "ssl_cert_reqs", "ssl_ca_data", "ssl_check_hostname", "ssl_ciphers"))
"""Options of redis-py that change the connection. Others would change the values that our code gets."""


@dataclass(frozen=True)
class DatabaseAddress:
    """An address of PostgreSQL.

    Args:
        hosts: Names, IP addresses or directories of Unix sockets, each with its port. They are tried in this order.
        connect_timeout_s: How long to wait for each host, 0 for no limit; None if the address does not say.
        parameters: The parameters that asyncpg reads.
    """

    hosts: Sequence[tuple[str, int]]
    user: str | None
    password: str | None = field(repr=False)
    database: str | None
    connect_timeout_s: int | None
    parameters: Mapping[str, str]

    def dsn(self, **defaults: str) -> str:
        """Return hosts and parameters in the form of asyncpg, without secrets.

        Args:
            defaults: Parameters and settings of the session that the address may override.
        """
        hosts = [f"[{host}]" if ":" in host else quote(host, safe="") for host, _ in self.hosts]
        ports = [str(port) for _, port in self.hosts]
        authority = ",".join(map(":".join, zip(hosts, ports, strict=True)))
        return f"postgresql://{authority}/?{urlencode({**defaults, **self.parameters})}"


def parse_database_url(text: str) -> DatabaseAddress:
    """Read an address of PostgreSQL.

    Raises ValueError, with a sentence that names the parameter and shows no value.
    """
    parts = DATABASE_URL.fullmatch(text)
    if parts is None:
        raise ValueError("is not an address such as postgresql://user:password@host:5432/name, percent-encoded")
    given: dict[str, str] = {}
    hosts = []
    for item in filter(None, (parts["query"] or "").split("&")):
        name, _, value = map(unquote, item.partition("="))
        if name == "host":  # SQLAlchemy's form repeats it
            hosts.append(value)
        else:
            given[name] = value
    user, password, database = (
        given.pop(name, None) or (unquote(parts[group]) if parts[group] else None)
        for name, group in (("user", "user"), ("password", "password"), ("dbname", "database"))
    )
    return DatabaseAddress(
        hosts=_read_hosts(",".join(hosts) or unquote(parts["hosts"]), given.pop("port", "")),
        user=user,
        password=password,
        database=database,
        connect_timeout_s=_read_timeout(given.pop("connect_timeout", None)),
        parameters=_read_parameters(given),
    )


def _read_hosts(hosts: str, ports: str) -> list[tuple[str, int]]:
    """Read hosts such as `one:5432,two`, and the parameter `port`, which has one port or one for each host."""
    names = hosts.split(",")
    defaults = ports.split(",") if "," in ports else [ports] * len(names)
    if len(defaults) != len(names):
        raise ValueError("port: needs one port, or as many as there are hosts")
    read = []
    for name, default in zip(names, defaults, strict=True):
        match = HOST.fullmatch(name)
        host, port = (match["ipv6"] or match["name"], match["port"] or default or "5432") if match else ("", "")
        if not host or not port.isdecimal() or not is_port(int(port)):
            raise ValueError("needs a host and a port such as db:5432, or several such as one:5432,two:5432")
        read.append((host, int(port)))
    return read


def _read_timeout(value: str | None) -> int | None:
    if value is not None and not value.isdecimal():
        raise ValueError("connect_timeout: is not a number of seconds")
    return None if value is None else int(value)


def _read_parameters(given: dict[str, str]) -> dict[str, str]:
    if (ssl := given.pop("ssl", None)) is not None:  # JDBC's and SQLAlchemy's name
        given.setdefault("sslmode", "require" if ssl == "true" else ssl)
    if (fallback := given.pop("fallback_application_name", None)) is not None:
        given.setdefault("application_name", fallback)
    for name, value in given.items():
        choices = DATABASE_CHOICES.get(name) or WITHOUT_EFFECT.get(name)
        if choices is not None and value not in choices:
            raise ValueError(f"{name}: may only be {', '.join(choices)}")
        if name in DATABASE_FILES and not Path(value).is_file():
            raise ValueError(f"{name}: there is no such file")
        if choices is None and name not in DATABASE_FILES + DATABASE_TEXTS:
            raise ValueError(f"{name}: this parameter is not supported")
    return {name: value for name, value in given.items() if name not in WITHOUT_EFFECT}


def validate_redis_url(text: str) -> None:
    """Check that redis-py understands an address of Redis.

    Raises ValueError, with a sentence that names the option and shows no value.
    """
    try:
        parts = urlsplit(text)
        is_socket = parts.scheme == "unix"
        is_complete = bool(parts.path if is_socket else parts.hostname) and parts.port != 0
    except ValueError:
        is_complete = False
    if not is_complete or parts.scheme not in {"redis", "rediss", "unix"}:
        raise ValueError("is not an address such as redis://user:password@host:6379/0, percent-encoded")
    if not is_socket and not re.fullmatch(r"/?|/\d+", parts.path):
        raise ValueError("has a database that is not a number")
    known = REDIS_OPTIONS | REDIS_TLS_OPTIONS if parts.scheme == "rediss" else REDIS_OPTIONS
    for name, [value, *_] in parse_qs(parts.query, keep_blank_values=True).items():
        if name not in known:
            raise ValueError(f"{name}: this option is not supported")
        if name in REDIS_FILES and not Path(value).is_file():
            raise ValueError(f"{name}: there is no such file")
        try:
            ConnectionPool.from_url(f"{parts.scheme}://host?{urlencode({name: value})}").make_connection()  # type: ignore[no-untyped-call]
        except (ValueError, RedisError):
            raise ValueError(f"{name}: this value is not valid") from None
