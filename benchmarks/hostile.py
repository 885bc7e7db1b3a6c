"""What a stranger can make the api process spend: CPU for each document, and memory.

    python -m benchmarks.hostile [cpu | memory] [--requests N]

It starts PostgreSQL, Redis, a broker and an api process, with demo data. No request has a token, except those that are
marked «manager».

- cpu: each document is sent 20 times, each time with another name in it, so no cache helps. The CPU time is that of the
  api process, from the operating system, which counts in steps of 10 ms: the result is exact to 0.5 ms. The goal is less
  than 50 ms for each document.
- memory: the resident memory of the api process before and after 1,000 requests of a kind, 10 at the same time. The goal
  is less than 64 MB.
"""

import argparse
import asyncio
import json
import tempfile
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from graphql import Lexer, Source, TokenKind, get_introspection_query
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from app.dev.embedded import embedded
from app.schema.limits import MAX_ALIASES, MAX_CHARACTERS, MAX_DEPTH, MAX_DIRECTIVES, MAX_TOKENS
from benchmarks.running import HERE, run_api

TIMES = 20
CONCURRENT = 10
SOCKETS = 200

CPU_GOAL_MS = 50
MEMORY_GOAL_MB = 64

type Body = dict[str, Any]
type Document = Callable[[str], str | Body]
"""Makes a document, or a whole request, with a given name of 5 letters in it."""


def many(piece: str, around: str = "{{ {} }}", separator: str = " ", *, times: int | None = None) -> Document:
    """Repeat `piece`, as often as it fits into a document. `#` becomes the number of the copy, `%` the given name."""

    def make(number: int, name: str) -> str:
        copies = (piece.replace("#", str(copy)).replace("%", name) for copy in range(number))
        return around.replace("%", name).format(separator.join(copies))

    return largest(make) if times is None else lambda name: make(times, name)


def nested(before: str, inner: str, after: str, around: str = "{{ {} }}", *, times: int | None = None) -> Document:
    """Put pieces into each other, as often as it fits into a document."""

    def make(depth: int, name: str) -> str:
        return around.format(before * depth + inner + after * depth).replace("%", name)

    return largest(make) if times is None else lambda name: make(times, name)


def fragments(spreads: Callable[[int, int], str], start: str = "{ ...f0 }") -> Document:
    """Make fragments, as many as fit into a document. `spreads` gets the number of a fragment and of all."""

    def make(number: int, name: str) -> str:
        parts = (f"fragment f{n} on Query {{ {name}: __typename {spreads(n, number)} }}" for n in range(number))
        return " ".join([start, *parts])

    return largest(make)


def largest(make: Callable[[int, str], str]) -> Document:
    """Make the largest document that is read: one more of its pieces would exceed a limit."""
    number = bisect_left(range(MAX_CHARACTERS), True, lo=1, key=lambda pieces: not is_read(make(pieces, name_of(0))))
    return lambda name: make(number - 1, name)


def is_read(text: str) -> bool:
    if len(text) > MAX_CHARACTERS:
        return False
    lexer = Lexer(Source(text))
    tokens = 0
    while lexer.advance().kind is not TokenKind.EOF:
        tokens += 1
    return tokens <= MAX_TOKENS


def name_of(number: int) -> str:
    return "n" + "".join(chr(ord("a") + int(digit)) for digit in f"{number:04}")


TYPE = "name kind description fields { name description args { name type { name ofType { name } } } }"
ONE_LIST = "{{ cafes(search: {}) {{ totalCount }} % }}"

