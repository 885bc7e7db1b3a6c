"""The chats and the people of the Telegram stand-in that `lunch-bot dev` and the demo use."""

from app.dev.seed import MANAGER_TGID
from app.dev.telegram.chats import Chat, Person
from app.dev.telegram.state import Telegram

MANAGER = Person(MANAGER_TGID, "Maria", "maria_manager")
"""The manager of the demo data: her presses of buttons count as a manager's."""

MANAGERS_CHAT_ID = -1_001_000_000_002


def add_managers(telegram: Telegram) -> None:
    """Add the managers' chat, and a manager who can press its buttons on the page."""
    telegram.add_chat(Chat(MANAGERS_CHAT_ID, "supergroup", "Lunch managers"))
    telegram.add_chat(Chat(MANAGER.id, "private", person=MANAGER))
