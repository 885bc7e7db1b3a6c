"""Starts programs that end when this process ends."""

import os
import sys

_LAUNCHER = """
import ctypes, os, sys
parent, death_signal, uid, gid, *command = sys.argv[1:]
if int(uid) != os.getuid():
    os.setgroups([])
    os.setgid(int(gid))
    os.setuid(int(uid))
if sys.platform == "linux":
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(death_signal))
if os.getppid() == int(parent):
    os.execv(command[0], command)
"""
"""Runs between fork and exec, because `preexec_fn` is not safe with threads. The order matters: setuid clears the death
signal, and the last `if` detects a parent that died before the signal was set."""


def launcher_command(death_signal: int, uid: int, gid: int) -> list[str]:
    """Return the command to put before a program's own command line.

    Args:
        death_signal: On Linux, the kernel sends it to the program when the thread that started it dies.
        uid: The user that the program runs as.
        gid: The group that the program runs as.
    """
    arguments = (os.getpid(), int(death_signal), uid, gid)
    return [sys.executable, "-I", "-S", "-c", _LAUNCHER, *map(str, arguments)]
