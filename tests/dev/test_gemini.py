"""The Gemini stand-in, used through Google's own SDK and a real server."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import aiohttp
import httpx
import orjson
import pytest
from google import genai
from google.genai.errors import APIError, ClientError, ServerError
from google.genai.types import (
    FinishReason,
    GenerateContentConfig,
    GenerateContentResponse,
    HttpOptions,
    HttpRetryOptions,
)

from app.ai.prompts import SUMMARY_MAX_CHARACTERS, TIP_MAX_CHARACTERS, TIPS_MAX, Advice, Cafe, prompt
from app.ai.stats import CategoryShares, FavoriteDish, OrderStats
from app.dev.gemini import create_gemini
from app.dev.gemini.faults import Fault, FaultKind
from app.dev.gemini.state import MAX_RECORDED_CHARACTERS, MAX_RECORDED_REQUESTS, Gemini, RecordedRequest
from tests.servers import serving, until

MODEL = "gemini-3.5-flash-lite"
PATH = f"/v1/models/{MODEL}:generateContent"
PROJECTS = {"key-1": "shared", "key-2": "shared", "key-3": "own"}
MENU = [
    Cafe(
        "Green Fork",
        {
            "soup": ["Tomato soup", "Lentil soup"],
            "salad": ["Greek salad", "Caesar salad"],
            "main": ["Lasagne", "Beef stew", "Risotto"],
            "extra": ["Tea"],
        },
    ),
    Cafe("Самовар", {"soup": ["Борщ"], "salad": ["Винегрет"], "main": ["Котлета"]}),
]
DISHES = {name for cafe in MENU for names in cafe.dishes.values() for name in names}
PER_DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
PER_MINUTE = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 15, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


class World:
    """A running stand-in, and the SDK's client for it."""

    def __init__(self, client: genai.Client, address: str, state: Gemini, clock: Clock) -> None:
        self.client = client
        self.address = address
        self.state = state
        self.clock = clock

    async def ask(
        self,
        contents: str = "Hello",
        *,
        key: str = "key-1",
        model: str = MODEL,
        timeout_ms: int = 10_000,
        version: str = "v1",
        **config: Any,
    ) -> GenerateContentResponse:
        options = HttpOptions(
            base_url=self.address,
            api_version=version,
            headers={"x-goog-api-key": key},
            timeout=timeout_ms,
            retry_options=HttpRetryOptions(attempts=1),
        )
        return await self.client.aio.models.generate_content(
            model=model, contents=contents, config=GenerateContentConfig(http_options=options, **config)
        )

    async def advice(self, stats: OrderStats, language: str = "en", menu: Sequence[Cafe] = MENU) -> Advice:
        question = prompt(menu, stats, [], language)
        answer = await self.ask(
            question.contents,
            system_instruction=question.instruction,
            response_mime_type="application/json",
            response_json_schema=Advice.model_json_schema(),
        )
        return Advice.model_validate_json(answer.text or "", strict=True)

    async def refusal(self, **how: Any) -> APIError:
        with pytest.raises(APIError) as refusal:
            await self.ask(**how)
        return refusal.value

    def fail(self, kind: FaultKind, **details: Any) -> None:
        self.state.faults.add(Fault(kind=kind, **details))


@pytest.fixture(scope="module")
async def client() -> AsyncIterator[genai.Client]:
    """One for all tests: to make it takes 0.2 s. A session of its own would inherit from aiohttp's, which warns."""
    async with aiohttp.ClientSession() as session:
        client = genai.Client(api_key="none", http_options=HttpOptions(aiohttp_client=session))
        yield client
        await client.aio.aclose()
        client.close()


@pytest.fixture(scope="module")
async def shared_world(client: genai.Client) -> AsyncIterator[World]:
    clock = Clock()
    app = create_gemini(keys=PROJECTS, clock=clock)
    async with serving(app) as address:
        yield World(client, address, app.state.gemini, clock)
        app.state.gemini.close()


@pytest.fixture
async def world(shared_world: World) -> World:
    """The stand-in without quotas and with nothing in it. One server serves all tests: to start one takes 0.1 s."""
    state = shared_world.state
    state.per_day = state.per_minute = None
    state.latency_s = 0
    state.reset()
    shared_world.clock.now = Clock().now
    return shared_world


