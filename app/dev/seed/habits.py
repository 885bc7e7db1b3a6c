"""The habits of users: drawn once for each user, and then used to draw an order for each day."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from itertools import accumulate
from random import Random
from typing import NamedTuple

from app.dev.seed.cafes import DemoCafe, DemoCombo, DemoItem
from app.dev.seed.menus import MAIN, SALAD, SOUP, Kind
from app.dev.seed.users import DemoUser
from app.models import Language, MenuCategory, OrderStatus

CANCELLED_SHARE = 0.03
CHANGED_SHARE = 0.1
"""Share of orders that were changed once."""

OFF_DAY_SHARE = 0.04
"""Probability of an order on a weekday on which the user usually does not order."""

NOTE_WRITERS_SHARE = 0.2
WRITERS_NOTE_SHARE = 0.6
OTHERS_NOTE_SHARE = 0.02
"""Share of users who often write the same note, and shares of their orders and of other orders with a note."""

SECOND_HELPING_SHARE = 0.12
MIN_BEFORE_DEADLINE_S, MAX_BEFORE_DEADLINE_S = 5 * 60, 20 * 60 * 60
"""Range of the time between an order and its deadline."""

NOTES = {
    Language.EN: (
        "no onions, please",
        "allergic to nuts",
        "sauce on the side, please",
        "extra spicy",
        "I will pick it up at 1 pm",
        "no coriander",
        "gluten-free bread if you have it",
    ),
    Language.RU: (
        "без лука, пожалуйста",
        "без сметаны",
        "аллергия на орехи",
        "соус отдельно, пожалуйста",
        "поострее",
        "заберу сам в 13:00",
        "приборы не нужны",
    ),
}


@dataclass(frozen=True)
class EatingStyle:
    """Preferences that many users share.

    Args:
        share: Percentage of users with this style.
        loves: A category that their favourite combo contains, if a combo contains it.
        avoids: A category that their combos do not contain, if there are such combos.
        extra_odds: The probability that an order has an extra of this kind.
    """

    share: int
    loves: MenuCategory | None = None
    avoids: MenuCategory | None = None
    is_vegetarian: bool = False
    extra_odds: Mapping[Kind, float] = field(default_factory=dict)


EATING_STYLES = (
    EatingStyle(28, extra_odds={Kind.DRINK: 0.3, Kind.SWEET: 0.1, Kind.SIDE: 0.15}),
    EatingStyle(18, loves=MAIN, avoids=SALAD, extra_odds={Kind.DRINK: 0.6, Kind.SWEET: 0.75}),
    EatingStyle(16, loves=MAIN, extra_odds={Kind.DRINK: 0.9, Kind.SIDE: 0.55, Kind.SWEET: 0.1}),
    EatingStyle(14, loves=SALAD, avoids=MAIN, extra_odds={Kind.DRINK: 0.15, Kind.SWEET: 0.05}),
    EatingStyle(14, is_vegetarian=True, extra_odds={Kind.DRINK: 0.35, Kind.SWEET: 0.3, Kind.SIDE: 0.1}),
    EatingStyle(10, loves=SOUP, avoids=SALAD),
)
EATING_STYLE_WEIGHTS = tuple(accumulate(style.share for style in EATING_STYLES))

STEADINESS = (1.0, 1.4, 1.8, 2.4)
"""Exponents of Zipf's law. With six dishes, the favourite has two fifths of the orders at the lowest exponent, and
three quarters at the highest."""


class Lunch(NamedTuple):
    """One order."""

    tgid: int
    cafe_id: int
    date: dt.date
    status: OrderStatus
    combo: DemoCombo
    notes: str
    total: Decimal
    created_at: dt.datetime
    updated_at: dt.datetime
    items: list[tuple[DemoItem, int]]
    """Dishes and extras, with their quantities."""


class Ranking[T]:
    """Options in the order of a user's preference: the first is drawn most often."""

    __slots__ = ("options", "weights")

    def __init__(self, options: Sequence[T], steadiness: float) -> None:
        self.options = options
        self.weights = _cumulative_zipf_weights(len(options), steadiness)

    def draw(self, rng: Random) -> T:
        """Draw one option."""
        return rng.choices(self.options, cum_weights=self.weights)[0]


@cache
def _cumulative_zipf_weights(count: int, exponent: float) -> tuple[float, ...]:
    return tuple(accumulate(rank**-exponent for rank in range(1, count + 1)))


