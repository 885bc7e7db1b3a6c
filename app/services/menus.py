"""Rules of a menu."""

from collections.abc import Sequence

from app.models import MenuCategory, MenuItem


def filter_items(items: Sequence[MenuItem], category: MenuCategory | None, is_available: bool | None) -> list[MenuItem]:
    """Filter a menu. None accepts every value."""
    return [
        item
        for item in items
        if category in {None, item.category} and (is_available is None or item.is_available == is_available)
    ]