DOCUMENTS: Mapping[str, Document] = {
    "smallest": lambda name: f"{{ {name}: __typename }}",
    "introspection": lambda name: get_introspection_query(input_value_deprecation=True).replace("TypeRef", name),
    "introspection, with aliases": many(f"%#: __schema {{ types {{ {TYPE} }} }}", times=20),
    "introspection, with aliases inside": many(
        f"%#: fields {{ {TYPE} }}", "{{ __schema {{ types {{ {} }} }} }}", times=20
    ),
    "introspection, lists in lists": nested(
        "fields { type { ofType { ", "name", " } } }", "{{ __schema {{ types {{ {} }} }} }} #%", times=5
    ),
    "introspection, deep types": nested(
        "ofType { ", "name", " }", "{{ __schema {{ types {{ fields {{ args {{ type {{ {} }} }} }} }} }} }} #%", times=12
    ),
    "introspection of a type, 20 times": many(f'%#: __type(name: "Query") {{ {TYPE} }}', times=20),
    "unknown fields": many("%#"),
    "unknown fields, long names": many("abcdefghijklmnopqrst%#"),
    "unknown fields of objects": many("me { %# }"),
    "unknown types": many("... on Cafe%# { a }"),
    "unknown types, long names": many("... on NotificationConnectionOrWhatever%# { a }"),
    "unknown arguments": many("%#: 1", "{{ cafes({}) {{ totalCount }} }}"),
    "unknown fragments": many("...%#"),
    "unknown directives": many("@%#", "{{ __typename {} }}"),
    "unknown variables": many("cafes(search: $%#) { totalCount }"),
    "unknown values of an enumeration": many("orders(status: %#) { totalCount }"),
    "unknown fields of inputs": many("{%#: 1}", "mutation {{ setDeadlines(cafeId: 1, deadlines: [{}]) {{ id }} }}"),
    "unknown operation types": many("query %# { a }", "{}"),
    "deep fields": nested("a { ", "%", " }"),
    "deep fields, at the limit": nested("a { ", "%", " }", times=MAX_DEPTH - 1),
    "deep lists": nested("[", "", "]", ONE_LIST),
    "deep lists, not too deep": nested("[", "", "]", ONE_LIST, times=150),
    "deep objects": nested("{a:", "1", "}", ONE_LIST),
    "deep objects, not too deep": nested("{a:", "1", "}", ONE_LIST, times=75),
    "deep types of variables": nested("[", "Int", "]", "query ($%: {}) {{ __typename }}"),
    "deep types of variables, not too deep": nested("[", "Int", "]", "query ($%: {}) {{ __typename }}", times=150),
    "deep inline fragments": nested("... { ", "%", " }"),
    "deep inline fragments, not too deep": nested("... { ", "%", " }", times=90),
    "aliases, at the limit": many("%#: me { tgid }", times=MAX_ALIASES),
    "aliases": many("%#: me { tgid }"),
    "one field often": many("me { tgid }"),
    "one field often, with other arguments": many("cafes(first: #) { totalCount }"),
    "one field often, deep": many("cafes { nodes { menuItems { nodes { id } } } }"),
    "one field in inline fragments": many("... { me { tgid } }"),
    "many fields": many("me { tgid name role isActive }", times=19),
    "directives, at the limit": many("@include(if: true)", "{{ %: __typename {} }}", times=MAX_DIRECTIVES),
    "directives": many("@include(if: true)", "{{ %: __typename {} }}"),
    "a long string": lambda name: f'{{ cafes(search: "{name + "x" * 19_900}") {{ totalCount }} }}',
    "a long block string": lambda name: (
        f'{{ cafes(search: """{name}{chr(10).join([" x"] * 6_500)}""") {{ totalCount }} }}'
    ),
    "escapes": lambda name: f'{{ cafes(search: "{name}{(chr(92) + "u0041") * 3_200}") {{ totalCount }} }}',
    "a long number": lambda name: f"{{ {name}: cafes(first: {'9' * 19_900}) {{ totalCount }} }}",
    "a long name": lambda name: f"{{ {name}{'x' * 19_900} }}",
    "a long list": many(
        "1", 'mutation {{ %: placeOrder(cafeId: 1, date: "2026-01-01", comboId: 1, dishIds: [{}]) {{ id }} }}'
    ),
    "a list of wrong values": many('"%#"', "{{ cafes(first: [{}]) {{ totalCount }} }}"),
    "a list of lists": many("[[1]]", "{{ cafes(search: [{}]) {{ totalCount }} }}"),
    "comments": many("%", "{{ %: __typename }}{}", "\n#", times=990),
    "one comment": lambda name: f"{{ {name}: __typename }} #{'x' * 19_900}",
    "spaces": lambda name: f"{{ {name}: __typename }}{' ' * 19_900}",
    "commas": lambda name: f"{{ {name}: __typename }}{',' * 19_900}",
    "an error at the end": many("%#", "{{ {}"),
    "fragments, each in the next": fragments(lambda n, all_: f"...f{n + 1}" if n + 1 < all_ else ""),
    "fragments, each twice in the next": fragments(lambda n, all_: f"...f{n + 1} ...f{n + 1}" if n + 1 < all_ else ""),
    "fragments, each in all before": fragments(lambda n, all_: " ".join(f"...f{m}" for m in range(n + 1, all_))),
    "fragments in a circle": fragments(lambda n, all_: f"...f{(n + 1) % all_}"),
    "fragments with the same fields": fragments(
        lambda n, all_: "me { tgid } cafes { totalCount } " * 3 + (f"...f{n + 1}" if n + 1 < all_ else "")
    ),
    "fragments that are not used": fragments(lambda _n, _all: "", start="{ __typename }"),
    "many operations": many("query %# { __typename }", "{}"),
    "many operations with the same fragments": largest(
        lambda number, name: " ".join(
            [
                *(f"query {name}{n} {{ ...f{n} }}" for n in range(number)),
                *(f"fragment f{n} on Query {{ __typename ...f{(n + 1) % number} }}" for n in range(number)),
            ]
        )
    ),
    "many variables": many("$%#: Int", "query ({}) {{ __typename }}"),
    "many variables that are used": largest(
        lambda number, name: (
            f"query ({' '.join(f'${name}{n}: Int!' for n in range(number))}) {{ "
            f"{' '.join(f'cafes(first: ${name}{n}) {{ totalCount }}' for n in range(number))} }}"
        )
    ),
    "many names of one variable": many("$%: Int", "query ({}) {{ __typename }}"),
    "20,001 characters": lambda name: f"{{ {name}: __typename }} #".ljust(20_001, "x"),
    "990,000 characters": lambda name: f"{{ {name}: __typename }} #".ljust(990_000, "x"),
    "variables: a wrong value": lambda name: {
        "query": "query ($s: OrderStatus) { orders(status: $s) { totalCount } }",
        "variables": {"s": name * 100_000},
    },
    "variables: a list of wrong values": lambda name: {
        "query": 'mutation ($d: [ID!]!) { placeOrder(cafeId: 1, comboId: 1, dishIds: $d, date: "2026-01-01") { id } }',
        "variables": {"d": [{name: 1}] * 50_000},
    },
    "variables: a deep list": lambda name: {
        "query": "query ($s: String) { cafes(search: $s) { totalCount } }",
        "variables": {"s": json.loads("[" * 200 + f'"{name}"' + "]" * 200)},
    },
    "variables: many that are unknown": lambda name: {
        "query": "{ __typename }",
        "variables": {f"{name}{n}": n for n in range(40_000)},
    },
}

