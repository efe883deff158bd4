"""Types lines into an interactive bash and presses TAB after each: what stands there then, a line for each.

    tab.py KBR [--run] LINE...

With --run each line is then run, `said` before it: a second line for each, its words with `~~` between.
KBR's folder is put on PATH, and its completions are loaded as its help says. Every wait is for something to be read.
"""

import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time

DEADLINE = time.monotonic() + 60


def read_until(terminal, mark):
    read = b""
    while mark not in read:
        left = DEADLINE - time.monotonic()
        ready, _, _ = select.select([terminal], [], [], max(left, 0))
        if not ready:
            sys.exit(f"bash did not say {mark!r} in time, but {read!r}")
        read += os.read(terminal, 65536)
    return read


def main():
    kbr, lines = sys.argv[1], sys.argv[2:]
    runs = lines[0] == "--run"
    lines = lines[1:] if runs else lines
    environment = dict(os.environ, TERM="dumb", PS1="")
    environment["PATH"] = os.path.dirname(kbr) + ":" + environment["PATH"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], environment)
    # Wide enough that readline never breaks a line.
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 2000, 0, 0))
    show = r"""bind -x '"\C-xp": printf "\n<<%s>>\n" "$READLINE_LINE"'"""
    setup = f"bind 'set bell-style none'; source <(kbr completions bash); {show}; echo re''ady\n"
    said = "said() { local words; printf -v words '~~%s' \"$@\"; echo \"{{\" \"$words\" \"}}\"; }"
    setup = f"{said}; {setup}"
    os.write(terminal, setup.encode())
    read_until(terminal, b"ready")
    for line in lines:
        os.write(terminal, line.encode() + b"\t\x18p")
        read = read_until(terminal, b">>").decode()
        print(read.rsplit("<<", 1)[1].split(">>")[0])
        if runs:
            os.write(terminal, b"\x01said \x05\r")
            read = read_until(terminal, b" }}").decode()
            print(read.rsplit("{{ ~~", 1)[1].split(" }}")[0])
        # To both ends, since the cursor is somewhere.
        os.write(terminal, b"\x05\x15")
    os.write(terminal, b"exit\n")
    os.waitpid(pid, 0)


main()
