"""Asking Gemini, over HTTP with Google's library: what each of its answers means for us."""

import pytest
from pydantic import SecretStr

from app.ai.gemini import (
    Away,
    DayExhausted,
    Gemini,
    KeyFailed,
    KeyRefused,
    MinuteExhausted,
    NotAnswered,
    Refused,
    Unfit,
    open_gemini,
)
from app.ai.prompts import Cafe, Prompt, prompt
from app.ai.stats import OrderStats
from app.dev.gemini.faults import FaultKind
from app.settings import Settings
from tests.conftest import free_port
from tests.google import Google

KEY = SecretStr("AIza-one")


@pytest.fixture
def question() -> Prompt:
    menu = [Cafe("Basil & Thyme", {"soup": ["Borscht", "Solyanka"], "salad": ["Vinaigrette"]})]
    return prompt(menu, OrderStats(orders_count=12), ["no onions"], "en")


async def test_an_answer(gemini: Gemini, question: Prompt) -> None:
    """There is a summary, and from one to three tips."""
    advice = await gemini.ask(KEY, question)

    assert advice.summary
    assert 1 <= len(advice.tips) <= 3


async def test_what_gemini_is_sent(gemini: Gemini, google: Google, question: Prompt) -> None:
    """The key of the call, the instruction, and the contents as they are."""
    await gemini.ask(SecretStr("AQ.three"), question)

    [request] = google.stand_in.requests
    assert (request.key, request.system_instruction, request.contents) == (
        "AQ.three",
        question.instruction,
        question.contents,
    )


MEANINGS = [
    (FaultKind.DAY_QUOTA, DayExhausted),
    (FaultKind.MINUTE_QUOTA, MinuteExhausted),
    (FaultKind.MODEL_QUOTA, KeyRefused),
    (FaultKind.BARE_429, Away),
    (FaultKind.KEY_INVALID, KeyRefused),
    (FaultKind.UNAUTHENTICATED, KeyRefused),
    (FaultKind.FORBIDDEN, KeyRefused),
    (FaultKind.BAD_REQUEST, Refused),
    (FaultKind.SERVER_ERROR, Away),
    (FaultKind.UNAVAILABLE, Away),
    (FaultKind.HTML_BAD_GATEWAY, Away),
    (FaultKind.DROP, Away),
    (FaultKind.BAD_JSON, Away),
    (FaultKind.MAX_TOKENS, Unfit),
    (FaultKind.SAFETY, Unfit),
    (FaultKind.INVALID_ANSWER, Unfit),
    (FaultKind.EMPTY, Unfit),
]


@pytest.mark.parametrize(("kind", "meaning"), MEANINGS, ids=[kind.value for kind, _ in MEANINGS])
async def test_what_an_error_means(
    gemini: Gemini, google: Google, question: Prompt, kind: FaultKind, meaning: type[Exception]
) -> None:
    """Whether the key is to blame, the request, or nobody; and it is asked once, whatever comes."""
    google.fails(kind)

    with pytest.raises((KeyFailed, NotAnswered)) as raised:
        await gemini.ask(KEY, question)

    assert type(raised.value) is meaning
    assert google.requests == 1


def test_every_error_is_tried() -> None:
    """What the stand-in can do is in the list, and silence has a test of its own."""
    assert {kind for kind, _ in MEANINGS} == set(FaultKind) - {FaultKind.HANG}


async def test_silence(gemini: Gemini, google: Google, question: Prompt) -> None:
    """A call ends when its time is over."""
    google.fails(FaultKind.HANG)

    with pytest.raises(Away):
        await gemini.ask(KEY, question, timeout_s=0.2)


async def test_how_long_a_key_rests(gemini: Gemini, google: Google, question: Prompt) -> None:
    """For a minute's quota, as long as Google says."""
    google.fails(FaultKind.MINUTE_QUOTA, retry_delay_s=12.5)

    with pytest.raises(MinuteExhausted) as raised:
        await gemini.ask(KEY, question)

    assert raised.value.retry_after_s == 12.5


async def test_a_real_quota_of_a_day(gemini: Gemini, google: Google, question: Prompt) -> None:
    """What the day's quota says about when to try again is not believed."""
    google.stand_in.quotas.per_day = 1
    await gemini.ask(KEY, question)

    with pytest.raises(DayExhausted):
        await gemini.ask(KEY, question)


async def test_an_unknown_key(gemini: Gemini, question: Prompt) -> None:
    """Google says 400, and means the key."""
    with pytest.raises(KeyRefused, match="400"):
        await gemini.ask(SecretStr("AIza-nobodys"), question)


async def test_an_unknown_model(settings_with_keys: Settings, question: Prompt) -> None:
    """That is our mistake, and no key's."""
    settings = settings_with_keys.model_copy(update={"gemini_model": "gemini-0.1-nothing"})
    async with open_gemini(settings) as gemini:
        with pytest.raises(Refused, match="404"):
            await gemini.ask(KEY, question)


async def test_nobody_at_the_address(settings: Settings, question: Prompt) -> None:
    """It may come back."""
    elsewhere = settings.model_copy(update={"gemini_api_url": f"http://127.0.0.1:{free_port()}"})
    async with open_gemini(elsewhere) as gemini:
        with pytest.raises(Away):
            await gemini.ask(KEY, question)


async def test_an_error_does_not_name_the_key(gemini: Gemini, google: Google, question: Prompt) -> None:
    """Google does so in some of them; ours go into logs and onto dashboards."""
    google.fails(FaultKind.FORBIDDEN)

    with pytest.raises(KeyRefused, match=r"\(the key\)") as raised:
        await gemini.ask(KEY, question)

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
async def test_an_answer_that_does_not_fit(gemini: Gemini, google: Google, question: Prompt, text: str) -> None:
    """One sentence, one to three tips, at most 300 characters each, plain text: nothing else is a recommendation."""
    google.fails(FaultKind.INVALID_ANSWER, text=text)

    with pytest.raises(Unfit):
        await gemini.ask(KEY, question)


@pytest.mark.parametrize(
    "summary",
    [
        "You had 22 lunches at St. Mary's and Mr. Smith's, i.e. 3.5 soups a week!",
        "За месяц вы взяли 12 обедов, в т.ч. 5 супов.",
        "  Soup & salad, mostly – 40 % each…  ",
    ],
)
async def test_an_answer_that_fits(gemini: Gemini, google: Google, question: Prompt, summary: str) -> None:
    """Abbreviations, figures and other punctuation make no second sentence."""
    google.fails(FaultKind.INVALID_ANSWER, text=f'{{"summary": "{summary}", "tips": ["Try the salad."]}}')

    assert (await gemini.ask(KEY, question)).summary == summary.strip()