@pytest.fixture
def per_day(world: World) -> World:
    """Two requests a day for each project."""
    world.state.per_day = 2
    world.state.reset()
    return world


@pytest.fixture
def per_minute(world: World) -> World:
    """Two requests a minute for each project."""
    world.state.per_minute = 2
    world.state.reset()
    return world


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"x-goog-api-key": "key-1"}
    async with httpx.AsyncClient(base_url=world.address, headers=headers) as http:
        yield http


def detail(error: APIError, kind: str) -> dict[str, Any]:
    [found] = [item for item in error.details["error"]["details"] if item["@type"].endswith(f"google.rpc.{kind}")]
    return dict(found)


def quotas(error: APIError) -> list[str]:
    return [violation["quotaId"] for violation in detail(error, "QuotaFailure")["violations"]]


def eater(
    *,
    main: float = 0,
    soup: float = 0,
    salad: float = 0,
    extra: float = 0,
    favorites: Sequence[str] = (),
    unique: int = 30,
) -> OrderStats:
    return OrderStats(
        orders_count=20,
        categories=CategoryShares(soup=soup, salad=salad, main=main, extra=extra),
        unique_dishes=unique,
        total_dishes_available=40,
        favorite_dishes=tuple(FavoriteDish(name=name, count=4) for name in favorites),
    )


async def test_answer_has_the_real_shape(world: World) -> None:
    """The SDK finds text, role, reason, tokens, model and id where it looks for them."""
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
    """Who does not ask for JSON gets none."""
    answer = await world.ask("Hello")

    assert "{" not in (answer.text or "{")


@pytest.mark.parametrize(
    "contents", ["Hello", "<menu></menu><person>{}</person>", "<person>\ud83c\udf72</person><menu>"]
)
async def test_prompt_of_another_kind_is_answered(world: World, contents: str) -> None:
    """Without the fences, or with nonsense in them, there is advice for everybody."""
    contents = contents.encode("utf-16", "surrogatepass").decode("utf-16")
    answer = await world.ask(contents, response_mime_type="application/json", response_json_schema={"type": "object"})

    assert Advice.model_validate_json(answer.text or "").tips


async def test_alias_says_which_model_was_served(world: World) -> None:
    """Behind a name that moves stands a model, and the answer says which."""
    answer = await world.ask(model="gemini-flash-lite-latest", version="v1beta")

    assert answer.model_version == MODEL


async def test_answer_ends_at_the_limit_of_tokens(world: World) -> None:
    """Where fewer tokens are asked for than the answer has it is cut off."""
    answer = await world.ask(max_output_tokens=3)

    [candidate] = answer.candidates or []
    assert (candidate.finish_reason, len(answer.text or "")) == (FinishReason.MAX_TOKENS, 12)


async def test_unknown_model_is_not_found(world: World) -> None:
    """A model that is not there gives 404."""
    error = await world.refusal(model="gemini-1.0-pro")

    assert isinstance(error, ClientError)
    assert (error.code, error.status) == (404, "NOT_FOUND")
    assert "models/gemini-1.0-pro is not found for API version v1," in str(error.message)


async def test_alias_is_unknown_in_the_stable_version(world: World) -> None:
    """The names that move exist in v1beta only."""
    assert (await world.refusal(model="gemini-flash-lite-latest")).code == 404


async def test_version_is_the_one_that_the_sdk_asks_for(world: World) -> None:
    """A client that is told no version finds the stand-in."""
    async with aiohttp.ClientSession() as session:
        options = HttpOptions(base_url=world.address, aiohttp_client=session)
        client = genai.Client(api_key="key-1", http_options=options)

        assert (await client.aio.models.generate_content(model=MODEL, contents="Hello")).text


async def test_schema_without_the_json_type_is_refused(world: World) -> None:
    """A response schema needs the response type of JSON."""
    error = await world.refusal(response_json_schema={"type": "object"})

    assert (error.code, error.status) == (400, "INVALID_ARGUMENT")
    assert detail(error, "BadRequest")["fieldViolations"][0]["field"] == "generationConfig"


async def test_unknown_key_is_invalid(world: World) -> None:
    """A key that is not known gives 400, and a reason that it is the key."""
    error = await world.refusal(key="key-9")

    assert (error.code, error.status) == (400, "INVALID_ARGUMENT")
    assert detail(error, "ErrorInfo") == {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "API_KEY_INVALID",
        "domain": "googleapis.com",
        "metadata": {"service": "generativelanguage.googleapis.com"},
    }


