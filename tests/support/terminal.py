"""Runs a command on a terminal of its own and answers its questions, as a person would.

usage: terminal.py PROMPT ANSWERS COMMAND...

Each time the command prints PROMPT, types the next of ANSWERS (separated by commas; then empty lines). Prints
everything the command wrote and ends with its exit status.
"""

import os
import pty
import select
import signal
import sys
import time

prompt, answers, command = sys.argv[1].encode(), sys.argv[2].encode().split(b","), sys.argv[3:]
deadline = time.monotonic() + 100
child, terminal = pty.fork()
if child == 0:
    os.execvp(command[0], command)
seen, looked = b"", 0
while True:
    ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
    if not ready:
        os.kill(child, signal.SIGKILL)
        sys.stderr.write("no %s within 100 s\n" % ("end" if looked else "prompt"))
        break
    try:
        piece = os.read(terminal, 65536)
    except OSError:  # what Linux says when the other side has closed
        break
    if not piece:
        break
    seen += piece
    at = seen.find(prompt, looked)
    if at >= 0:
        looked = at + len(prompt)
        os.write(terminal, (answers.pop(0) if answers else b"") + b"\n")
_, status = os.waitpid(child, 0)
sys.stdout.buffer.write(seen)
sys.exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 255)
