"""Requests and answers: keys, models, versions and malformed bodies."""

import asyncio

import aiohttp
import httpx
import pytest
from google import genai
from google.genai.errors import ClientError
from google.genai.types import (
    FinishReason,
    HttpOptions,
)

from app.dev.gemini import create_gemini
from app.dev.gemini.faults import FaultKind
from tests.dev.gemini.conftest import (
    MODEL,
    PATH,
    PER_DAY,
    Clock,
    World,
    exceeded_quotas,
    find_detail,
)
from tests.servers import serving, until


async def test_answer_has_the_real_format(world: World) -> None:
    """The SDK finds text, role, finish reason, tokens, model and id in the answer."""
    answer = await world.ask("Hello")

    [candidate] = answer.candidates or []
    assert candidate.content
    assert candidate.content.role == "model"
    assert candidate.finish_reason == FinishReason.STOP
    assert answer.text
    assert answer.usage_metadata
    assert (answer.usage_metadata.prompt_token_count, answer.model_version) == (2, MODEL)
    assert answer.response_id


async def test_answer_without_a_schema_is_text(world: World) -> None:
    """A request without a schema gets an answer that is not JSON."""
    answer = await world.ask("Hello")

    assert "{" not in (answer.text or "{")


async def test_answer_names_the_model_of_an_alias(world: World) -> None:
    """The answer to a request for an alias names the real model."""
    answer = await world.ask(model="gemini-flash-lite-latest", version="v1beta")

    assert answer.model_version == MODEL


async def test_answer_is_truncated_at_the_token_limit(world: World) -> None:
    """An answer with more tokens than requested is truncated."""
    answer = await world.ask(max_output_tokens=3)

    [candidate] = answer.candidates or []
    assert (candidate.finish_reason, len(answer.text or "")) == (FinishReason.MAX_TOKENS, 12)


async def test_unknown_model_is_not_found(world: World) -> None:
    """An unknown model gives 404."""
    error = await world.error(model="gemini-1.0-pro")

    assert isinstance(error, ClientError)
    assert (error.code, error.status) == (404, "NOT_FOUND")
    assert "models/gemini-1.0-pro is not found for API version v1," in str(error.message)


async def test_alias_is_unknown_in_the_stable_version(world: World) -> None:
    """Aliases exist only in v1beta."""
    assert (await world.error(model="gemini-flash-lite-latest")).code == 404


async def test_default_version_of_the_sdk_is_supported(world: World) -> None:
    """A client without a configured version gets an answer."""
    async with aiohttp.ClientSession() as session:
        options = HttpOptions(base_url=world.address, aiohttp_client=session)
        client = genai.Client(api_key="key-1", http_options=options)

        assert (await client.aio.models.generate_content(model=MODEL, contents="Hello")).text


async def test_schema_without_the_json_type_is_refused(world: World) -> None:
    """A response schema without the JSON response type is refused."""
    error = await world.error(response_json_schema={"type": "object"})

    assert (error.code, error.status) == (400, "INVALID_ARGUMENT")
    assert find_detail(error, "BadRequest")["fieldViolations"][0]["field"] == "generationConfig"


async def test_unknown_key_is_invalid(world: World) -> None:
    """An unknown key gives 400 with a reason that names the key."""
    error = await world.error(key="key-9")

    assert (error.code, error.status) == (400, "INVALID_ARGUMENT")
    assert find_detail(error, "ErrorInfo") == {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "API_KEY_INVALID",
        "domain": "googleapis.com",
        "metadata": {"service": "generativelanguage.googleapis.com"},
    }


async def test_missing_key_is_forbidden(world: World) -> None:
    """A request without a key gets 403."""
    error = await world.error(key="")

    assert (error.code, error.status) == (403, "PERMISSION_DENIED")
    assert "unregistered callers" in str(error.message)


async def test_requests_without_a_valid_key_are_counted_separately(world: World) -> None:
    """Requests without a valid key count for no key and no project."""
    await world.error(key="key-9")
    await world.error(key="")

    assert world.state.turned_away == {400: 1, 403: 1}
    assert not world.state.requests


async def test_short_deadline_is_refused(world: World) -> None:
    """A deadline below ten seconds is refused."""
    with pytest.raises(ClientError, match="Minimum allowed deadline is 10s"):
        await world.ask(timeout_ms=9_000)


