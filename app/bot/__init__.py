"""The Telegram bot: commands, buttons, and how it gets its updates. Each action calls one operation as the user who acts.

It may import the resolvers and Telegram's texts.
"""
