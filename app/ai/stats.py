"""A user's order statistics for one month. The same models are computed, cached, shown, and written into a prompt."""

from typing import Annotated

from pydantic import AliasChoices, AliasGenerator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

PERIOD_DAYS = 30
"""The statistics include the orders of the last 30 days."""

FAVORITES_MAX = 5

type Count = Annotated[int, Field(ge=0, lt=2**31)]
"""GraphQL's Int has 32 bits."""


class ApiModel(BaseModel):
    """A frozen model. Output is in snake case, as in REST; input may also be in camel case, as in GraphQL."""

    model_config = ConfigDict(
        frozen=True,
        from_attributes=True,
        alias_generator=AliasGenerator(validation_alias=lambda name: AliasChoices(name, to_camel(name))),
    )


class CategoryShares(ApiModel):
    """The share of each category among the ordered portions, from 0 to 1. The sum is 1, or 0 without orders."""

    soup: float = Field(default=0, ge=0, le=1)
    salad: float = Field(default=0, ge=0, le=1)
    main: float = Field(default=0, ge=0, le=1)
    extra: float = Field(default=0, ge=0, le=1)


class FavoriteDish(ApiModel):
    """One of the dishes that the user ordered most, with the number of portions."""

    name: str
    count: Count


class OrderStats(ApiModel):
    """Statistics of a user's orders in the last 30 days. Cancelled orders do not count."""

    orders_count: Count = 0
    categories: CategoryShares = CategoryShares()
    unique_dishes: Count = 0
    total_dishes_available: Count = 0
    favorite_dishes: tuple[FavoriteDish, ...] = Field(default=(), max_length=FAVORITES_MAX)
