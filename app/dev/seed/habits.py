"""What people order, again and again: drawn once for each person, and then day after day."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from itertools import accumulate
from random import Random
from typing import NamedTuple

from app.dev.seed.kitchens import Choice, Item, Kitchen
from app.dev.seed.menus import MAIN, SALAD, SOUP, Kind
from app.dev.seed.people import Person
from app.models import Language, MenuCategory, OrderStatus

CANCELLED_SHARE = 0.03
CHANGED_SHARE = 0.1
"""Orders that were changed once after they had been placed."""

OFF_DAY_SHARE = 0.04
"""How often people order on a weekday on which they usually do not."""

NOTE_WRITERS_SHARE = 0.2
NOTE_OF_WRITERS_SHARE = 0.6
NOTE_OF_OTHERS_SHARE = 0.02

SECOND_HELPING_SHARE = 0.12
LATEST_S, EARLIEST_S = 5 * 60, 20 * 60 * 60
"""How long before the deadline people order, in seconds."""

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
class Leaning:
    """A way of eating that many people share.

    Args:
        share: How many of 100 people eat so.
        loves: A category that is in their usual combo where one has it.
        avoids: A category that they leave out where a combo lets them.
        odds: Of a lunch with an extra of that kind.
    """

    share: int
    loves: MenuCategory | None = None
    avoids: MenuCategory | None = None
    is_vegetarian: bool = False
    odds: Mapping[Kind, float] = field(default_factory=dict)


LEANINGS = (
    Leaning(28, odds={Kind.DRINK: 0.3, Kind.SWEET: 0.1, Kind.SIDE: 0.15}),
    Leaning(18, loves=MAIN, avoids=SALAD, odds={Kind.DRINK: 0.6, Kind.SWEET: 0.75}),
    Leaning(16, loves=MAIN, odds={Kind.DRINK: 0.9, Kind.SIDE: 0.55, Kind.SWEET: 0.1}),
    Leaning(14, loves=SALAD, avoids=MAIN, odds={Kind.DRINK: 0.15, Kind.SWEET: 0.05}),
    Leaning(14, is_vegetarian=True, odds={Kind.DRINK: 0.35, Kind.SWEET: 0.3, Kind.SIDE: 0.1}),
    Leaning(10, loves=SOUP, avoids=SALAD),
)
LEANING_WEIGHTS = tuple(accumulate(leaning.share for leaning in LEANINGS))

STEADINESS = (1.0, 1.4, 1.8, 2.4)
"""Exponents of Zipf's law: of six dishes the favourite is two fifths of what the most curious eat, and three quarters of
what the steadiest do."""


class Lunch(NamedTuple):
    """One order."""

    tgid: int
    cafe_id: int
    date: dt.date
    status: OrderStatus
    combo: Choice
    notes: str
    total: Decimal
    created_at: dt.datetime
    updated_at: dt.datetime
    items: list[tuple[Item, int]]
    """Dishes and extras, with their quantities."""


class Ranked[T]:
    """Things by how much a person likes them: the favourite is drawn most often."""

    __slots__ = ("things", "weights")

    def __init__(self, things: Sequence[T], steadiness: float) -> None:
        self.things = things
        self.weights = _zipf(len(things), steadiness)

    def draw(self, dice: Random) -> T:
        return dice.choices(self.things, cum_weights=self.weights)[0]


@cache
def _zipf(count: int, exponent: float) -> tuple[float, ...]:
    return tuple(accumulate(rank**-exponent for rank in range(1, count + 1)))


class Taste:
    """What one person likes of one kitchen."""

    def __init__(self, dice: Random, leaning: Leaning, steadiness: float, kitchen: Kitchen) -> None:
        self.kitchen = kitchen
        combos = dice.sample(kitchen.combos, len(kitchen.combos))
        combos = [combo for combo in combos if leaning.avoids not in combo.categories] or combos
        combos.sort(key=lambda combo: leaning.loves not in combo.categories)
        self._combos = Ranked(combos, steadiness)
        self._dishes = {
            category: Ranked(dice.sample(eaten, len(eaten)), steadiness)
            for category, dishes in kitchen.dishes.items()
            for eaten in [_eaten(dishes, leaning)]
        }
        self._extras = [
            (odds, Ranked(dice.sample(extras, len(extras)), STEADINESS[-1]))
            for kind, odds in leaning.odds.items()
            if (extras := kitchen.extras[kind])
        ]

    def lunch(self, dice: Random) -> tuple[Choice, list[tuple[Item, int]]]:
        """Draw a combo with its dishes, and extras."""
        combo = self._combos.draw(dice)
        items = [(self._dishes[category].draw(dice), 1) for category in combo.categories]
        for odds, extras in self._extras:
            if dice.random() < odds:
                items.append((extras.draw(dice), 2 if dice.random() < SECOND_HELPING_SHARE else 1))
        return combo, items


def _eaten(dishes: Sequence[Item], leaning: Leaning) -> Sequence[Item]:
    if not leaning.is_vegetarian:
        return dishes
    return [dish for dish in dishes if dish.kind is Kind.VEGETARIAN] or dishes


class Habits:
    """How one person has lunch."""

    def __init__(self, dice: Random, person: Person, kitchens: Sequence[Kitchen]) -> None:
        """Draw them. `kitchens` are those that there are, at least one."""
        self._dice = dice
        self._person = person
        leaning = dice.choices(LEANINGS, cum_weights=LEANING_WEIGHTS)[0]
        self._weekdays = frozenset(dice.sample(range(5), dice.choice((2, 3, 4, 4, 5, 5))))
        self._regularity = dice.uniform(0.75, 1)
        self._loyalty = dice.uniform(0.75, 1)
        steadiness = dice.choice(STEADINESS)
        tastes = [Taste(dice, leaning, steadiness, kitchen) for kitchen in kitchens]
        weights = [_attraction(kitchen, person, leaning) for kitchen in kitchens]
        self._favourite = dice.choices(tastes, weights)[0]
        self._others = [taste for taste in tastes if taste is not self._favourite]
        self._note = dice.choice(NOTES[person.language]) if dice.random() < NOTE_WRITERS_SHARE else None

    def lunches(self, days: Sequence[dt.date]) -> Iterator[Lunch]:
        """Draw what this person has ordered on `days`."""
        dice = self._dice
        for day in days:
            if dice.random() < (self._regularity if day.weekday() in self._weekdays else OFF_DAY_SHARE):
                taste = self._place(day)
                if taste is not None:
                    yield self._lunch(taste, day)

    def _place(self, day: dt.date) -> Taste | None:
        is_loyal = self._dice.random() < self._loyalty
        if is_loyal and day in self._favourite.kitchen.closed_at:
            return self._favourite
        others = [taste for taste in self._others if day in taste.kitchen.closed_at]
        return self._dice.choice(others) if others else None

    def _lunch(self, taste: Taste, day: dt.date) -> Lunch:
        dice = self._dice
        combo, items = taste.lunch(dice)
        total = combo.price
        for item, quantity in items:
            if item.price is not None:
                total += item.price * quantity
        early_s = int(LATEST_S + (EARLIEST_S - LATEST_S) * dice.random())
        changed_s = 0
        is_cancelled = dice.random() < CANCELLED_SHARE
        if is_cancelled or dice.random() < CHANGED_SHARE:
            changed_s = int((early_s - LATEST_S) * dice.random())
        created_at = taste.kitchen.closed_at[day] - dt.timedelta(seconds=early_s)
        return Lunch(
            self._person.tgid,
            taste.kitchen.cafe_id,
            day,
            OrderStatus.CANCELLED if is_cancelled else OrderStatus.CONFIRMED,
            combo,
            self._notes(),
            total,
            created_at,
            created_at + dt.timedelta(seconds=changed_s) if changed_s else created_at,
            items,
        )

    def _notes(self) -> str:
        chance = self._dice.random()
        if self._note is not None:
            return self._note if chance < NOTE_OF_WRITERS_SHARE else ""
        return self._dice.choice(NOTES[self._person.language]) if chance < NOTE_OF_OTHERS_SHARE else ""


def _attraction(kitchen: Kitchen, person: Person, leaning: Leaning) -> int:
    """Tell how likely a kitchen is to be somebody's favourite."""
    speaks_the_language = kitchen.language is person.language
    suits = leaning.is_vegetarian and kitchen.is_vegetarian
    return (4 if speaks_the_language else 1) * (4 if suits else 1)
