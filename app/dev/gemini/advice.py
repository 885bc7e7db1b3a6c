"""Writes advice in place of the model. It depends only on the figures in the prompt.

`app.ai.prompts` defines the format of the prompt. A prompt in another format gets general advice.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

from pydantic import BaseModel, ValidationError

from app.ai.prompts import LANGUAGES, TIPS_MAX
from app.ai.stats import PERIOD_DAYS, FavoriteDish, OrderStats

MAX_NAME_CHARACTERS = 60
"""With three such names, the longest sentence stays within the 300 characters of a tip or a summary."""

MARKUP = frozenset("<>*_`#[]")
SENTENCE_ENDS = frozenset(".!?…")
"""A summary is one sentence, so it contains no names with these characters."""

HIGH_SHARE = 0.5
LOW_SHARE = 0.15
HIGH_EXTRAS_SHARE = 0.3
LOW_VARIETY_SHARE = 0.4
HABIT_SHARE = 1 / 3
"""Shares above or below which a tip is given."""

_MEAL = ("soup", "salad", "main")


@dataclass(frozen=True)
class Advice:
    """The answer of the model."""

    summary: str
    tips: list[str]


@dataclass(frozen=True)
class Dish:
    """A dish on today's menu."""

    name: str
    cafe: str
    category: str


@dataclass(frozen=True)
class Texts:
    """The sentences of one language."""

    categories: dict[str, str]
    nothing_known: str
    no_orders: str
    ordered: str
    mostly: str
    tried: str
    favorite: str
    mains: str
    salads: str
    soups: str
    extras: str
    habit: str
    variety: str
    change: str
    anything: str


class _Cafe(BaseModel):
    name: str
    dishes: dict[str, list[str]]


class _Menu(BaseModel):
    tag: ClassVar[str] = "menu"
    cafes: list[_Cafe]


class _UserFigures(BaseModel):
    tag: ClassVar[str] = "person"
    stats: OrderStats


ENGLISH = Texts(
    categories={"soup": "soups", "salad": "salads", "main": "mains", "extra": "extras"},
    nothing_known="I know little about your lunches yet, so here is something for everybody.",
    no_orders="In the last {days} days you have not ordered any lunch.",
    ordered="In {days} days you ordered {count} lunches",
    mostly=", most often {category} ({share}%)",
    tried=", and tried {tried} of {total} dishes",
    favorite="; your favourite is {favorite}",
    mains="Mains are {share}% of what you order: let {dish} from {cafe} stand in for one today.",
    salads="Salads are only {share}% of what you order: try {dish} from {cafe}.",
    soups="Soups are only {share}% of what you order: begin your lunch with {dish} from {cafe}.",
    extras="Extras are {share}% of what you order: have fewer of them, and {dish} from {cafe} instead.",
    habit="{favorite} has been on your table {count} times: today {dish} from {cafe} would be a change.",
    variety="You have tried {tried} of {total} dishes: {dish} from {cafe} is not among your usual ones.",
    change="For a change, take {dish} from {cafe} today.",
    anything="Have a soup or a salad beside the main, and something that you have not tried yet.",
)

RUSSIAN = Texts(
    categories={"soup": "супы", "salad": "салаты", "main": "горячее", "extra": "дополнения"},
    nothing_known="О ваших обедах пока известно мало, поэтому вот совет для всех.",
    no_orders="За последние {days} дней вы не заказали ни одного обеда.",
    ordered="За последние {days} дней заказов: {count}",
    mostly=", чаще всего это {category} ({share}%)",
    tried=", разных блюд — {tried} из {total}",
    favorite="; любимое блюдо — «{favorite}»",
    mains="Горячее — {share}% ваших заказов: возьмите сегодня вместо него «{dish}» ({cafe}).",
    salads="Салатов у вас только {share}%: попробуйте «{dish}» ({cafe}).",
    soups="Супов у вас только {share}%: начните обед с блюда «{dish}» ({cafe}).",
    extras="Дополнения — {share}% ваших заказов: берите их реже, а сегодня выберите «{dish}» ({cafe}).",
    habit="Чаще всего вы берёте «{favorite}» (порций: {count}): «{dish}» ({cafe}) внесёт разнообразие.",
    variety="Вы попробовали {tried} из {total} блюд: «{dish}» ({cafe}) — не из ваших обычных.",
    change="Для разнообразия возьмите сегодня «{dish}» ({cafe}).",
    anything="Возьмите к горячему суп или салат и что-нибудь, чего вы ещё не пробовали.",
)


