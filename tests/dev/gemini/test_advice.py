"""The advice that answers the prompts of `app.ai.prompts`."""

from collections.abc import Sequence

import pytest

from app.ai.prompts import SUMMARY_MAX_CHARACTERS, TIP_MAX_CHARACTERS, TIPS_MAX, Advice, CafeMenu
from app.ai.stats import CategoryShares, FavoriteDish, OrderStats
from tests.dev.gemini.conftest import DISHES, World


def create_stats(
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


@pytest.mark.parametrize(
    "contents", ["Hello", "<menu></menu><person>{}</person>", "<person>\ud83c\udf72</person><menu>"]
)
async def test_prompt_in_another_format_is_answered(world: World, contents: str) -> None:
    """A prompt without tags, or with invalid data in them, gets general advice."""
    contents = contents.encode("utf-16", "surrogatepass").decode("utf-16")
    answer = await world.ask(contents, response_mime_type="application/json", response_json_schema={"type": "object"})

    assert Advice.model_validate_json(answer.text or "").tips


@pytest.mark.parametrize("language", ["en", "ru"])
@pytest.mark.parametrize(
    "stats",
    [
        create_stats(main=0.7, soup=0.2, salad=0.05, extra=0.05, favorites=["Lasagne"]),
        create_stats(main=0.3, soup=0.3, salad=0.3, extra=0.1, favorites=["Борщ", "Greek salad"]),
        create_stats(main=0.2, soup=0.1, salad=0.1, extra=0.6, unique=5),
        OrderStats(),
    ],
    ids=["mains", "balanced", "extras", "nothing ordered"],
)
async def test_advice_keeps_its_limits(world: World, stats: OrderStats, language: str) -> None:
    """Advice keeps its limits, is plain text, and each tip names a dish of today that is not a favourite."""
    advice = await world.get_advice(stats, language)

    favorites = {favorite.name for favorite in stats.favorite_dishes}
    assert 0 < len(advice.summary) <= SUMMARY_MAX_CHARACTERS
    assert 1 <= len(advice.tips) <= TIPS_MAX
    for tip in advice.tips:
        assert len(tip) <= TIP_MAX_CHARACTERS
        assert any(dish in tip for dish in DISHES - favorites)
    assert not set("<>{}*#\n") & set("".join([advice.summary, *advice.tips]))


async def test_advice_is_in_russian(world: World) -> None:
    """A prompt for Russian gets advice in Russian."""
    advice = await world.get_advice(create_stats(main=0.9, salad=0.1), "ru")

    assert advice.summary.startswith("За последние 30 дней")
    assert advice.tips[0].startswith("Горячее — 90% ваших заказов")


async def test_many_mains_give_a_tip_for_a_salad(world: World) -> None:
    """A user with many mains gets a tip that names a salad."""
    advice = await world.get_advice(create_stats(main=0.8, soup=0.2, favorites=["Greek salad"]))

    assert any(salad in advice.tips[0] for salad in ("Caesar salad", "Винегрет"))


async def test_low_variety_gives_a_tip(world: World) -> None:
    """A user with few different dishes gets a tip with their number."""
    advice = await world.get_advice(create_stats(main=0.4, soup=0.3, salad=0.3, unique=4))

    assert advice.tips[0].startswith("You have tried 4 of 40 dishes")


async def test_advice_is_deterministic(world: World) -> None:
    """The same figures give the same advice."""
    stats = create_stats(main=0.8, soup=0.2)

    assert await world.get_advice(stats) == await world.get_advice(stats)


async def test_advice_differs_between_users(world: World) -> None:
    """Different figures give different advice."""
    answers = [
        await world.get_advice(create_stats(main=share / 100, soup=1 - share / 100)) for share in range(10, 100, 10)
    ]

    assert len({advice.model_dump_json() for advice in answers}) == len(answers)


async def test_long_names_are_shortened(world: World) -> None:
    """The longest names of the database do not make advice too long."""
    long = [CafeMenu("К" * 255, {kind: [kind * 50, f"{kind}\n" * 50] for kind in ("soup", "salad", "main")})]
    advice = await world.get_advice(create_stats(main=0.8, extra=0.2, favorites=["Б" * 255]), menu=long)

    assert max(len(text) for text in [advice.summary, *advice.tips]) <= TIP_MAX_CHARACTERS


@pytest.mark.parametrize(
    "name", ["Dr. Pepper! Cold?", "<b>Soup</b>", "**Best** {dish}", "Soup\u200b\nof the day", "Суп… дня."]
)
@pytest.mark.parametrize("language", ["en", "ru"])
async def test_special_characters_in_names_keep_advice_valid(world: World, name: str, language: str) -> None:
    """Advice stays plain text with a summary of one sentence, whatever the names of dishes and cafes."""
    menu = [CafeMenu(name, {"soup": [f"{name} 1"]}), CafeMenu("Green Fork", {"soup": [f"{name} 2", "Lentil soup"]})]

    assert (await world.get_advice(create_stats(main=0.5, salad=0.5, favorites=[name]), language, menu)).tips


@pytest.mark.parametrize("menu", [[], [CafeMenu("Empty", {"soup": [], "main": [" "]})]])
async def test_advice_without_a_menu(world: World, menu: list[CafeMenu]) -> None:
    """An empty menu gives one tip."""
    assert len((await world.get_advice(create_stats(main=0.8), menu=menu)).tips) == 1
