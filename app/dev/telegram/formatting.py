"""Parses Telegram's HTML into the plain text and the entities that clients show.

The rules and the texts of the errors were observed on the real service; https://core.telegram.org/bots/api#html-style
lists the tags that it accepts. Markdown is not supported.
"""

import re
import sys
from dataclasses import dataclass, field
from typing import Any

from app.dev.telegram.calls import bad_request

type Entity = dict[str, Any]

_SIMPLE_TAGS = {
    "b": "bold",
    "strong": "bold",
    "i": "italic",
    "em": "italic",
    "u": "underline",
    "ins": "underline",
    "s": "strikethrough",
    "strike": "strikethrough",
    "del": "strikethrough",
    "tg-spoiler": "spoiler",
    "span": "spoiler",
    "code": "code",
}
_TAGS = {*_SIMPLE_TAGS, "a", "pre", "blockquote", "tg-emoji"}
_NAMED_CHARACTERS = {"lt": "<", "gt": ">", "amp": "&", "quot": '"'}

_SURROGATES = range(0xD800, 0xE000)
"""Halves of UTF-16 pairs, which are not characters."""

_PLAIN = re.compile(r"[^<&]+")
_REFERENCE = re.compile(r"&(?:#x([0-9a-fA-F]{1,6})|#([0-9]{1,7})|([a-zA-Z]+));?")
_NAME = re.compile(r"[^\s>]*")
_ATTRIBUTE_NAME = re.compile(r"[^\s=>]*")
_BARE_VALUE = re.compile(r"[A-Za-z0-9.-]*")
_SPACES = re.compile(r"\s*")
_COMMAND = re.compile(r"(?<![\w/@<>])/[A-Za-z0-9_]{1,64}(?:@[A-Za-z0-9_]{3,32})?(?![\w/])")
_LINK = re.compile(r"(?:https?://|tg://|ton://|mailto:|tel:)\S+", re.IGNORECASE)


def utf16_length(text: str) -> int:
    """Return the length in UTF-16 code units, the unit of Telegram's limits and of entity offsets."""
    return len(text.encode("utf-16-le")) // 2


def mark_commands(text: str, entities: list[Entity]) -> list[Entity]:
    """Add entities for the bot commands in the text. As Telegram does, ignore commands inside code and links."""
    opaque = [entity for entity in entities if entity["type"] in {"code", "pre", "text_link"}]
    result = list(entities)
    for command in _COMMAND.finditer(text):
        offset = utf16_length(text[: command.start()])
        if not any(entity["offset"] <= offset < entity["offset"] + entity["length"] for entity in opaque):
            result.append({"type": "bot_command", "offset": offset, "length": utf16_length(command.group())})
    return sorted(result, key=_sort_key)


def trim(text: str, entities: list[Entity]) -> tuple[str, list[Entity]]:
    """Remove white space from both ends of the text, and shorten the entities accordingly."""
    removed = utf16_length(text) - utf16_length(text.lstrip())
    trimmed = text.strip()
    end = utf16_length(trimmed)
    kept = []
    for entity in entities:
        first = max(entity["offset"] - removed, 0)
        last = min(entity["offset"] - removed + entity["length"], end)
        if first < last:
            kept.append(entity | {"offset": first, "length": last - first})
    return trimmed, sorted(kept, key=_sort_key)


def _sort_key(entity: Entity) -> tuple[int, int]:
    """Sort by start; the outer entity precedes the inner one."""
    return entity["offset"], -entity["length"]


def parse_html(source: str) -> tuple[str, list[Entity]]:
    """Return the text without tags, and the entities in the order of their offsets.

    Raises BotApiError ("can't parse entities: …") with the byte offset of the error.
    """
    return _HtmlParser(source).parse()


@dataclass
class _OpenTag:
    name: str
    position: int
    """In the source."""
    offset: int
    """In the plain text, in UTF-16 code units."""
    attributes: dict[str, str] = field(default_factory=dict)


