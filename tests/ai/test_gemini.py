"""The client of Gemini, over HTTP with Google's library: answers and errors."""

import pytest
from pydantic import SecretStr

from app.ai.gemini import (
    DayExhausted,
    Gemini,
    GeminiError,
    GeminiUnavailable,
    InvalidAnswer,
    KeyFailed,
    KeyRefused,
    MinuteExhausted,
    RequestRefused,
    Throttled,
    open_gemini,
)
from app.ai.prompts import CafeMenu, Prompt, build_prompt
from app.ai.stats import OrderStats
from app.dev.gemini.faults import FaultKind
from app.dev.ports import free_port
from app.settings import Settings
from tests.gemini_standin import GeminiStandIn

KEY = SecretStr("AIza-one")


@pytest.fixture
def prompt() -> Prompt:
    menu = [CafeMenu("Basil & Thyme", {"soup": ["Borscht", "Solyanka"], "salad": ["Vinaigrette"]})]
    return build_prompt(menu, OrderStats(orders_count=12), ["no onions"], "en")


async def test_answer_has_summary_and_tips(gemini: Gemini, prompt: Prompt) -> None:
    """An answer has a summary and one to three tips."""
    advice = await gemini.ask(KEY, prompt)

    assert advice.summary
    assert 1 <= len(advice.tips) <= 3


async def test_request_has_key_instruction_and_contents(
    gemini: Gemini, gemini_standin: GeminiStandIn, prompt: Prompt
) -> None:
    """A request contains the key of the call, the instruction, and the unchanged contents."""
    await gemini.ask(SecretStr("AQ.three"), prompt)

    [request] = gemini_standin.stand_in.requests
    assert (request.key, request.system_instruction, request.contents) == (
        "AQ.three",
        prompt.instruction,
        prompt.contents,
    )


ERRORS = [
    (FaultKind.DAY_QUOTA, DayExhausted),
    (FaultKind.MINUTE_QUOTA, MinuteExhausted),
    (FaultKind.MODEL_QUOTA, KeyRefused),
    (FaultKind.BARE_429, Throttled),
    (FaultKind.KEY_INVALID, KeyRefused),
    (FaultKind.UNAUTHENTICATED, KeyRefused),
    (FaultKind.FORBIDDEN, KeyRefused),
    (FaultKind.BAD_REQUEST, RequestRefused),
    (FaultKind.SERVER_ERROR, GeminiUnavailable),
    (FaultKind.UNAVAILABLE, GeminiUnavailable),
    (FaultKind.HTML_BAD_GATEWAY, GeminiUnavailable),
    (FaultKind.DROP, GeminiUnavailable),
    (FaultKind.BAD_JSON, GeminiUnavailable),
    (FaultKind.MAX_TOKENS, InvalidAnswer),
    (FaultKind.SAFETY, InvalidAnswer),
    (FaultKind.INVALID_ANSWER, InvalidAnswer),
    (FaultKind.EMPTY, InvalidAnswer),
]


@pytest.mark.parametrize(("kind", "expected"), ERRORS, ids=[kind.value for kind, _ in ERRORS])
async def test_error_is_translated(
    gemini: Gemini, gemini_standin: GeminiStandIn, prompt: Prompt, kind: FaultKind, expected: type[Exception]
) -> None:
    """Each error of Google becomes one of our errors, without a retry."""
    gemini_standin.fails(kind)

    with pytest.raises((KeyFailed, GeminiError)) as raised:
        await gemini.ask(KEY, prompt)

    assert type(raised.value) is expected
    assert gemini_standin.requests == 1


def test_every_fault_is_tested() -> None:
    """The list contains every fault of the stand-in except HANG, which has its own test."""
    assert {kind for kind, _ in ERRORS} == set(FaultKind) - {FaultKind.HANG}


async def test_call_without_answer_ends_after_its_timeout(
    gemini: Gemini, gemini_standin: GeminiStandIn, prompt: Prompt
) -> None:
    """A call without an answer ends after its timeout."""
    gemini_standin.fails(FaultKind.HANG)

    with pytest.raises(GeminiUnavailable):
        await gemini.ask(KEY, prompt, timeout_s=0.2)


