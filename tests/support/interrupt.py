"""Runs a command on a terminal of its own and types Ctrl-C when a file appears, and again when a second one does.

usage: interrupt.py FILE FILE COMMAND...

Prints what the command wrote, then a line that says whether the terminal is as it was before: its settings, and its
cursor. Ends with the command's exit status.
"""

import os
import pty
import select
import signal
import sys
import termios
import time

moments, command = sys.argv[1:3], sys.argv[3:]
deadline = time.monotonic() + 60
ours, theirs = pty.openpty()
before = termios.tcgetattr(theirs)
child = os.fork()
if child == 0:
    os.close(ours)
    os.setsid()
    os.login_tty(theirs) if hasattr(os, "login_tty") else None
    if not hasattr(os, "login_tty"):
        import fcntl

        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
        for number in range(3):
            os.dup2(theirs, number)
    os.execvp(command[0], command)
seen, status = b"", None
while status is None or select.select([ours], [], [], 0)[0]:
    if select.select([ours], [], [], 0.02)[0]:
        seen += os.read(ours, 65536)
    if moments and os.path.exists(moments[0]):
        moments.pop(0)
        os.write(ours, b"\x03")
    if status is None:
        ended, code = os.waitpid(child, os.WNOHANG)
        status = code if ended else None
    if time.monotonic() > deadline:
        os.kill(child, signal.SIGKILL)
        sys.exit("no end within 60 s")
same = termios.tcgetattr(theirs) == before
shown = seen.rfind(b"\x1b[?25l") <= seen.rfind(b"\x1b[?25h")
sys.stdout.buffer.write(seen)
print("\nsettings %s, cursor %s" % ("kept" if same else "changed", "shown" if shown else "hidden"))
sys.stdout.flush()
sys.exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 255)