MANAGERS_DOCUMENTS: Mapping[str, Document] = {
    "manager: 100 orders": lambda name: (
        f"{{ {name}: orders(first: 100) {{ nodes {{ id tgid userName cafeId cafeName date status combo {{ id name price }} "
        "dishes { menuItemId name category } extras { menuItemId name price quantity } notes totalPrice createdAt "
        "updatedAt } totalCount } }"
    ),
    "manager: many users, at the limit of the cost": many(
        "%#: users(first: 100) { nodes { tgid name role isActive createdAt } }", times=16
    ),
}


@dataclass(frozen=True)
class Api:
    """A running api process."""

    process: psutil.Process
    client: httpx.AsyncClient
    manager: Mapping[str, str]

    def cpu_ms(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system) * 1000

    def memory_mb(self) -> float:
        return float(self.process.memory_info().rss) / 1e6

    async def send(self, document: str | Body, headers: Mapping[str, str] | None = None) -> httpx.Response:
        body = document if isinstance(document, dict) else {"query": document}
        return await self.client.post("/graphql", json=body, headers=headers)


@asynccontextmanager
async def running() -> AsyncIterator[Api]:
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        services = await stack.enter_async_context(embedded(directory / "services"))
        settings = {"KAFKA_FETCH_MAX_WAIT_MS": "500", "LOG_LEVEL": "ERROR", "LINK_REQUESTS_PER_MINUTE": "1000000"}
        api = await stack.enter_async_context(run_api(HERE, services, str(services.database_url), **settings))
        async with httpx.AsyncClient(base_url=api.address, timeout=600) as client:
            yield Api(psutil.Process(api.pid), client, {"Authorization": api.authorization})


async def measure_cpu(api: Api) -> None:
    for number in range(50):
        await api.send(f"{{ {name_of(9000 + number)}: __typename }}")
    print(f"{'CPU of the api process':50} {'ms':>6}  answer")
    for title, document in (DOCUMENTS | MANAGERS_DOCUMENTS).items():
        headers = api.manager if title in MANAGERS_DOCUMENTS else None
        answer = (await api.send(document(name_of(TIMES)), headers)).text
        before = api.cpu_ms()
        for number in range(TIMES):
            await api.send(document(name_of(number)), headers)
        spent = (api.cpu_ms() - before) / TIMES
        mark = " " if spent < CPU_GOAL_MS else "!"
        print(f"{title:50} {spent:6.1f}{mark} {summarize(answer)}", flush=True)


def summarize(answer: str) -> str:
    try:
        errors = json.loads(answer).get("errors")
    except json.JSONDecodeError:
        return answer[:60]
    if not errors:
        return f"{len(answer):,} bytes"
    return f"{errors[0].get('extensions', {}).get('code')} × {len(errors)}: {errors[0]['message'][:60]!r}"


