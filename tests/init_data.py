"""The `initData` that Telegram gives to a Web App, signed as its documentation says.

https://core.telegram.org/bots/webapps#validating-data-received-via-the-mini-app
"""

import hashlib
import hmac
import json
import time
from urllib.parse import urlencode

BOT = "123456:TEST"


def init_data(tgid: int | None, *, bot: str = BOT, age_s: float = 0, **fields: str) -> str:
    """Make `initData` of that age, with more fields. Without a `tgid` it has no user."""
    values = {"auth_date": str(int(time.time() - age_s)), "query_id": "AAHdF6IQAAAAAN0XohDhrOrc"} | fields
    if tgid is not None:
        user = {"id": tgid, "first_name": "Ivan & Söhne", "last_name": "Иванов", "username": "ivan"}
        values["user"] = json.dumps(user, ensure_ascii=False, separators=(",", ":"))
    return urlencode(values | {"hash": hash_of(values, bot)})


def hash_of(fields: dict[str, str], bot: str = BOT) -> str:
    """Return the signature: HMAC-SHA-256 of the sorted lines, with the HMAC of the bot's token as the key."""
    secret = hmac.digest(b"WebAppData", bot.encode(), hashlib.sha256)
    lines = "\n".join(f"{name}={value}" for name, value in sorted(fields.items()))
    return hmac.digest(secret, lines.encode(), hashlib.sha256).hex()