async def test_closing_ends_hanging_requests(client: genai.Client) -> None:
    """A hanging request ends when the stand-in closes."""
    app = create_gemini()
    async with serving(app) as address:
        world = World(client, address, app.state.gemini, Clock())
        world.add_fault(FaultKind.HANG)
        asking = asyncio.create_task(world.ask(key="any"))
        await until(lambda: app.state.gemini.requests)

        app.state.gemini.close()

        with pytest.raises(aiohttp.ServerDisconnectedError):
            await asking


async def test_latency_delays_the_answer(world: World) -> None:
    """An answer takes at least the configured latency."""
    world.state.latency_s = 0.1
    started_at = asyncio.get_running_loop().time()

    await world.ask()

    assert asyncio.get_running_loop().time() - started_at >= 0.1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"soup",
        b"[]",
        b"\xff\xfe",
        b'{"contents": []}',
        b'{"contents": [{"parts": []}]}',
        b'{"contents": [{"parts": [{"text": 7}]}]}',
        b'{"contents": [{"parts": [{"text": "\\ud800"}]}]}',
        b'{"contents": [{"parts": [{"text": "x"}], "role": "chef"}]}',
        b'{"contents": [{"parts": [{"text": "x"}]}], "generationConfig": {"maxOutputTokens": 0}}',
        b'{"contents": ' + b"[" * 100_000,
    ],
)
async def test_malformed_body_is_refused(world: World, http: httpx.AsyncClient, body: bytes) -> None:
    """A malformed body gets an error in Google's format and counts as a request."""
    answer = await http.post(PATH, content=body)

    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert world.state.usage_of_key("key-1").refused == {400: 1}


async def test_invalid_field_is_named(http: httpx.AsyncClient) -> None:
    """The error for a malformed body names the invalid field."""
    answer = await http.post(PATH, json={"contents": [{"parts": [{"text": "x"}, {"text": 7}]}]})

    [violation] = answer.json()["error"]["details"][0]["fieldViolations"]
    assert violation["field"] == "contents[0].parts[1].text"


async def test_snake_case_fields_are_accepted(world: World, http: httpx.AsyncClient) -> None:
    """Fields in snake case are accepted like those in camel case."""
    body = {"contents": [{"parts": [{"text": "x"}]}], "system_instruction": {"parts": [{"text": "Be brief."}]}}
    await http.post(PATH, json=body)

    assert [request.system_instruction for request in world.state.requests] == ["Be brief."]


async def test_body_of_a_megabyte_is_answered(world: World) -> None:
    """A prompt of a megabyte gets an answer."""
    answer = await world.ask("soup " * 200_000)

    assert answer.usage_metadata
    assert answer.usage_metadata.prompt_token_count == 250_000


@pytest.mark.parametrize(
    "key", [b"\xff\xfe", b"x" * 30_000, b"' OR 1=1 --", b"{}", b"../../etc", "ключ".encode()], ids=range(6)
)
async def test_hostile_key_is_invalid(http: httpx.AsyncClient, key: bytes) -> None:
    """A malformed key gets the error for an unknown key."""
    answer = await http.post(PATH, headers={b"x-goog-api-key": key}, json={"contents": []})

    assert (answer.status_code, answer.json()["error"]["details"][0]["reason"]) == (400, "API_KEY_INVALID")


async def test_every_key_is_valid_without_a_list(client: genai.Client) -> None:
    """Without a list of keys, every key is valid and is its own project."""
    app = create_gemini(per_day=1)
    async with serving(app) as address:
        world = World(client, address, app.state.gemini, Clock())
        await world.ask(key="one")
        await world.ask(key="two")

        assert exceeded_quotas(await world.error(key="one")) == [PER_DAY]


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [("GET", PATH, 405), ("POST", "/v1beta/models", 404), ("POST", "/v2" + PATH.removeprefix("/v1"), 404)],
)
async def test_wrong_path_gets_an_error_in_json(http: httpx.AsyncClient, method: str, path: str, code: int) -> None:
    """A request to a wrong path or method gets an error in Google's format."""
    answer = await http.request(method, path)

    assert (answer.status_code, answer.json()["error"]["code"]) == (code, code)
