"""The demo's cafes, menus and deadlines, as plain data."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum, auto

from app.models import Cafe, Combo, Deadline, Language, MenuCategory, MenuItem

SOUP, SALAD, MAIN = MenuCategory.SOUP, MenuCategory.SALAD, MenuCategory.MAIN
WORKDAYS = range(5)


class Kind(Enum):
    """A property of a dish or an extra that users choose by, in addition to its category."""

    MEAT = auto()
    VEGETARIAN = auto()
    DRINK = auto()
    SWEET = auto()
    SIDE = auto()


@dataclass(frozen=True)
class Offer:
    """A dish, or an extra with its price."""

    name: str
    description: str
    kind: Kind
    price: str | None = None


@dataclass(frozen=True)
class ComboOffer:
    """A combo and its price."""

    name: str
    price: str
    categories: tuple[MenuCategory, ...]


@dataclass(frozen=True)
class Menu:
    """A cafe with its menu and its deadlines from Monday to Friday."""

    cafe: str
    description: str
    timezone: str
    soups: tuple[Offer, ...]
    salads: tuple[Offer, ...]
    mains: tuple[Offer, ...]
    extras: tuple[Offer, ...]
    combos: tuple[ComboOffer, ...]
    deadline: dt.time
    advance_days: int
    language: Language = Language.EN
    exceptions: Mapping[int, tuple[dt.time, int]] = field(default_factory=dict)
    """Weekdays with another deadline: its time, and the number of days before delivery."""

    @property
    def offers(self) -> tuple[Offer, ...]:
        return self.soups + self.salads + self.mains + self.extras

    def new_cafe(self) -> Cafe:
        """Create the row of the cafe."""
        return Cafe(name=self.cafe, description=self.description, timezone=self.timezone, language=self.language)

    def new_rows(self, cafe_id: int) -> list[MenuItem | Combo | Deadline]:
        """Create the rows of the menu and of the deadlines."""
        by_category = {
            SOUP: self.soups,
            SALAD: self.salads,
            MAIN: self.mains,
            MenuCategory.EXTRA: self.extras,
        }
        items = [
            MenuItem(
                cafe_id=cafe_id,
                name=offer.name,
                description=offer.description,
                category=category,
                price=None if offer.price is None else Decimal(offer.price),
            )
            for category, offers in by_category.items()
            for offer in offers
        ]
        combos = [
            Combo(cafe_id=cafe_id, name=combo.name, categories=list(combo.categories), price=Decimal(combo.price))
            for combo in self.combos
        ]
        return [*items, *combos, *(self._deadline(cafe_id, weekday) for weekday in WORKDAYS)]

    def _deadline(self, cafe_id: int, weekday: int) -> Deadline:
        time, advance_days = self.exceptions.get(weekday, (self.deadline, self.advance_days))
        return Deadline(cafe_id=cafe_id, weekday=weekday, deadline_time=time, advance_days=advance_days)


BASIL_AND_THYME = Menu(
    cafe="Basil & Thyme",
    description="Salads and soups.",
    timezone="Europe/Berlin",
    soups=(
        Offer("Tomato soup", "Roasted tomatoes, basil oil.", Kind.VEGETARIAN),
        Offer("Chicken noodle soup", "The one that helps against a cold.", Kind.MEAT),
        Offer("Pumpkin cream soup", "With toasted seeds.", Kind.VEGETARIAN),
        Offer("Goulash soup", "Beef, paprika, a slice of rye bread.", Kind.MEAT),
        Offer("Lentil soup", "Red lentils, cumin, lemon.", Kind.VEGETARIAN),
    ),
    salads=(
        Offer("Greek salad", "Feta, olives, cucumber, red onion.", Kind.VEGETARIAN),
        Offer("Caesar salad", "Chicken, parmesan, croutons.", Kind.MEAT),
        Offer("Tuna salad", "Tuna, egg, green beans.", Kind.MEAT),
        Offer("Caprese", "Mozzarella, tomatoes & basil.", Kind.VEGETARIAN),
        Offer("Carrot and apple salad", "With walnuts.", Kind.VEGETARIAN),
        Offer("Potato salad", "As in Swabia: with broth, not mayonnaise.", Kind.VEGETARIAN),
    ),
    mains=(
        Offer("Chicken schnitzel", "With lemon and parsley potatoes.", Kind.MEAT),
        Offer("Spaghetti bolognese", "Beef ragù that simmered for three hours.", Kind.MEAT),
        Offer("Penne al pesto", "Basil from our own roof.", Kind.VEGETARIAN),
        Offer("Salmon with dill rice", "Fried on the skin.", Kind.MEAT),
        Offer("Beef burger & fries", "180 g, cheddar, pickles.", Kind.MEAT),
        Offer("Vegetable lasagne", "Aubergine, courgette, ricotta.", Kind.VEGETARIAN),
        Offer("Käsespätzle", "Three cheeses, fried onions.", Kind.VEGETARIAN),
    ),
    extras=(
        Offer("Still water", "0.5 l", Kind.DRINK, "1.80"),
        Offer("Cola", "0.33 l", Kind.DRINK, "2.50"),
        Offer("Rhubarb spritzer", "0.4 l", Kind.DRINK, "3.20"),
        Offer("Garlic bread", "Two slices.", Kind.SIDE, "2.90"),
        Offer("Chocolate brownie", "With sea salt.", Kind.SWEET, "3.40"),
        Offer("Apple strudel", "With vanilla sauce.", Kind.SWEET, "3.90"),
        Offer("Fruit cup", "What the market had.", Kind.SWEET, "2.70"),
    ),
    combos=(
        ComboOffer("Full lunch", "12.90", (SOUP, SALAD, MAIN)),
        ComboOffer("Soup & main", "10.90", (SOUP, MAIN)),
        ComboOffer("Soup & salad", "8.50", (SOUP, SALAD)),
    ),
    deadline=dt.time(17, 0),
    advance_days=1,
)

PELMENNAYA = Menu(
    cafe="Пельменная №1",
    description="Домашние обеды.",
    timezone="Europe/Moscow",
    language=Language.RU,
    soups=(
        Offer("Борщ", "Со сметаной и пампушкой.", Kind.MEAT),
        Offer("Солянка мясная", "С оливками и лимоном.", Kind.MEAT),
        Offer("Щи постные", "Из квашеной капусты.", Kind.VEGETARIAN),
        Offer("Грибной суп", "Белые грибы, перловка.", Kind.VEGETARIAN),
        Offer("Уха", "Судак, картофель, укроп.", Kind.MEAT),
        Offer("Окрошка на квасе", "С говядиной, подаётся холодной.", Kind.MEAT),
    ),
    salads=(
        Offer("Винегрет", "С хрустящей капустой.", Kind.VEGETARIAN),
        Offer("Оливье", "С докторской колбасой.", Kind.MEAT),
        Offer("Сельдь под шубой", "По-домашнему.", Kind.MEAT),
        Offer("Салат «Витаминный»", "Капуста, морковь, яблоко.", Kind.VEGETARIAN),
        Offer("Салат из свёклы с чесноком", "С грецким орехом.", Kind.VEGETARIAN),
    ),
    mains=(
        Offer("Пельмени домашние", "Свинина и говядина, 250 г.", Kind.MEAT),
        Offer("Котлета по-киевски", "С картофельным пюре.", Kind.MEAT),
        Offer("Бефстроганов", "С гречкой.", Kind.MEAT),
        Offer("Вареники с картошкой", "С жареным луком.", Kind.VEGETARIAN),
        Offer("Плов", "С бараниной и барбарисом.", Kind.MEAT),
        Offer("Голубцы", "В сметанном соусе.", Kind.MEAT),
        Offer("Драники", "С грибным соусом.", Kind.VEGETARIAN),
        Offer("Рыба под маринадом", "Минтай, морковь, лук.", Kind.MEAT),
    ),
    extras=(
        Offer("Морс клюквенный", "0,3 л", Kind.DRINK, "90.00"),
        Offer("Компот из сухофруктов", "0,3 л", Kind.DRINK, "70.00"),
        Offer("Хлеб бородинский", "Два кусочка.", Kind.SIDE, "25.00"),
        Offer("Сметана", "50 г", Kind.SIDE, "40.00"),
        Offer("Пирожок с капустой", "Из печи.", Kind.SIDE, "75.00"),
        Offer("Сырники", "Со сгущёнкой.", Kind.SWEET, "160.00"),
        Offer("Медовик", "Кусочек, 120 г.", Kind.SWEET, "190.00"),
    ),
    combos=(
        ComboOffer("Комплексный обед", "450.00", (SOUP, SALAD, MAIN)),
        ComboOffer("Первое и второе", "390.00", (SOUP, MAIN)),
        ComboOffer("Второе с салатом", "370.00", (SALAD, MAIN)),
    ),
    deadline=dt.time(10, 30),
    advance_days=0,
)

GREEN_FORK = Menu(
    cafe="Green Fork",
    description="Vegetarian.",
    timezone="America/New_York",
    soups=(
        Offer("Miso soup", "Silken tofu, wakame.", Kind.VEGETARIAN),
        Offer("Corn chowder", "Sweet corn, oat cream.", Kind.VEGETARIAN),
        Offer("Black bean soup", "Lime, coriander.", Kind.VEGETARIAN),
        Offer("Minestrone", "Whatever is in season.", Kind.VEGETARIAN),
    ),
    salads=(
        Offer("Kale and quinoa salad", "Cranberries, almonds.", Kind.VEGETARIAN),
        Offer("Cobb salad with tofu", "Avocado, egg, blue cheese.", Kind.VEGETARIAN),
        Offer("Beet and goat cheese salad", "Candied pecans.", Kind.VEGETARIAN),
        Offer("Waldorf salad", "Apple, celery, walnuts.", Kind.VEGETARIAN),
    ),
    mains=(
        Offer("Falafel bowl", "Hummus, pickled turnip, tahini.", Kind.VEGETARIAN),
        Offer("Mushroom risotto", "Cremini & porcini.", Kind.VEGETARIAN),
        Offer("Chickpea curry", "Spinach, basmati rice.", Kind.VEGETARIAN),
        Offer("Eggplant parmigiana", "Baked, never fried.", Kind.VEGETARIAN),
        Offer("Bean burrito", "Pico de gallo, guacamole.", Kind.VEGETARIAN),
        Offer("Pad thai with tofu", "Peanuts, lime, <spicy> on request.", Kind.VEGETARIAN),
    ),
    extras=(
        Offer("Iced tea", "16 oz, unsweetened.", Kind.DRINK, "2.75"),
        Offer("Kombucha", "12 oz, ginger.", Kind.DRINK, "4.50"),
        Offer("Sweet potato fries", "With chipotle dip.", Kind.SIDE, "4.25"),
        Offer("Oatmeal cookie", "Raisins.", Kind.SWEET, "2.50"),
        Offer("Vegan cheesecake", "Cashews, blueberries.", Kind.SWEET, "5.95"),
    ),
    combos=(
        ComboOffer("Bowl & greens", "14.50", (SALAD, MAIN)),
        ComboOffer("Light lunch", "11.25", (SOUP, SALAD)),
        ComboOffer("Just a main", "10.00", (MAIN,)),
    ),
    deadline=dt.time(10, 30),
    advance_days=0,
    exceptions={0: (dt.time(17, 0), 3)},
)

MENUS = (BASIL_AND_THYME, PELMENNAYA, GREEN_FORK)

KINDS = {offer.name: offer.kind for menu in MENUS for offer in menu.offers}