async def test_missing_key_is_forbidden(world: World) -> None:
    """Who does not say who they are gets 403."""
    error = await world.refusal(key="")

    assert (error.code, error.status) == (403, "PERMISSION_DENIED")
    assert "unregistered callers" in str(error.message)


async def test_unknown_keys_are_counted_apart(world: World) -> None:
    """What comes without a good key counts for nobody."""
    await world.refusal(key="key-9")
    await world.refusal(key="")

    assert world.state.turned_away == {400: 1, 403: 1}
    assert not world.state.requests


@pytest.mark.parametrize(
    ("kind", "code", "status", "details"),
    [
        (FaultKind.DAY_QUOTA, 429, "RESOURCE_EXHAUSTED", ["QuotaFailure", "Help", "RetryInfo"]),
        (FaultKind.MINUTE_QUOTA, 429, "RESOURCE_EXHAUSTED", ["QuotaFailure", "Help", "RetryInfo"]),
        (FaultKind.MODEL_QUOTA, 429, "RESOURCE_EXHAUSTED", ["QuotaFailure", "Help", "RetryInfo"]),
        (FaultKind.BARE_429, 429, "RESOURCE_EXHAUSTED", []),
        (FaultKind.KEY_INVALID, 400, "INVALID_ARGUMENT", ["ErrorInfo", "LocalizedMessage"]),
        (FaultKind.UNAUTHENTICATED, 401, "UNAUTHENTICATED", ["ErrorInfo"]),
        (FaultKind.FORBIDDEN, 403, "PERMISSION_DENIED", ["ErrorInfo"]),
        (FaultKind.BAD_REQUEST, 400, "INVALID_ARGUMENT", []),
        (FaultKind.SERVER_ERROR, 500, "INTERNAL", []),
        (FaultKind.UNAVAILABLE, 503, "UNAVAILABLE", []),
    ],
)
async def test_refusal_has_the_real_shape(
    world: World, kind: FaultKind, code: int, status: str, details: list[str]
) -> None:
    """Each refusal on order raises the SDK's error with the code, the status and the details of the real one."""
    world.fail(kind)

    error = await world.refusal()

    assert type(error) is (ClientError if code < 500 else ServerError)
    assert (error.code, error.status) == (code, status)
    assert [item["@type"].rpartition(".")[2] for item in error.details["error"].get("details", [])] == details


@pytest.mark.parametrize(
    ("kind", "quota_ids", "limits"),
    [
        (FaultKind.DAY_QUOTA, [PER_DAY], ["200"]),
        (FaultKind.MINUTE_QUOTA, [PER_MINUTE], ["15"]),
        (FaultKind.MODEL_QUOTA, [PER_DAY, PER_MINUTE], [None, None]),
    ],
)
async def test_used_up_quota_is_named(
    world: World, kind: FaultKind, quota_ids: list[str], limits: list[str | None]
) -> None:
    """A quota on order says which it is and how much there is; a limit of 0 stands in the message alone."""
    world.fail(kind)

    error = await world.refusal()

    violations = detail(error, "QuotaFailure")["violations"]
    assert [violation["quotaId"] for violation in violations] == quota_ids
    assert [violation.get("quotaValue") for violation in violations] == limits
    assert violations[0]["quotaDimensions"] == {"location": "global", "model": MODEL}
    assert f"limit: {limits[0] or 0}, model: {MODEL}" in str(error.message)


@pytest.mark.parametrize(("ordered", "told"), [(None, "37s"), (2.5, "2.5s"), (0, "0s")])
async def test_retry_delay_can_be_chosen(world: World, ordered: float | None, told: str) -> None:
    """A quota on order asks to wait as long as the order says."""
    world.fail(FaultKind.MINUTE_QUOTA, retry_delay_s=ordered)

    assert detail(await world.refusal(), "RetryInfo")["retryDelay"] == told


async def test_suspended_key_stands_in_the_message(world: World) -> None:
    """The refusal of a suspended key repeats the key, as the real one does."""
    world.fail(FaultKind.FORBIDDEN)

    assert "api_key:key-1" in str(await world.refusal())


