"""Tools for development: embedded services, stand-ins for Telegram and Gemini, demo data, and the demo.

It may import every package of `app` except the command line, and only the command line imports it.
"""
