"""The program `lunch-bot`: each command parses its arguments, calls one function, and prints the result.

It may import everything. Imports are inside the commands: each process needs only its part, and starts twice as fast.
"""