async def test_bad_gateway_is_no_json(world: World) -> None:
    """A 502 with an HTML page is a server error whose message is the page."""
    world.fail(FaultKind.HTML_BAD_GATEWAY)

    error = await world.refusal()

    assert type(error) is ServerError
    assert (error.code, error.status) == (502, "Bad Gateway")
    assert "<h1>502 Bad Gateway</h1>" in str(error.message)


async def test_hanging_request_times_out(world: World) -> None:
    """Without an answer the SDK gives up after its time-out."""
    world.fail(FaultKind.HANG)

    with pytest.raises(TimeoutError):
        await world.ask(timeout_ms=50)

    assert world.state.usage_of_key("key-1").unanswered == 1


async def test_a_deadline_may_not_be_too_short(world: World) -> None:
    """The service wants ten seconds for an answer."""
    with pytest.raises(ClientError, match="Minimum allowed deadline is 10s"):
        await world.ask(timeout_ms=9_000)


async def test_closing_ends_what_hangs(client: genai.Client) -> None:
    """Once the stand-in closes, a hanging request is over."""
    app = create_gemini()
    async with serving(app) as address:
        world = World(client, address, app.state.gemini, Clock())
        world.fail(FaultKind.HANG)
        asking = asyncio.create_task(world.ask(key="any"))
        await until(lambda: app.state.gemini.requests)

        app.state.gemini.close()

        with pytest.raises(aiohttp.ServerDisconnectedError):
            await asking


async def test_dropped_connection(world: World) -> None:
    """A connection that breaks without an answer is no APIError, and is not tried again."""
    world.fail(FaultKind.DROP)

    with pytest.raises(aiohttp.ServerDisconnectedError):
        await world.ask()

    assert world.state.usage_of_key("key-1").requests == 1


async def test_bad_json(world: World) -> None:
    """A body that is no JSON raises the decoder's error."""
    world.fail(FaultKind.BAD_JSON)

    with pytest.raises(json.JSONDecodeError):
        await world.ask()


async def test_cut_off_answer(world: World) -> None:
    """An answer that was cut off raises nothing; its JSON is not whole."""
    world.fail(FaultKind.MAX_TOKENS)

    answer = await world.ask(response_mime_type="application/json")

    [candidate] = answer.candidates or []
    assert candidate.finish_reason == FinishReason.MAX_TOKENS
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.text or "")


async def test_answer_held_back_for_safety(world: World) -> None:
    """An answer that is held back raises nothing and has no text."""
    world.fail(FaultKind.SAFETY)

    answer = await world.ask()

    [candidate] = answer.candidates or []
    assert (candidate.finish_reason, answer.text) == (FinishReason.SAFETY, None)


async def test_no_candidates(world: World) -> None:
    """An answer without candidates raises nothing and has no text."""
    world.fail(FaultKind.EMPTY)

    answer = await world.ask()

    assert (answer.candidates, answer.text) == (None, None)


async def test_unfit_answer(world: World) -> None:
    """An answer that does not fit has too long a summary and no tips."""
    world.fail(FaultKind.INVALID_ANSWER)

    answer = json.loads((await world.ask(response_mime_type="application/json")).text or "")

    assert (len(answer["summary"]) > SUMMARY_MAX_CHARACTERS, answer["tips"]) == (True, [])


async def test_unfit_answer_can_be_chosen(world: World) -> None:
    """The order may say what the model says."""
    world.fail(FaultKind.INVALID_ANSWER, text='{"summary": 7}')

    assert (await world.ask()).text == '{"summary": 7}'


async def test_fault_is_used_up(world: World) -> None:
    """After as many requests as were ordered everything works again."""
    world.fail(FaultKind.UNAVAILABLE, times=2)
    await world.refusal()
    await world.refusal()

    assert (await world.ask()).text


async def test_fault_without_an_end_lasts(world: World) -> None:
    """A fault without a number of times stays until it is deleted."""
    world.fail(FaultKind.UNAVAILABLE, times=None)
    for _ in range(3):
        await world.refusal()
    world.state.faults.clear()

    assert (await world.ask()).text


async def test_fault_of_one_key_leaves_others_alone(world: World) -> None:
    """A fault that names a key is met by that key only."""
    world.fail(FaultKind.FORBIDDEN, key="key-3")

    assert (await world.ask(key="key-1")).text
    assert (await world.refusal(key="key-3")).code == 403


