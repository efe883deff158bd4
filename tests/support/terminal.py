"""Runs a command on a terminal of its own and answers one question, as a person would.

usage: terminal.py PROMPT ANSWER COMMAND...

Waits until the command has printed PROMPT, types ANSWER, prints everything it wrote, ends with its exit status.
"""

import os
import pty
import select
import signal
import sys
import time

prompt, answer, command = sys.argv[1].encode(), sys.argv[2].encode(), sys.argv[3:]
deadline = time.monotonic() + 100
child, terminal = pty.fork()
if child == 0:
    os.execvp(command[0], command)
seen, answered = b"", False
while True:
    ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
    if not ready:
        os.kill(child, signal.SIGKILL)
        sys.stderr.write("no %s within 100 s\n" % ("end" if answered else "prompt"))
        break
    try:
        piece = os.read(terminal, 65536)
    except OSError:  # what Linux says when the other side has closed
        break
    if not piece:
        break
    seen += piece
    if not answered and prompt in seen:
        answered = True
        os.write(terminal, answer + b"\n")
_, status = os.waitpid(child, 0)
sys.stdout.buffer.write(seen)
sys.exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 255)