async def test_minute_quota_error_has_googles_retry_delay(
    gemini: Gemini, gemini_standin: GeminiStandIn, prompt: Prompt
) -> None:
    """The error for an exhausted minute quota has the retry delay that Google sends."""
    gemini_standin.fails(FaultKind.MINUTE_QUOTA, retry_delay_s=12.5)

    with pytest.raises(MinuteExhausted) as raised:
        await gemini.ask(KEY, prompt)

    assert raised.value.retry_after_s == 12.5


def quota_failure(**violation: object) -> dict[str, object]:
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}


def error_info(reason: str = "RATE_LIMIT_EXCEEDED", **metadata: object) -> dict[str, object]:
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "metadata": metadata}


def retry_info(**fields: object) -> dict[str, object]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", **fields}


HELP: dict[str, object] = {
    "@type": "type.googleapis.com/google.rpc.Help",
    "links": [{"description": "Request a higher quota limit.", "url": "https://cloud.google.com/docs/quotas"}],
}
REGION = {
    "service": "generativelanguage.googleapis.com",
    "quota_location": "us-west4",
    "quota_limit_value": "0",
    "quota_limit": "GenerateContentRequestsPerMinutePerProjectPerRegion",
    "quota_metric": "generativelanguage.googleapis.com/generate_content_requests",
    "consumer": "projects/578829824020",
}
"""A region without capacity has a limit of 0 for some time; this is no limit of the model."""

MINUTE_FORMS: dict[str, list[dict[str, object]]] = {
    "quota_limit": [error_info(**REGION), HELP],
    "quota_id": [error_info(quota_id="GenerateContentInputTokensPerModelPerMinute-FreeTier")],
    "quota_unit": [error_info(quota_unit="1/min/{project}/{region}")],
    "reason": [error_info()],
    "quotaId": [quota_failure(quotaId="GenerateRequestsPerMinutePerProjectPerModel-FreeTier")],
    "quotaMetric": [quota_failure(quotaMetric="generativelanguage.googleapis.com/generate_requests_per_minute")],
    "description": [quota_failure(description="Quota exceeded for 'Generate Content API requests per minute'")],
    "quota without a period": [quota_failure(quotaMetric="generativelanguage.googleapis.com/generate_requests")],
}
DAY_FORMS: dict[str, list[dict[str, object]]] = {
    "quota_limit": [
        error_info(quota_limit="GenerateContentRequestsPerDayPerProjectPerModel"),
        retry_info(retryDelay="5s"),
    ],
    "quota_id": [error_info(quota_id="GenerateRequestsPerDayPerProjectPerModel-FreeTier"), retry_info(retryDelay="5s")],
    "quota_unit": [error_info(quota_unit="1/d/{project}")],
    "reason and quotaId": [error_info(), quota_failure(quotaId="GenerateRequestsPerDayPerProjectPerModel-FreeTier")],
    "both periods": [error_info(**REGION), quota_failure(quotaId="GenerateRequestsPerDayPerProjectPerModel-FreeTier")],
    "quotaMetric": [quota_failure(quotaMetric="generativelanguage.googleapis.com/generate_requests_per_model_per_day")],
    "description": [quota_failure(description="Quota exceeded for 'Requests per day per user per tier'")],
}


@pytest.mark.parametrize("details", MINUTE_FORMS.values(), ids=MINUTE_FORMS)
async def test_minute_quota_is_found_in_every_form(
    gemini: Gemini, gemini_standin: GeminiStandIn, prompt: Prompt, details: list[dict[str, object]]
) -> None:
    """Google names the quota of a minute in several details; without a delay the key cools down for a minute."""
    gemini_standin.fails(FaultKind.BARE_429, details=details)

    with pytest.raises(MinuteExhausted) as raised:
        await gemini.ask(KEY, prompt)

    assert raised.value.retry_after_s == 60