class _HtmlParser:
    def __init__(self, source: str) -> None:
        self._source = source
        self._position = 0
        self._text: list[str] = []
        self._length = 0
        self._open: list[_OpenTag] = []
        self._entities: list[Entity] = []

    def parse(self) -> tuple[str, list[Entity]]:
        while self._position < len(self._source):
            if self._source.startswith("</", self._position):
                self._parse_end_tag()
            elif self._peek() == "<":
                self._parse_start_tag()
            else:
                self._append(self._parse_reference() if self._peek() == "&" else self._take(_PLAIN))
        if self._open:
            raise bad_request(
                f"can't parse entities: Can't find end tag corresponding to start tag \"{self._open[-1].name}\""
            )
        return "".join(self._text), sorted(self._entities, key=_sort_key)

    def _peek(self) -> str:
        return self._source[self._position : self._position + 1]

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._source, self._position)
        if found is None:
            return ""
        self._position = found.end()
        return found.group()

    def _append(self, piece: str) -> None:
        self._text.append(piece)
        self._length += utf16_length(piece)

    def _require(self, condition: object, position: int, problem: str, suffix: str = "") -> None:
        if not condition:
            offset = len(self._source[:position].encode())
            raise bad_request(f"can't parse entities: {problem} at byte offset {offset}{suffix}")

    def _parse_reference(self) -> str:
        """Parse a character reference; one that Telegram does not know stays unchanged."""
        found = _REFERENCE.match(self._source, self._position)
        character = _decode_reference(*found.groups()) if found else None
        if found is None or character is None:
            self._position += 1
            return "&"
        self._position = found.end()
        return character

    def _parse_start_tag(self) -> None:
        begin = self._position
        self._position += 1
        name = self._take(_NAME).lower()
        self._require(self._peek(), begin, "Unclosed start tag")
        self._require(name in _TAGS, begin, f'Unsupported start tag "{name}"')
        tag = _OpenTag(name, begin, self._length)
        while True:
            self._take(_SPACES)
            self._require(self._peek(), begin, "Unclosed start tag")
            if self._peek() == ">":
                break
            self._parse_attribute(tag)
        self._position += 1
        is_spoiler = tag.attributes.get("class") == "tg-spoiler"
        self._require(name != "span" or is_spoiler, begin, 'Tag "span" must have class "tg-spoiler"')
        self._open.append(tag)

    def _parse_attribute(self, tag: _OpenTag) -> None:
        name = self._take(_ATTRIBUTE_NAME).lower()
        self._require(name, tag.position, f'Empty attribute name in the tag "{tag.name}"')
        self._take(_SPACES)
        if self._peek() != "=" and (tag.name, name) == ("blockquote", "expandable"):
            tag.attributes[name] = ""
            return
        problem = f'Expected equal sign in declaration of an attribute of the tag "{tag.name}"'
        self._require(self._peek() == "=", tag.position, problem)
        self._position += 1
        self._take(_SPACES)
        tag.attributes[name] = self._parse_attribute_value(tag)

    def _parse_attribute_value(self, tag: _OpenTag) -> str:
        quote = self._peek()
        if quote not in {'"', "'"}:
            begin = self._position
            value = self._take(_BARE_VALUE).lower()
            is_complete = self._peek() == ">" or self._peek().isspace()
            self._require(is_complete, begin, "Unexpected end of name token")
            return value
        self._position += 1
        pieces = []
        while self._peek() != quote:
            self._require(self._peek(), tag.position, "Unclosed start tag")
            if self._peek() == "&":
                pieces.append(self._parse_reference())
            else:
                pieces.append(self._peek())
                self._position += 1
        self._position += 1
        return "".join(pieces)

    def _parse_end_tag(self) -> None:
        begin = self._position
        self._require(self._open, begin, "Unexpected end tag")
        self._position += len("</")
        name = self._take(_NAME).lower()
        self._take(_SPACES)
        self._require(self._peek() == ">", begin, "Unclosed end tag")
        tag = self._open[-1]
        found = f', expected "</{tag.name}>", found "</{name}>"'
        self._require(name in {"", tag.name}, begin, "Unmatched end tag", found)
        self._position += 1
        self._open.pop()
        entity = self._to_entity(tag)
        if entity is not None and self._length > tag.offset:
            self._entities.append(entity | {"offset": tag.offset, "length": self._length - tag.offset})

    def _text_since(self, tag: _OpenTag) -> str:
        return "".join(self._text).encode("utf-16-le")[2 * tag.offset :].decode("utf-16-le")

    def _to_entity(self, tag: _OpenTag) -> Entity | None:
        attributes = tag.attributes
        match tag.name:
            case "a":
                url = attributes.get("href") or self._text_since(tag)
                return {"type": "text_link", "url": url} if _LINK.fullmatch(url) else None
            case "code" if self._open and self._open[-1].name == "pre":
                self._open[-1].attributes |= attributes
                return None
            case "pre":
                language = attributes.get("class", "").removeprefix("language-")
                return {"type": "pre", "language": language} if language else {"type": "pre"}
            case "blockquote":
                return {"type": "expandable_blockquote" if "expandable" in attributes else "blockquote"}
            case "tg-emoji":
                return {"type": "custom_emoji", "custom_emoji_id": attributes.get("emoji-id", "")}
        return {"type": _SIMPLE_TAGS[tag.name]}


def _decode_reference(hexadecimal: str | None, decimal: str | None, name: str | None) -> str | None:
    if name is not None:
        return _NAMED_CHARACTERS.get(name)
    code = int(hexadecimal, 16) if hexadecimal else int(decimal or "0")
    return chr(code) if 0 < code <= sys.maxunicode and code not in _SURROGATES else None