async def test_faults_are_met_in_order(world: World) -> None:
    """The fault that was ordered first is met first."""
    world.fail(FaultKind.UNAVAILABLE)
    world.fail(FaultKind.BARE_429)

    assert [(await world.refusal()).code, (await world.refusal()).code] == [503, 429]


async def test_quota_of_a_day_is_kept(per_day: World) -> None:
    """One request more than the day's quota is refused, with the delay of less than a minute that misleads."""
    await per_day.ask()
    await per_day.ask()

    error = await per_day.refusal()

    [violation] = detail(error, "QuotaFailure")["violations"]
    assert (violation["quotaId"], violation["quotaValue"]) == (PER_DAY, "2")
    assert violation["quotaMetric"] == "generativelanguage.googleapis.com/generate_content_free_tier_requests"
    assert detail(error, "RetryInfo")["retryDelay"] == "60s"


async def test_keys_of_a_project_share_its_quota(per_day: World) -> None:
    """Two keys of one project have one quota; a key of another project has its own."""
    await per_day.ask(key="key-1")
    await per_day.ask(key="key-2")

    assert quotas(await per_day.refusal(key="key-1")) == [PER_DAY]
    assert (await per_day.ask(key="key-3")).text


async def test_models_have_quotas_of_their_own(per_day: World) -> None:
    """What one model has used up is left of another."""
    await per_day.ask()
    await per_day.ask()

    assert (await per_day.ask(model="gemini-3.5-flash")).text


@pytest.mark.parametrize(
    ("before", "midnight"),
    [
        ("2026-01-15T12:00", "2026-01-16T08:00"),
        ("2026-03-08T07:59", "2026-03-08T08:00"),
        ("2026-03-08T08:00", "2026-03-09T07:00"),
        ("2026-07-01T07:00", "2026-07-02T07:00"),
        ("2026-11-01T06:59", "2026-11-01T07:00"),
        ("2026-11-01T07:00", "2026-11-02T08:00"),
    ],
    ids=["winter", "before the clocks go on", "day of 23 hours", "summer", "before they go back", "day of 25 hours"],
)
async def test_day_ends_at_midnight_in_california(per_day: World, before: str, midnight: str) -> None:
    """A used-up day stays so until the second in which the next one begins in Los Angeles, also when clocks change."""
    new_day = datetime.fromisoformat(midnight).replace(tzinfo=UTC)
    per_day.clock.now = datetime.fromisoformat(before).replace(tzinfo=UTC)
    await per_day.ask()
    await per_day.ask()

    per_day.clock.now = new_day - timedelta(seconds=1)
    assert quotas(await per_day.refusal()) == [PER_DAY]
    per_day.clock.now = new_day
    assert (await per_day.ask()).text


async def test_quota_of_a_minute_is_kept(per_minute: World) -> None:
    """One request more than the minute's quota is refused, until the first of them is a minute old."""
    await per_minute.ask()
    per_minute.clock.now += timedelta(seconds=23)
    await per_minute.ask()

    error = await per_minute.refusal()

    assert (quotas(error), detail(error, "RetryInfo")["retryDelay"]) == ([PER_MINUTE], "37s")


async def test_minute_passes(per_minute: World) -> None:
    """Who waits as long as was told is served."""
    await per_minute.ask()
    await per_minute.ask()
    await per_minute.refusal()

    per_minute.clock.now += timedelta(seconds=60)

    assert (await per_minute.ask()).text


async def test_both_quotas_can_be_used_up(world: World) -> None:
    """When minute and day are used up the refusal names both."""
    world.state.per_day = world.state.per_minute = 1
    world.state.reset()
    await world.ask()

    assert quotas(await world.refusal()) == [PER_MINUTE, PER_DAY]


async def test_refusals_use_nothing_of_a_quota(per_day: World) -> None:
    """What was refused as the client's fault, or for a quota, does not count against it."""
    per_day.fail(FaultKind.BARE_429)
    per_day.fail(FaultKind.BAD_REQUEST)
    await per_day.refusal()
    await per_day.refusal()
    await per_day.ask()
    await per_day.ask()

    assert quotas(await per_day.refusal()) == [PER_DAY]