MEMORY: Mapping[str, Document] = {
    "{__typename} and 990 kB of comment": lambda name: "{__typename}#" + name.ljust(990_000, "x"),
    "19,900 characters of comment": lambda name: "{__typename}#" + name.ljust(19_900, "x"),
    "19,900 wide characters of comment": lambda name: "{__typename}#" + name.ljust(19_900, "\U0001f600"),
    "comments": DOCUMENTS["comments"],
    "a long string": DOCUMENTS["a long string"],
    "unknown fields": DOCUMENTS["unknown fields"],
    "the largest valid documents": many("... { me { tgid } }", "query % {{ {} }}", times=40),
    "valid documents": many("me { tgid name role }", "query % {{ {} }}", times=30),
    "names of operations": lambda name: {"query": f"query A{name}{'x' * 19_000} {{ __typename }}"},
    "unknown names of operations": lambda name: {
        "query": "query A { __typename }",
        "operationName": name * 190_000,
    },
    "variables": lambda name: {
        "query": "query ($s: String) { cafes(search: $s) { totalCount } }",
        "variables": {"s": name * 80_000, name: [[]] * 150_000},
    },
    "link requests of unknown cafes": lambda name: (
        f'mutation {{ {name}: linkRequest(cafeId: 99999, tgChatId: -1, tgUsername: "{name}") {{ id }} }}'
    ),
    "authentication data": lambda name: f'mutation {{ authenticate(initData: "{name * 3_000}") {{ token }} }}',
}


async def measure_memory(api: Api, requests: int) -> None:
    for number in range(50):
        await api.send(f"{{ {name_of(9000 + number)}: __typename }}")
        await api.send("{ cafes { nodes { id } } }", api.manager)
    begin = api.memory_mb()
    print(f"{'resident memory of the api process':50} {begin:6.1f} MB")
    for title, document in MEMORY.items():
        before = api.memory_mb()
        numbers = iter(range(requests))

        async def send_all(document: Document = document, numbers: Any = numbers) -> None:
            for number in numbers:
                await api.send(document(name_of(number)))

        await asyncio.gather(*(send_all() for _ in range(CONCURRENT)))
        print(f"{title:50} {api.memory_mb() - before:+6.1f} MB", flush=True)
    await measure_others(api, requests)
    grown = api.memory_mb() - begin
    print(f"{'all together':50} {grown:+6.1f} MB{'' if grown < MEMORY_GOAL_MB else ' !'}")


async def measure_others(api: Api, requests: int) -> None:
    before = api.memory_mb()
    for number in range(requests):
        name = name_of(number) * 1_000
        await api.client.get(
            f"/{name}", headers={"X-Request-Id": name[:64], "X-Forwarded-For": f"10.0.{number % 256}.1"}
        )
    print(f"{'unknown paths':50} {api.memory_mb() - before:+6.1f} MB", flush=True)
    before = api.memory_mb()
    for number in range(requests):
        await api.client.get("/api/v1/cafes", params={"search": name_of(number) * 1_000, name_of(number): "x"})
    print(f"{'parameters':50} {api.memory_mb() - before:+6.1f} MB", flush=True)
    before = api.memory_mb()
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(opened(api, number)) for number in range(SOCKETS)]
        opened_mb = api.memory_mb() - before
        print(f"{f'{SOCKETS} open sockets, each with a large payload':50} {opened_mb:+6.1f} MB", flush=True)
        for socket in sockets:
            try:
                for number in range(20):
                    document = f"{{ {name_of(number)}: cafes {{ totalCount }} }}"
                    message = {"type": "subscribe", "id": f"{number}" * 500, "payload": {"query": document}}
                    await socket.send(json.dumps(message))
                for _ in range(20):
                    await socket.recv()
            except ConnectionClosed:
                continue
        print(f"{'and 20 operations on each':50} {api.memory_mb() - before:+6.1f} MB", flush=True)
    await asyncio.sleep(2)
    print(f"{'and closed':50} {api.memory_mb() - before:+6.1f} MB", flush=True)


@asynccontextmanager
async def opened(api: Api, number: int) -> AsyncIterator[ClientConnection]:
    """A socket whose `connection_init` has a payload as large as a frame may be."""
    address = str(api.client.base_url).replace("http", "ws") + "/graphql"
    async with connect(
        address, subprotocols=[Subprotocol("graphql-transport-ws")], proxy=None, ping_interval=None, max_queue=None
    ) as socket:
        payload = {name_of(number): [[]] * 15_000}
        await socket.send(json.dumps({"type": "connection_init", "payload": payload}))
        try:
            await socket.recv()
        except ConnectionClosed as closed:
            print(f"the socket is closed: {closed}")
        yield socket


async def main(what: str, requests: int) -> None:
    async with running() as api:
        if what in {"cpu", "all"}:
            await measure_cpu(api)
        if what in {"memory", "all"}:
            await measure_memory(api, requests)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=["cpu", "memory", "all"], default="all")
    parser.add_argument("--requests", type=int, default=1_000, help="requests of each kind, for memory")
    options = parser.parse_args()
    asyncio.run(main(options.what, options.requests))
