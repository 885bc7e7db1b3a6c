"""The Telegram bot: commands, buttons, changes of chats, and how it gets its updates.

A command or button calls one operation with the rights of its user or chat. It may import the resolvers and the layers
below.
"""