async def test_failures_of_the_service_use_a_quota(per_day: World) -> None:
    """What failed on the server's side was let in, and counts."""
    per_day.fail(FaultKind.UNAVAILABLE)
    per_day.fail(FaultKind.DROP)
    await per_day.refusal()
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await per_day.ask()

    assert quotas(await per_day.refusal()) == [PER_DAY]


async def test_last_request_of_a_quota_is_served_once(per_day: World) -> None:
    """Of many requests at once only as many pass as the quota has."""
    asked = await asyncio.gather(*(per_day.ask() for _ in range(10)), return_exceptions=True)

    assert sum(isinstance(answer, GenerateContentResponse) for answer in asked) == 2


async def test_usage_is_counted(per_day: World) -> None:
    """Every request with a good key counts for the key and its project, whatever its answer."""
    per_day.fail(FaultKind.UNAVAILABLE)
    await per_day.refusal(key="key-1")
    await per_day.ask(key="key-1")
    await per_day.refusal(key="key-1")
    await per_day.refusal(key="key-2", model="gemini-1.0-pro")

    of_key, of_project = per_day.state.usage_of_key("key-1"), per_day.state.usage_of_project("shared")
    assert (of_key.requests, of_key.served, of_key.refused, of_key.unanswered) == (3, 1, {503: 1, 429: 1}, 0)
    assert (of_project.requests, of_project.refused) == (4, {503: 1, 429: 1, 404: 1})


async def test_usage_is_counted_by_the_day_of_california(world: World) -> None:
    """A request at 07:59 UTC in winter belongs to the day before."""
    world.clock.now = datetime(2026, 1, 16, 7, 59, tzinfo=UTC)
    await world.ask()

    assert world.state.usage_of_key("key-1", date(2026, 1, 15)).served == 1
    assert world.state.usage_of_key("key-1", date(2026, 1, 16)).served == 0


async def test_requests_are_remembered(world: World) -> None:
    """What was asked, by whom and when, can be looked up."""
    await world.ask("What is for lunch?", key="key-3", system_instruction="Be brief.")

    assert list(world.state.requests) == [
        RecordedRequest("key-3", MODEL, "Be brief.", "What is for lunch?", world.clock.now)
    ]


