"""What the stand-in says in place of the model: advice that follows from the figures, the same for the same person.

It reads the prompt as `app.ai.prompts` writes it. A prompt of another kind gets advice that fits everybody.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

from pydantic import BaseModel, ValidationError

from app.ai.prompts import LANGUAGES, TIPS_MAX
from app.ai.stats import PERIOD_DAYS, FavoriteDish, OrderStats

NAME_CHARACTERS = 60
"""Three names and the longest sentence around them stay within the 300 characters of a tip or a summary."""

MARKUP = frozenset("<>*_`#[]")
SENTENCE_ENDS = frozenset(".!?…")
"""A summary is one sentence: names that would end it are not in it."""

MUCH = 0.5
LITTLE = 0.15
MANY_EXTRAS = 0.3
LITTLE_VARIETY = 0.4
FAVORITE_IS_HABIT = 1 / 3
"""From which share on something is worth a tip."""

_MEAL = ("soup", "salad", "main")


@dataclass(frozen=True)
class Advice:
    """What the model says."""

    summary: str
    tips: list[str]


@dataclass(frozen=True)
class Dish:
    """Something on today's menu."""

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


class _Person(BaseModel):
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
    """Answer a prompt, in its language."""
    texts = RUSSIAN if contents.rstrip().endswith(f"Answer in {LANGUAGES['ru']}.") else ENGLISH
    fenced = _fenced(contents, _Person.tag)
    try:
        stats = _Person.model_validate_json(fenced).stats
        menu = _Menu.model_validate_json(_fenced(contents, _Menu.tag))
    except ValidationError:
        return Advice(texts.nothing_known, [texts.anything])
    dishes = list(_unfamiliar(menu, stats))
    tips = list(islice(_tips(stats, dishes, texts, seed=zlib.crc32(fenced.encode())), TIPS_MAX))
    return Advice(_summary(stats, texts), tips or [texts.anything])


def _fenced(contents: str, tag: str) -> str:
    return contents.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]


def _unfamiliar(menu: _Menu, stats: OrderStats) -> Iterator[Dish]:
    """Today's dishes that are none of the person's favourites."""
    favorites = {_plain(dish.name).casefold() for dish in stats.favorite_dishes}
    for cafe in menu.cafes:
        for category, names in cafe.dishes.items():
            for name in map(_plain, names):
                if _can_be_said(name) and _can_be_said(cafe.name) and name.casefold() not in favorites:
                    yield Dish(name, _plain(cafe.name), category.lower())


def _plain(name: str) -> str:
    """A name on one line."""
    name = " ".join(name.split())
    return name if len(name) <= NAME_CHARACTERS else f"{name[: NAME_CHARACTERS - 1].rstrip()}…"


def _can_be_said(name: str) -> bool:
    """Whether a text with this name in it is plain: without markup, and nothing that cannot be seen."""
    name = _plain(name)
    return bool(name) and name.isprintable() and not set(name) & MARKUP


def _favorite(stats: OrderStats) -> FavoriteDish | None:
    first = next(iter(stats.favorite_dishes), None)
    return FavoriteDish(name=_plain(first.name), count=first.count) if first and _can_be_said(first.name) else None


def _summary(stats: OrderStats, texts: Texts) -> str:
    if not stats.orders_count:
        return texts.no_orders.format(days=PERIOD_DAYS)
    category, share = max(stats.categories.model_dump().items(), key=lambda item: item[1])
    summary = texts.ordered.format(days=PERIOD_DAYS, count=stats.orders_count)
    if share:
        summary += texts.mostly.format(category=texts.categories[category], share=_percent(share))
    if stats.total_dishes_available:
        summary += texts.tried.format(tried=stats.unique_dishes, total=stats.total_dishes_available)
    favorite = _favorite(stats)
    if favorite and not set(favorite.name) & SENTENCE_ENDS:
        summary += texts.favorite.format(favorite=favorite.name)
    return f"{summary}."


def _tips(stats: OrderStats, dishes: list[Dish], texts: Texts, seed: int) -> Iterator[str]:
    """What there is to say, with a dish for each that no other tip has; the most important first."""
    left = list(dishes)
    for sentence, categories, figures in [*_reasons(stats, texts), (texts.change, _MEAL, {})]:
        fitting = [dish for dish in left if dish.category in categories]
        if fitting:
            dish = fitting[seed % len(fitting)]
            left.remove(dish)
            yield sentence.format(dish=dish.name, cafe=dish.cafe, **figures)


type Reason = tuple[str, tuple[str, ...], dict[str, str | int]]
"""A sentence, the categories from which its dish may come, and its figures."""


def _reasons(stats: OrderStats, texts: Texts) -> Iterator[Reason]:
    shares = stats.categories
    if not stats.orders_count:
        return
    if shares.main >= MUCH:
        lighter = "salad" if shares.salad <= shares.soup else "soup"
        yield texts.mains, (lighter,), {"share": _percent(shares.main)}
    elif shares.salad < LITTLE:
        yield texts.salads, ("salad",), {"share": _percent(shares.salad)}
    if shares.soup < LITTLE:
        yield texts.soups, ("soup",), {"share": _percent(shares.soup)}
    if shares.extra > MANY_EXTRAS:
        yield texts.extras, _MEAL, {"share": _percent(shares.extra)}
    favorite = _favorite(stats)
    if favorite and favorite.count >= stats.orders_count * FAVORITE_IS_HABIT:
        yield texts.habit, _MEAL, {"favorite": favorite.name, "count": favorite.count}
    if stats.unique_dishes < stats.total_dishes_available * LITTLE_VARIETY:
        yield texts.variety, _MEAL, {"tried": stats.unique_dishes, "total": stats.total_dishes_available}


def _percent(share: float) -> int:
    return round(share * 100)
