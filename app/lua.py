"""Scripts that Redis runs: each lies as a file beside the module that uses it."""

from pathlib import Path

from redis.asyncio import Redis
from redis.commands.core import AsyncScript


def script(redis: Redis, module: str, name: str) -> AsyncScript:
    """Make `<name>.lua`, which lies beside a module, ready to be called.

    Args:
        module: The module's `__file__`.
    """
    return redis.register_script((Path(module).parent / f"{name}.lua").read_text(encoding="utf-8"))