@pytest.mark.parametrize(("text", "kept"), [("x", MAX_RECORDED_REQUESTS), ("x" * (MAX_RECORDED_CHARACTERS // 4), 4)])
def test_memory_has_an_end(text: str, kept: int) -> None:
    """Only the latest requests are kept, and fewer of them when they are long."""
    gemini: Gemini = create_gemini().state.gemini
    for _ in range(kept + 2):
        gemini.record_request(RecordedRequest("key", MODEL, "", text, Clock().now))

    assert len(gemini.requests) == kept


async def test_latency_delays_the_answer(world: World) -> None:
    """An answer takes as long as was set."""
    world.state.latency_s = 0.1
    began = asyncio.get_running_loop().time()

    await world.ask()

    assert asyncio.get_running_loop().time() - began >= 0.1


@pytest.mark.parametrize("language", ["en", "ru"])
@pytest.mark.parametrize(
    "stats",
    [
        eater(main=0.7, soup=0.2, salad=0.05, extra=0.05, favorites=["Lasagne"]),
        eater(main=0.3, soup=0.3, salad=0.3, extra=0.1, favorites=["Борщ", "Greek salad"]),
        eater(main=0.2, soup=0.1, salad=0.1, extra=0.6, unique=5),
        OrderStats(),
    ],
    ids=["mains", "balanced", "extras", "nothing ordered"],
)
async def test_advice_fits(world: World, stats: OrderStats, language: str) -> None:
    """Advice keeps to its limits, in plain text, and each tip names a dish of today that is no favourite."""
    advice = await world.advice(stats, language)

    favorites = {favorite.name for favorite in stats.favorite_dishes}
    assert 0 < len(advice.summary) <= SUMMARY_MAX_CHARACTERS
    assert 1 <= len(advice.tips) <= TIPS_MAX
    for tip in advice.tips:
        assert len(tip) <= TIP_MAX_CHARACTERS
        assert any(dish in tip for dish in DISHES - favorites)
    assert not set("<>{}*#\n") & set("".join([advice.summary, *advice.tips]))


async def test_advice_is_in_russian(world: World) -> None:
    """Who asks in Russian is answered in Russian."""
    advice = await world.advice(eater(main=0.9, salad=0.1), "ru")

    assert advice.summary.startswith("За последние 30 дней")
    assert advice.tips[0].startswith("Горячее — 90% ваших заказов")


async def test_too_many_mains_call_for_a_salad(world: World) -> None:
    """Whose lunches are mains gets a salad by its name."""
    advice = await world.advice(eater(main=0.8, soup=0.2, favorites=["Greek salad"]))

    assert any(salad in advice.tips[0] for salad in ("Caesar salad", "Винегрет"))


async def test_little_variety_calls_for_something_else(world: World) -> None:
    """Who has tried little is told how little, and a dish that is not among their usual ones."""
    advice = await world.advice(eater(main=0.4, soup=0.3, salad=0.3, unique=4))

    assert advice.tips[0].startswith("You have tried 4 of 40 dishes")


async def test_advice_is_the_same_for_the_same_person(world: World) -> None:
    """The same figures give the same advice."""
    stats = eater(main=0.8, soup=0.2)

    assert await world.advice(stats) == await world.advice(stats)


async def test_advice_differs_between_people(world: World) -> None:
    """Different figures give different advice."""
    given = [await world.advice(eater(main=share / 100, soup=1 - share / 100)) for share in range(10, 100, 10)]

    assert len({advice.model_dump_json() for advice in given}) == len(given)


async def test_long_names_fit(world: World) -> None:
    """Names as long as the database takes do not make advice too long."""
    long = [Cafe("К" * 255, {kind: [kind * 50, f"{kind}\n" * 50] for kind in ("soup", "salad", "main")})]
    advice = await world.advice(eater(main=0.8, extra=0.2, favorites=["Б" * 255]), menu=long)

    assert max(len(text) for text in [advice.summary, *advice.tips]) <= TIP_MAX_CHARACTERS


@pytest.mark.parametrize(
    "name", ["Dr. Pepper! Cold?", "<b>Soup</b>", "**Best** {dish}", "Soup\u200b\nof the day", "Суп… дня."]
)
@pytest.mark.parametrize("language", ["en", "ru"])
async def test_odd_names_do_not_spoil_advice(world: World, name: str, language: str) -> None:
    """Whatever dishes and cafes are called, advice stays plain text with a summary of one sentence."""
    menu = [Cafe(name, {"soup": [f"{name} 1"]}), Cafe("Green Fork", {"soup": [f"{name} 2", "Lentil soup"]})]

    assert (await world.advice(eater(main=0.5, salad=0.5, favorites=[name]), language, menu)).tips


@pytest.mark.parametrize("menu", [[], [Cafe("Empty", {"soup": [], "main": [" "]})]])
async def test_advice_without_a_menu(world: World, menu: list[Cafe]) -> None:
    """Where nothing is on the menu there is still a tip."""
    assert len((await world.advice(eater(main=0.8), menu=menu)).tips) == 1


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
    """Whatever is sent, the answer is a refusal in Google's shape, and it counts as a request."""
    answer = await http.post(PATH, content=body)

    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert world.state.usage_of_key("key-1").refused == {400: 1}


async def test_wrong_field_is_named(http: httpx.AsyncClient) -> None:
    """A refused body is told where it is wrong."""
    answer = await http.post(PATH, json={"contents": [{"parts": [{"text": "x"}, {"text": 7}]}]})

    [violation] = answer.json()["error"]["details"][0]["fieldViolations"]
    assert violation["field"] == "contents[0].parts[1].text"


async def test_both_spellings_of_fields_are_taken(world: World, http: httpx.AsyncClient) -> None:
    """Snake case is read like camel case."""
    body = {"contents": [{"parts": [{"text": "x"}]}], "system_instruction": {"parts": [{"text": "Be brief."}]}}
    await http.post(PATH, json=body)

    assert [request.system_instruction for request in world.state.requests] == ["Be brief."]


async def test_body_of_a_megabyte_is_answered(world: World) -> None:
    """A prompt may be long."""
    answer = await world.ask("soup " * 200_000)

    assert answer.usage_metadata
    assert answer.usage_metadata.prompt_token_count == 250_000


@pytest.mark.parametrize(
    "key", [b"\xff\xfe", b"x" * 30_000, b"' OR 1=1 --", b"{}", b"../../etc", "ключ".encode()], ids=range(6)
)
async def test_hostile_key_is_invalid(http: httpx.AsyncClient, key: bytes) -> None:
    """Whatever stands in the place of a key is just an unknown key."""
    answer = await http.post(PATH, headers={b"x-goog-api-key": key}, json={"contents": []})

    assert (answer.status_code, answer.json()["error"]["details"][0]["reason"]) == (400, "API_KEY_INVALID")


async def test_any_key_is_good_without_a_list(client: genai.Client) -> None:
    """Without a list of keys each is a project by itself."""
    app = create_gemini(per_day=1)
    async with serving(app) as address:
        world = World(client, address, app.state.gemini, Clock())
        await world.ask(key="one")
        await world.ask(key="two")

        assert quotas(await world.refusal(key="one")) == [PER_DAY]


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [("GET", PATH, 405), ("POST", "/v1beta/models", 404), ("POST", "/v2" + PATH.removeprefix("/v1"), 404)],
)
async def test_wrong_path_is_told_in_json(http: httpx.AsyncClient, method: str, path: str, code: int) -> None:
    """Where there is nothing, the answer has Google's shape too."""
    answer = await http.request(method, path)

    assert (answer.status_code, answer.json()["error"]["code"]) == (code, code)


async def test_control_shows_requests(world: World, http: httpx.AsyncClient) -> None:
    """The latest requests can be seen from outside."""
    await world.ask("Hello", system_instruction="Be brief.")

    assert (await http.get("/control/requests")).json()["requests"] == [
        {
            "key": "key-1",
            "model": MODEL,
            "system_instruction": "Be brief.",
            "contents": "Hello",
            "at": "2026-01-15T12:00:00+00:00",
        }
    ]


async def test_control_shows_usage(world: World, http: httpx.AsyncClient) -> None:
    """Usage by key and by project can be seen from outside."""
    world.fail(FaultKind.UNAVAILABLE)
    await world.refusal()
    await world.ask()

    usage = (await http.get("/control/usage")).json()

    counts = {"day": "2026-01-15", "requests": 2, "served": 1, "unanswered": 0, "refused": {"503": 1}}
    assert usage == {
        "keys": [{"key": "key-1"} | counts],
        "projects": [{"project": "shared"} | counts],
        "turned_away": {},
    }


async def test_control_takes_faults(world: World, http: httpx.AsyncClient) -> None:
    """A fault that was ordered from outside is listed, and met."""
    ordered = await http.post("/control/faults", json={"kind": "day_quota", "key": "key-1", "retry_delay_s": 5})
    listed = (await http.get("/control/faults")).json()["faults"]

    assert (ordered.status_code, listed) == (201, [ordered.json()])
    assert detail(await world.refusal(), "RetryInfo")["retryDelay"] == "5s"


async def test_control_deletes_faults(world: World, http: httpx.AsyncClient) -> None:
    """After the faults are deleted everything works again."""
    world.fail(FaultKind.UNAVAILABLE, times=None)
    await http.delete("/control/faults")

    assert (await world.ask()).text


async def test_control_resets(per_day: World, http: httpx.AsyncClient) -> None:
    """After a reset nothing is remembered, and the quotas are whole."""
    await per_day.ask()
    await per_day.ask()
    await http.post("/control/reset")

    assert (await http.get("/control/usage")).json() == {"keys": [], "projects": [], "turned_away": {}}
    assert (await per_day.ask()).text


@pytest.mark.parametrize(
    "body",
    [
        b"soup",
        b"[]",
        b"{}",
        b'{"kind": "flood"}',
        b'{"kind": "hang", "method": "x"}',
        b'{"kind": "hang", "times": 0}',
        b'{"kind": "hang", "retry_delay_s": 5}',
        b'{"kind": "day_quota", "retry_delay_s": -1}',
        b'{"kind": "day_quota", "retry_delay_s": NaN}',
        b'{"kind": "safety", "text": "x"}',
    ],
)
async def test_control_explains_bad_input(http: httpx.AsyncClient, body: bytes) -> None:
    """The control API answers bad input with a 400 that says what is wrong."""
    answer = await http.post("/control/faults", content=body)

    assert (answer.status_code, bool(orjson.loads(answer.content)["error"])) == (400, True)