@pytest.mark.parametrize("details", DAY_FORMS.values(), ids=DAY_FORMS)
async def test_daily_quota_is_found_in_every_form(
    gemini: Gemini, gemini_standin: GeminiStandIn, prompt: Prompt, details: list[dict[str, object]]
) -> None:
    """Google names the quota of a day in several details, and it takes precedence."""
    gemini_standin.fails(FaultKind.BARE_429, details=details)

    with pytest.raises(DayExhausted):
        await gemini.ask(KEY, prompt)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Quota exceeded for quota metric 'Generate Content API requests per minute'.", MinuteExhausted),
        ("Quota exceeded for limit 'Gemini 2.5 Pro Requests per day per user per tier'.", DayExhausted),
        ("Too many requests.", Throttled),
    ],
)
async def test_quota_is_found_in_the_message(
    gemini: Gemini, gemini_standin: GeminiStandIn, prompt: Prompt, message: str, expected: type[Exception]
) -> None:
    """If no detail has the period of the quota, the message may have it."""
    gemini_standin.fails(FaultKind.BARE_429, message=message)

    with pytest.raises((KeyFailed, GeminiError)) as raised:
        await gemini.ask(KEY, prompt)

    assert type(raised.value) is expected


@pytest.mark.parametrize(
    "details",
    [
        [HELP],
        [error_info("SERVICE_OVERLOADED", service="generativelanguage.googleapis.com")],
        [quota_failure()],
        [{"violations": "GenerateRequestsPerDay"}],
        [{"violations": [None, 7, ["PerDay"], {"quotaId": 7}], "metadata": ["PerDay"]}],
    ],
)
async def test_429_without_a_quota_does_not_blame_the_key(
    gemini: Gemini, gemini_standin: GeminiStandIn, prompt: Prompt, details: list[dict[str, object]]
) -> None:
    """A 429 whose details name no quota is a Throttled error, with details of any shape."""
    gemini_standin.fails(FaultKind.BARE_429, details=details)

    with pytest.raises(Throttled):
        await gemini.ask(KEY, prompt)


@pytest.mark.parametrize(
    ("fields", "expected_s"),
    [
        ({"retryDelay": "0s"}, 0),
        ({"retryDelay": "0.250000001s"}, 0.250000001),
        ({"retryDelay": "-5s"}, -5),
        ({"retryDelay": f"{'9' * 400}s"}, float("inf")),
        ({"retryDelay": "soon"}, 60),
        ({"retryDelay": "1e3s"}, 60),
        ({"retryDelay": ""}, 60),
        ({"retryDelay": None}, 60),
        ({"retryDelay": {"seconds": 5}}, 60),
        ({}, 60),
    ],
)
async def test_retry_delay_may_have_any_value(
    gemini: Gemini, gemini_standin: GeminiStandIn, prompt: Prompt, fields: dict[str, object], expected_s: float
) -> None:
    """A delay is taken as it is, and an unreadable or missing one is a minute."""
    gemini_standin.fails(FaultKind.BARE_429, details=[retry_info(**fields)])

    with pytest.raises(MinuteExhausted) as raised:
        await gemini.ask(KEY, prompt)

    assert raised.value.retry_after_s == expected_s


async def test_daily_quota_error_ignores_the_retry_delay(
    gemini: Gemini, gemini_standin: GeminiStandIn, prompt: Prompt
) -> None:
    """An exhausted daily quota is a DayExhausted error, although Google also sends a short retry delay."""
    gemini_standin.stand_in.quotas.per_day = 1
    await gemini.ask(KEY, prompt)

    with pytest.raises(DayExhausted):
        await gemini.ask(KEY, prompt)


async def test_unknown_key_is_refused(gemini: Gemini, prompt: Prompt) -> None:
    """Google answers 400 for an unknown key, which is a KeyRefused error."""
    with pytest.raises(KeyRefused, match="400"):
        await gemini.ask(SecretStr("AIza-unknown"), prompt)


async def test_unknown_model_is_a_refused_request(settings_with_keys: Settings, prompt: Prompt) -> None:
    """A request for an unknown model is refused, and the key is not the cause."""
    settings = settings_with_keys.model_copy(update={"gemini_model": "gemini-0.1-nothing"})
    async with open_gemini(settings) as gemini:
        with pytest.raises(RequestRefused, match="404"):
            await gemini.ask(KEY, prompt)


async def test_unreachable_server_is_unavailable(settings: Settings, prompt: Prompt) -> None:
    """A server that does not accept connections is unavailable."""
    unreachable = settings.model_copy(update={"gemini_api_url": f"http://127.0.0.1:{free_port()}"})
    async with open_gemini(unreachable) as gemini:
        with pytest.raises(GeminiUnavailable):
            await gemini.ask(KEY, prompt)


