"""The demo's users. Their names and languages depend only on the seed and on their Telegram ids."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import product
from random import Random

from app.models import Language

FIRST_DEMO_TGID = 4_500_000_000_000_001
"""Telegram ids have 52 bits, and real accounts have much smaller ones: no real person can sign in as a demo user."""

FIRST_TGID = FIRST_DEMO_TGID + 1
MAX_USERS = 100_000
LAST_TGID = FIRST_TGID + MAX_USERS - 1


def _words(text: str) -> list[str]:
    return text.split()


ENGLISH_FIRST = _words(
    "Alice Amelia Anna Beatrice Charlotte Clara Daisy Eleanor Ella Emily Emma Fiona Grace Hannah Isla Jane Julia "
    "Laura Leah Lucy Mia Nora Olivia Rachel Ruby Sarah Sophie Victoria Zoe Adam Alan Ben Charlie Daniel David Dylan "
    "Edward Ethan Finn Frank George Harry Jack James Leo Liam Mark Max Nathan Noah Oliver Oscar Paul Peter Robert "
    "Ryan Sam Theo Thomas William"
)
ENGLISH_LAST = _words(
    "Abbott Adams Allen Atkins Bailey Baker Barnes Bennett Brooks Brown Carter Chapman Clark Cole Collins Cooper Cox "
    "Davies Dixon Edwards Ellis Evans Fisher Foster Fox Gibson Gray Green Griffin Hall Harper Harris Hill Holmes "
    "Hughes Hunt Jackson Jenkins Johnson Kelly King Knight Lee Lewis Marsh Martin Mason Mills Moore Morgan Murphy "
    "Nash O'Brien O'Connor O'Neill Palmer Parker Pearce Porter Powell Price Reed Reid Rogers Russell Scott Shaw "
    "Simpson Smith-Jones Stone Taylor Turner Walker Ward Watson Webb West White Wilson Wood Wright Young"
)

RUSSIAN_WOMEN = _words(
    "Александра Алина Алиса Анастасия Анна Вера Вероника Виктория Дарья Екатерина Елена Жанна Зоя Инна Ирина Ксения "
    "Лариса Любовь Людмила Маргарита Мария Надежда Наталья Нина Оксана Ольга Полина Светлана Софья Татьяна Ульяна "
    "Юлия"
)
RUSSIAN_MEN = _words(
    "Александр Алексей Андрей Антон Артём Борис Вадим Валерий Виктор Владимир Глеб Григорий Денис Дмитрий Евгений "
    "Егор Иван Игорь Илья Кирилл Константин Максим Михаил Никита Николай Олег Павел Роман Сергей Степан Фёдор Юрий"
)
RUSSIAN_LAST = _words(
    "Абрамов Алексеев Андреев Баранов Белов Беляев Богданов Борисов Васильев Виноградов Власов Волков Воробьёв "
    "Воронин Голубев Горбунов Григорьев Давыдов Денисов Егоров Ершов Жуков Зайцев Захаров Иванов Ильин Исаев Калинин "
    "Киселёв Ковалёв Козлов Комаров Королёв Крылов Кудрявцев Кузнецов Лебедев Макаров Медведев Мельников Миронов "
    "Морозов Никитин Новиков Орлов Павлов Петров Поляков Попов Родионов Романов Рябов Савельев Семёнов Сидоров "
    "Смирнов Соболев Соколов Соловьёв Сорокин Тарасов Титов Трофимов Фадеев Федотов Филатов Фролов Чернов Чистяков "
    "Шестаков Щербаков Яковлев"
)
PATRONYMICS = _words(
    "Александро Алексее Андрее Антоно Борисо Викторо Владимиро Денисо Дмитрие Евгенье Ивано Игоре Кирилло Максимо "
    "Михайло Николае Олего Павло Петро Романо Сергее Степано Фёдоро Юрье"
)
"""Stems: men's patronymics end with -вич, women's with -вна."""

INITIALS = "ABCDEFGHJKLMNPRSTW"


@dataclass(frozen=True)
class DemoUser:
    """A user who orders lunch."""

    tgid: int
    name: str
    language: Language


def draw_users(seed: int, tgids: Iterable[int]) -> list[DemoUser]:
    """Return the users with these ids. Every second one is Russian, and their names are unique."""
    return [_draw_user(seed, tgid) for tgid in tgids]


def user_rng(seed: int, tgid: int) -> Random:
    """Return the random generator of a user's habits and orders, which does not depend on other users."""
    return Random(f"{seed}:{tgid}")  # noqa: S311 - demo data, not a secret


def _draw_user(seed: int, tgid: int) -> DemoUser:
    number, is_russian = divmod(tgid - FIRST_TGID, 2)
    names = _russian_names(seed) if is_russian else _english_names(seed)
    namesakes, index = divmod(number, len(names))
    first, last, middles = names[index]
    middle_names = [] if namesakes == 0 else [middles[namesakes - 1]]
    return DemoUser(tgid, " ".join([first, *middle_names, last]), Language.RU if is_russian else Language.EN)


type Name = tuple[str, str, tuple[str, ...]]
"""First name, last name, and the middle names that distinguish users with the same first and last name."""


@cache
def _english_names(seed: int) -> list[Name]:
    initials = tuple(f"{letter}." for letter in INITIALS)
    return _shuffle(seed, [(first, last, initials) for first, last in product(ENGLISH_FIRST, ENGLISH_LAST)])


@cache
def _russian_names(seed: int) -> list[Name]:
    female_patronymics, male_patronymics = (
        tuple(f"{stem}{ending}" for stem in PATRONYMICS) for ending in ("вна", "вич")
    )
    women = [(first, f"{last}а", female_patronymics) for first, last in product(RUSSIAN_WOMEN, RUSSIAN_LAST)]
    men = [(first, last, male_patronymics) for first, last in product(RUSSIAN_MEN, RUSSIAN_LAST)]
    return _shuffle(seed, women + men)


def _shuffle(seed: int, names: list[Name]) -> list[Name]:
    Random(f"names:{seed}").shuffle(names)  # noqa: S311 - demo data, not a secret
    return names
