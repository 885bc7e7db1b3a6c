"""Addresses of PostgreSQL and Redis: what is understood, and what is refused."""

from pathlib import Path

import pytest

from app.addresses import DatabaseAddress, parse_database_url, validate_redis_url

HOST = (("db", 5432),)

UNDERSTOOD = {
    "postgresql+asyncpg://lunch:x@db/lunch": DatabaseAddress(HOST, "lunch", "x", "lunch", None, {}),
    "postgresql://lunch:x@db/lunch": DatabaseAddress(HOST, "lunch", "x", "lunch", None, {}),
    "postgres://db:6543": DatabaseAddress((("db", 6543),), None, None, None, None, {}),
    "postgres://l%40nch:p%3Aa%2Fs%40s+@db/lun%20ch": DatabaseAddress(HOST, "l@nch", "p:a/s@s+", "lun ch", None, {}),
    "postgres://lunch:a?b@db/lunch": DatabaseAddress(HOST, "lunch", "a?b", "lunch", None, {}),
    "postgres://one:1,two:2,[::1]:3/x": DatabaseAddress(
        (("one", 1), ("two", 2), ("::1", 3)), None, None, "x", None, {}
    ),
    "postgres://one,two/x?port=1,2": DatabaseAddress((("one", 1), ("two", 2)), None, None, "x", None, {}),
    "postgres:///x?host=one,two&port=6": DatabaseAddress((("one", 6), ("two", 6)), None, None, "x", None, {}),
    "postgres:///x?host=one:1&host=two:2": DatabaseAddress((("one", 1), ("two", 2)), None, None, "x", None, {}),
    "postgres://%2Fvar%2Frun/x": DatabaseAddress((("/var/run", 5432),), None, None, "x", None, {}),
    "postgres:///?host=/var/run&user=u&password=p%26&dbname=d": DatabaseAddress(
        (("/var/run", 5432),), "u", "p&", "d", None, {}
    ),
    "postgres://db?connect_timeout=3": DatabaseAddress(HOST, None, None, None, 3, {}),
    "postgres://db/x?options=-c%20a%3Db+c&application_name=lunch%20bot": DatabaseAddress(
        HOST, None, None, "x", None, {"options": "-c a=b+c", "application_name": "lunch bot"}
    ),
    "postgres://db/x?fallback_application_name=bot": DatabaseAddress(
        HOST, None, None, "x", None, {"application_name": "bot"}
    ),
    "postgres://db/x?sslmode=verify-full&target_session_attrs=read-write": DatabaseAddress(
        HOST, None, None, "x", None, {"sslmode": "verify-full", "target_session_attrs": "read-write"}
    ),
    "postgres://db/x?ssl=true": DatabaseAddress(HOST, None, None, "x", None, {"sslmode": "require"}),
    "postgres://db/x?ssl=prefer": DatabaseAddress(HOST, None, None, "x", None, {"sslmode": "prefer"}),
    "postgres://db/x?channel_binding=prefer&gssencmode=disable": DatabaseAddress(HOST, None, None, "x", None, {}),
}

REFUSED = {
    "db:5432/lunch": "is not an address",
    "mysql://db/lunch": "is not an address",
    "postgres://lunch:hid/den@db/lunch": "needs a host and a port",
    "postgres://lunch:hid@den@db/lunch": "is not an address",
    "postgres:///lunch": "needs a host and a port",
    "postgres://db:port/lunch": "needs a host and a port",
    "postgres://db:0/lunch": "needs a host and a port",
    "postgres://db:70000/lunch": "needs a host and a port",
    "postgres://one,two,three/lunch?port=1,2": "port: ",
    "postgres://db?connect_timeout=soon": "connect_timeout: ",
    "postgres://db?sslmode=hidden": "sslmode: may only be disable, allow,",
    "postgres://db?ssl=hidden": "sslmode: may only be",
    "postgres://db?sslrootcert=/hidden": "sslrootcert: there is no such file",
    "postgres://db?sslrootcert=system": "sslrootcert: there is no such file",
    "postgres://db?channel_binding=require": "channel_binding: may only be prefer, disable",
    "postgres://db?target_session_attrs=standby": "target_session_attrs: may only be any, read-write, primary",
    "postgres://db?keepalives=1": "keepalives: this parameter is not supported",
    "postgres://db?sslpassword=hidden": "sslpassword: this parameter is not supported",
    "postgres://db?nonsense": "nonsense: this parameter is not supported",
}

REDIS_UNDERSTOOD = [
    "redis://redis",
    "redis://redis:6379/15",
    "redis://redis/",
    "redis://lunch:p%40ss%2Fw%3Ard%231@redis:6379/0",
    "redis://:hidden@redis?db=3&socket_timeout=1.5",
    "rediss://redis?ssl_cert_reqs=none&ssl_check_hostname=true",
    "unix:///run/redis.sock?db=1",
    "redis://[::1]:6379",
]

REDIS_REFUSED = {
    "http://redis": "is not an address",
    "redis://": "is not an address",
    "unix://": "is not an address",
    "redis://redis:port": "is not an address",
    "redis://:hid/den@redis": "is not an address",
    "redis://redis/lunch": "has a database that is not a number",
    "redis://redis?db=lunch": "db: this value is not valid",
    "redis://redis?decode_responses=true": "decode_responses: this option is not supported",
    "redis://redis?ssl_cert_reqs=none": "ssl_cert_reqs: this option is not supported",
    "rediss://redis?ssl_cert_reqs=hidden": "ssl_cert_reqs: this value is not valid",
    "rediss://redis?ssl_ca_certs=/hidden": "ssl_ca_certs: there is no such file",
}


@pytest.mark.parametrize("url", UNDERSTOOD)
def test_a_database_address_is_read(url: str) -> None:
    """Host, port, user, password, database and parameters are those that libpq reads."""
    read = parse_database_url(url)

    assert (tuple(read.hosts), read.user, read.password) == (
        UNDERSTOOD[url].hosts,
        UNDERSTOOD[url].user,
        UNDERSTOOD[url].password,
    )
    assert (read.database, read.connect_timeout_s, read.parameters) == (
        UNDERSTOOD[url].database,
        UNDERSTOOD[url].connect_timeout_s,
        UNDERSTOOD[url].parameters,
    )


@pytest.mark.parametrize("url", REFUSED)
def test_what_is_wrong_in_a_database_address_is_named(url: str) -> None:
    """The sentence has the name of the parameter, and no value."""
    with pytest.raises(ValueError, match=f"^{REFUSED[url]}") as wrong:
        parse_database_url(url)

    assert "hid" not in str(wrong.value)


def test_a_file_of_a_database_address_must_exist(tmp_path: Path) -> None:
    """A certificate that exists is accepted."""
    file = tmp_path / "ca.pem"
    file.touch()

    assert parse_database_url(f"postgres://db?sslrootcert={file}").parameters == {"sslrootcert": str(file)}


@pytest.mark.parametrize("url", REDIS_UNDERSTOOD)
def test_an_address_of_redis_is_accepted(url: str) -> None:
    """User names, percent-encoding, TLS, sockets and missing database numbers are fine."""
    validate_redis_url(url)


@pytest.mark.parametrize("url", REDIS_REFUSED)
def test_what_is_wrong_in_an_address_of_redis_is_named(url: str) -> None:
    """The sentence has the name of the option, and no value."""
    with pytest.raises(ValueError, match=f"^{REDIS_REFUSED[url]}") as wrong:
        validate_redis_url(url)

    assert "hid" not in str(wrong.value)