async def test_error_text_does_not_contain_the_key(
    gemini: Gemini, gemini_standin: GeminiStandIn, prompt: Prompt
) -> None:
    """Our error texts hide the key that some of Google's errors contain."""
    gemini_standin.fails(FaultKind.FORBIDDEN)

    with pytest.raises(KeyRefused, match=r"\(the key\)") as raised:
        await gemini.ask(KEY, prompt)

    assert KEY.get_secret_value() not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    "text",
    [
        '{"summary": "", "tips": ["Try the soup."]}',
        '{"summary": "You like soup.", "tips": []}',
        '{"summary": "You like soup.", "tips": ["a", "b", "c", "d"]}',
        '{"summary": "You like soup.", "tips": [""]}',
        '{"summary": "You like soup. You like cake, too.", "tips": ["Try the salad."]}',
        '{"summary": "Вы любите суп. И торт тоже.", "tips": ["Try the salad."]}',
        '{"summary": "You like <b>soup</b>.", "tips": ["Try the salad."]}',
        '{"summary": "You like **soup**.", "tips": ["Try the salad."]}',
        '{"summary": "You like soup.", "tips": ["- Try the\\nsalad."]}',
        f'{{"summary": "{"soup " * 61}", "tips": ["Try the salad."]}}',
        f'{{"summary": "You like soup.", "tips": ["{"salad " * 51}"]}}',
        '{"summary": 5, "tips": ["Try the salad."]}',
        '["You like soup."]',
        "You like soup.",
        "```json\n{}\n```",
    ],
)
async def test_invalid_answer_is_refused(
    gemini: Gemini, gemini_standin: GeminiStandIn, prompt: Prompt, text: str
) -> None:
    """A valid answer has one sentence and one to three tips, in plain text of at most 300 characters each."""
    gemini_standin.fails(FaultKind.INVALID_ANSWER, text=text)

    with pytest.raises(InvalidAnswer):
        await gemini.ask(KEY, prompt)


@pytest.mark.parametrize(
    "summary",
    [
        "You had 22 lunches at St. Mary's and Mr. Smith's, i.e. 3.5 soups a week!",
        "За месяц вы взяли 12 обедов, в т.ч. 5 супов.",
        "  Soup & salad, mostly – 40 % each…  ",
    ],
)
async def test_abbreviations_do_not_end_the_sentence(
    gemini: Gemini, gemini_standin: GeminiStandIn, prompt: Prompt, summary: str
) -> None:
    """Abbreviations, numbers and other punctuation do not count as a second sentence."""
    gemini_standin.fails(FaultKind.INVALID_ANSWER, text=f'{{"summary": "{summary}", "tips": ["Try the salad."]}}')

    assert (await gemini.ask(KEY, prompt)).summary == summary.strip()


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        ("You like soups\u00a0a lot.", "You like soups a lot."),
        ("You like\u202fsoups\u2003a\u2028lot.", "You like soups a lot."),
        ("You like sou\u00adps\u200b a lot\ufeff.", "You like soups a lot."),
        ("\u200fYou like  soups a lot.\u2069", "You like soups a lot."),
        (" You like soups a lot.\\n", "You like soups a lot."),
    ],
)
async def test_unusual_spaces_are_normalized(
    gemini: Gemini, gemini_standin: GeminiStandIn, prompt: Prompt, summary: str, expected: str
) -> None:
    """Spaces of any kind become plain spaces, and invisible format characters are removed."""
    gemini_standin.fails(FaultKind.INVALID_ANSWER, text=f'{{"summary": "{summary}", "tips": ["Try the salad."]}}')

    assert (await gemini.ask(KEY, prompt)).summary == expected


@pytest.mark.parametrize("character", ["\\n", "\\t", "\\u0000", "\\u0085", "\\u001b"])
async def test_control_characters_are_refused(
    gemini: Gemini, gemini_standin: GeminiStandIn, prompt: Prompt, character: str
) -> None:
    """A text with a control character is not one line of plain text."""
    gemini_standin.fails(
        FaultKind.INVALID_ANSWER, text=f'{{"summary": "You like{character}soup.", "tips": ["Try the salad."]}}'
    )

    with pytest.raises(InvalidAnswer):
        await gemini.ask(KEY, prompt)
