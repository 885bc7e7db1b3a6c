"""Updates by long polling, in the bot process."""

from aiogram import Bot, Dispatcher

from app.bot.dispatcher import set_commands, setup_attempts
from app.clients import Clients


async def poll_updates(dispatcher: Dispatcher, bot: Bot, clients: Clients) -> None:
    """Handle updates until polling is stopped. While Telegram is unavailable, it retries.

    Updates are handled one after the other. So an update is confirmed to Telegram only after it was handled, and is not
    lost with a process that dies. A repeated update does no harm.
    """
    async for attempt in setup_attempts():
        with attempt:
            await set_commands(bot)
            await bot.delete_webhook()
            await dispatcher.start_polling(
                bot, handle_signals=False, close_bot_session=False, handle_as_tasks=False, clients=clients
            )