def advise(contents: str) -> Advice:
    """Return advice for a prompt, in its language."""
    texts = RUSSIAN if contents.rstrip().endswith(f"Answer in {LANGUAGES['ru']}.") else ENGLISH
    figures = _extract_tag(contents, _UserFigures.tag)
    try:
        stats = _UserFigures.model_validate_json(figures).stats
        menu = _Menu.model_validate_json(_extract_tag(contents, _Menu.tag))
    except ValidationError:
        return Advice(texts.nothing_known, [texts.anything])
    dishes = list(_find_new_dishes(menu, stats))
    tips = list(islice(_format_tips(stats, dishes, texts, seed=zlib.crc32(figures.encode())), TIPS_MAX))
    return Advice(_format_summary(stats, texts), tips or [texts.anything])


def _extract_tag(contents: str, tag: str) -> str:
    return contents.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]


def _find_new_dishes(menu: _Menu, stats: OrderStats) -> Iterator[Dish]:
    """Yield today's dishes that are not favourites of the user."""
    favorites = {_shorten(dish.name).casefold() for dish in stats.favorite_dishes}
    for cafe in menu.cafes:
        for category, names in cafe.dishes.items():
            for name in map(_shorten, names):
                if _is_plain_text(name) and _is_plain_text(cafe.name) and name.casefold() not in favorites:
                    yield Dish(name, _shorten(cafe.name), category.lower())


def _shorten(name: str) -> str:
    """Return the name on one line, with at most MAX_NAME_CHARACTERS."""
    name = " ".join(name.split())
    return name if len(name) <= MAX_NAME_CHARACTERS else f"{name[: MAX_NAME_CHARACTERS - 1].rstrip()}…"


def _is_plain_text(name: str) -> bool:
    """Whether the name has no markup and no invisible characters."""
    name = _shorten(name)
    return bool(name) and name.isprintable() and not set(name) & MARKUP


def _find_favorite(stats: OrderStats) -> FavoriteDish | None:
    first = next(iter(stats.favorite_dishes), None)
    return FavoriteDish(name=_shorten(first.name), count=first.count) if first and _is_plain_text(first.name) else None


def _format_summary(stats: OrderStats, texts: Texts) -> str:
    if not stats.orders_count:
        return texts.no_orders.format(days=PERIOD_DAYS)
    category, share = max(stats.categories.model_dump().items(), key=lambda item: item[1])
    summary = texts.ordered.format(days=PERIOD_DAYS, count=stats.orders_count)
    if share:
        summary += texts.mostly.format(category=texts.categories[category], share=_percent(share))
    if stats.total_dishes_available:
        summary += texts.tried.format(tried=stats.unique_dishes, total=stats.total_dishes_available)
    favorite = _find_favorite(stats)
    if favorite and not set(favorite.name) & SENTENCE_ENDS:
        summary += texts.favorite.format(favorite=favorite.name)
    return f"{summary}."


def _format_tips(stats: OrderStats, dishes: list[Dish], texts: Texts, seed: int) -> Iterator[str]:
    """Yield tips, the most important first. Each recommends another dish."""
    unused = list(dishes)
    for sentence, categories, figures in [*_find_reasons(stats, texts), (texts.change, _MEAL, {})]:
        candidates = [dish for dish in unused if dish.category in categories]
        if candidates:
            dish = candidates[seed % len(candidates)]
            unused.remove(dish)
            yield sentence.format(dish=dish.name, cafe=dish.cafe, **figures)


type Reason = tuple[str, tuple[str, ...], dict[str, str | int]]
"""A sentence, the categories of its dish, and its figures."""


def _find_reasons(stats: OrderStats, texts: Texts) -> Iterator[Reason]:
    shares = stats.categories
    if not stats.orders_count:
        return
    if shares.main >= HIGH_SHARE:
        lighter = "salad" if shares.salad <= shares.soup else "soup"
        yield texts.mains, (lighter,), {"share": _percent(shares.main)}
    elif shares.salad < LOW_SHARE:
        yield texts.salads, ("salad",), {"share": _percent(shares.salad)}
    if shares.soup < LOW_SHARE:
        yield texts.soups, ("soup",), {"share": _percent(shares.soup)}
    if shares.extra > HIGH_EXTRAS_SHARE:
        yield texts.extras, _MEAL, {"share": _percent(shares.extra)}
    favorite = _find_favorite(stats)
    if favorite and favorite.count >= stats.orders_count * HABIT_SHARE:
        yield texts.habit, _MEAL, {"favorite": favorite.name, "count": favorite.count}
    if stats.unique_dishes < stats.total_dishes_available * LOW_VARIETY_SHARE:
        yield texts.variety, _MEAL, {"tried": stats.unique_dishes, "total": stats.total_dishes_available}


def _percent(share: float) -> int:
    return round(share * 100)
