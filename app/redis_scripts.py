"""Lua scripts that Redis runs. Each is a file beside the module that uses it."""

from pathlib import Path

from redis.asyncio import Redis
from redis.commands.core import AsyncScript


def load_script(redis: Redis, module: str, name: str) -> AsyncScript:
    """Load `<name>.lua` from the folder of a module.

    Args:
        module: The module's `__file__`.
    """
    return redis.register_script((Path(module).parent / f"{name}.lua").read_text(encoding="utf-8"))
