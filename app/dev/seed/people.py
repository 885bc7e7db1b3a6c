"""The demo's people: who they are follows from the seed and from their Telegram id alone."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import product
from random import Random

from app.models import Language

FIRST_DEMO_TGID = 4_500_000_000_000_001
"""Near the end of what 52 bits hold: nobody in Telegram has such an id, so nobody can sign in as one of them."""

FIRST_TGID = FIRST_DEMO_TGID + 1
USERS_MAX = 100_000
LAST_TGID = FIRST_TGID + USERS_MAX - 1


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
"""To be ended with -вич for a man, with -вна for a woman."""

INITIALS = "ABCDEFGHJKLMNPRSTW"


@dataclass(frozen=True)
class Person:
    """Somebody who orders lunch."""

    tgid: int
    name: str
    language: Language


def people(seed: int, tgids: Iterable[int]) -> list[Person]:
    """Return the people with these ids. Every other one is Russian, and no two have one name."""
    return [_person(seed, tgid) for tgid in tgids]


def dice(seed: int, tgid: int) -> Random:
    """What this person's habits and orders are drawn with, whoever else there is."""
    return Random(f"{seed}:{tgid}")  # noqa: S311 demo data, no secret


def _person(seed: int, tgid: int) -> Person:
    number, is_russian = divmod(tgid - FIRST_TGID, 2)
    names = _russian_names(seed) if is_russian else _english_names(seed)
    namesakes, index = divmod(number, len(names))
    first, last, middles = names[index]
    middle = [] if namesakes == 0 else [middles[namesakes - 1]]
    return Person(tgid, " ".join([first, *middle, last]), Language.RU if is_russian else Language.EN)


type Name = tuple[str, str, tuple[str, ...]]
"""First and last name, and what tells namesakes apart: one after the other has it between the two."""


@cache
def _english_names(seed: int) -> list[Name]:
    initials = tuple(f"{letter}." for letter in INITIALS)
    return _shuffled(seed, [(first, last, initials) for first, last in product(ENGLISH_FIRST, ENGLISH_LAST)])


@cache
def _russian_names(seed: int) -> list[Name]:
    of_women, of_men = (tuple(f"{stem}{ending}" for stem in PATRONYMICS) for ending in ("вна", "вич"))
    women = [(first, f"{last}а", of_women) for first, last in product(RUSSIAN_WOMEN, RUSSIAN_LAST)]
    men = [(first, last, of_men) for first, last in product(RUSSIAN_MEN, RUSSIAN_LAST)]
    return _shuffled(seed, women + men)


def _shuffled(seed: int, names: list[Name]) -> list[Name]:
    Random(f"names:{seed}").shuffle(names)  # noqa: S311 demo data, no secret
    return names