class Taste:
    """The preferences of one user for the menu of one cafe."""

    def __init__(self, rng: Random, style: EatingStyle, steadiness: float, cafe: DemoCafe) -> None:
        self.cafe = cafe
        combos = rng.sample(cafe.combos, len(cafe.combos))
        combos = [combo for combo in combos if style.avoids not in combo.categories] or combos
        combos.sort(key=lambda combo: style.loves not in combo.categories)
        self._combos = Ranking(combos, steadiness)
        self._dishes = {
            category: Ranking(rng.sample(suitable, len(suitable)), steadiness)
            for category, dishes in cafe.dishes.items()
            for suitable in [_filter_dishes(dishes, style)]
        }
        self._extras = [
            (odds, Ranking(rng.sample(extras, len(extras)), STEADINESS[-1]))
            for kind, odds in style.extra_odds.items()
            if (extras := cafe.extras[kind])
        ]

    def draw_lunch(self, rng: Random) -> tuple[DemoCombo, list[tuple[DemoItem, int]]]:
        """Draw a combo with its dishes, and extras."""
        combo = self._combos.draw(rng)
        items = [(self._dishes[category].draw(rng), 1) for category in combo.categories]
        for odds, extras in self._extras:
            if rng.random() < odds:
                items.append((extras.draw(rng), 2 if rng.random() < SECOND_HELPING_SHARE else 1))
        return combo, items


def _filter_dishes(dishes: Sequence[DemoItem], style: EatingStyle) -> Sequence[DemoItem]:
    if not style.is_vegetarian:
        return dishes
    return [dish for dish in dishes if dish.kind is Kind.VEGETARIAN] or dishes


class Habits:
    """The lunch habits of one user."""

    def __init__(self, rng: Random, user: DemoUser, cafes: Sequence[DemoCafe]) -> None:
        """Draw the habits. `cafes` contains at least one cafe."""
        self._rng = rng
        self._user = user
        style = rng.choices(EATING_STYLES, cum_weights=EATING_STYLE_WEIGHTS)[0]
        self._weekdays = frozenset(rng.sample(range(5), rng.choice((2, 3, 4, 4, 5, 5))))
        self._regularity = rng.uniform(0.75, 1)
        self._loyalty = rng.uniform(0.75, 1)
        steadiness = rng.choice(STEADINESS)
        tastes = [Taste(rng, style, steadiness, cafe) for cafe in cafes]
        weights = [_attraction(cafe, user, style) for cafe in cafes]
        self._favourite = rng.choices(tastes, weights)[0]
        self._others = [taste for taste in tastes if taste is not self._favourite]
        self._note = rng.choice(NOTES[user.language]) if rng.random() < NOTE_WRITERS_SHARE else None

    def draw_lunches(self, days: Sequence[dt.date]) -> Iterator[Lunch]:
        """Draw the user's orders on `days`."""
        rng = self._rng
        for day in days:
            if rng.random() < (self._regularity if day.weekday() in self._weekdays else OFF_DAY_SHARE):
                taste = self._draw_cafe(day)
                if taste is not None:
                    yield self._draw_lunch(taste, day)

    def _draw_cafe(self, day: dt.date) -> Taste | None:
        is_loyal = self._rng.random() < self._loyalty
        if is_loyal and day in self._favourite.cafe.closed_at:
            return self._favourite
        others = [taste for taste in self._others if day in taste.cafe.closed_at]
        return self._rng.choice(others) if others else None

    def _draw_lunch(self, taste: Taste, day: dt.date) -> Lunch:
        rng = self._rng
        combo, items = taste.draw_lunch(rng)
        total = combo.price
        for item, quantity in items:
            if item.price is not None:
                total += item.price * quantity
        early_s = int(MIN_BEFORE_DEADLINE_S + (MAX_BEFORE_DEADLINE_S - MIN_BEFORE_DEADLINE_S) * rng.random())
        changed_s = 0
        is_cancelled = rng.random() < CANCELLED_SHARE
        if is_cancelled or rng.random() < CHANGED_SHARE:
            changed_s = int((early_s - MIN_BEFORE_DEADLINE_S) * rng.random())
        created_at = taste.cafe.closed_at[day] - dt.timedelta(seconds=early_s)
        return Lunch(
            self._user.tgid,
            taste.cafe.cafe_id,
            day,
            OrderStatus.CANCELLED if is_cancelled else OrderStatus.CONFIRMED,
            combo,
            self._draw_notes(),
            total,
            created_at,
            created_at + dt.timedelta(seconds=changed_s) if changed_s else created_at,
            items,
        )

    def _draw_notes(self) -> str:
        chance = self._rng.random()
        if self._note is not None:
            return self._note if chance < WRITERS_NOTE_SHARE else ""
        return self._rng.choice(NOTES[self._user.language]) if chance < OTHERS_NOTE_SHARE else ""


def _attraction(cafe: DemoCafe, user: DemoUser, style: EatingStyle) -> int:
    """Return the weight of a cafe in the draw of the user's favourite cafe."""
    has_language = cafe.language is user.language
    suits_vegetarian = style.is_vegetarian and cafe.is_vegetarian
    return (4 if has_language else 1) * (4 if suits_vegetarian else 1)
