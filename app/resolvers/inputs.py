"""What every operation checks of its input."""

from app.errors import BadInput


def checked_text(field: str, value: str | None, max_characters: int) -> str | None:
    """Return `value` if PostgreSQL can keep it.

    Raises BadInput if it is too long, or has a NUL or half of a surrogate pair in it.
    """
    if value is None:
        return None
    if len(value) > max_characters:
        raise BadInput(field, f"has {len(value)} characters; at most {max_characters} are allowed")
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise BadInput(field, "has a character that is not allowed")
    return value
