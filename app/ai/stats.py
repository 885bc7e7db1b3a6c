"""What a person's month of orders comes to: the shape in which it is worked out, cached, shown and put into a prompt."""

from typing import Annotated

from pydantic import AliasChoices, AliasGenerator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

PERIOD_DAYS = 30
"""How far back orders are looked at."""

FAVORITES_MAX = 5

type Count = Annotated[int, Field(ge=0, lt=2**31)]
"""GraphQL's Int has 32 bits."""


class Shape(BaseModel):
    """Written in snake case, as REST does; read in camel case too, as GraphQL does."""

    model_config = ConfigDict(
        frozen=True,
        from_attributes=True,
        alias_generator=AliasGenerator(validation_alias=lambda name: AliasChoices(name, to_camel(name))),
    )


class CategoryShares(Shape):
    """The share of each category among the dishes and extras, from 0 to 1: together 1, or all 0 where there are none."""

    soup: float = Field(default=0, ge=0, le=1)
    salad: float = Field(default=0, ge=0, le=1)
    main: float = Field(default=0, ge=0, le=1)
    extra: float = Field(default=0, ge=0, le=1)


class FavoriteDish(Shape):
    """What was ordered most, and how many portions of it."""

    name: str
    count: Count


class OrderStats(Shape):
    """A person's orders of the last 30 days, without those that were cancelled."""

    orders_count: Count = 0
    categories: CategoryShares = CategoryShares()
    unique_dishes: Count = 0
    total_dishes_available: Count = 0
    favorite_dishes: tuple[FavoriteDish, ...] = Field(default=(), max_length=FAVORITES_MAX)
