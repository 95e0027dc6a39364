"""Runs a command on a pseudo-terminal, following a script of steps, and prints what happened as JSON.

usage: terminal_session.py STEPS COMMAND ARG...   where STEPS is a JSON list of {"wait": text} (until the text shows, counted from
the last step), {"send": text} and {"signal": name}. Prints {"code", "signal", "output"}; a step that never comes ends with the code null.
"""

import json
import os
import pty
import select
import signal
import sys
import time

LIMIT_SECONDS = 40


def main():
    steps, command = json.loads(sys.argv[1]), sys.argv[2:]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp(command[0], command)
    output, seen = b"", 0
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        while steps:
            if "wait" in steps[0]:
                at = output.find(steps[0]["wait"].encode(), seen)
                if at < 0:
                    break
                seen = at + len(steps[0]["wait"].encode())
            elif "signal" in steps[0]:
                os.kill(pid, signal.Signals[steps[0]["signal"]])
            else:
                os.write(terminal, steps[0]["send"].encode())
            steps.pop(0)
        if not select.select([terminal], [], [], 0.5)[0]:
            continue
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # The command closed its end.
            chunk = b""
        if not chunk:
            return finish(os.waitpid(pid, 0)[1], output)
        output += chunk
    os.kill(pid, signal.SIGKILL)
    finish(os.waitpid(pid, 0)[1], output + f"\n[stuck before {steps[:1]}]".encode())


def finish(status, output):
    signaled = os.WIFSIGNALED(status)
    result = {
        "code": None if signaled else os.WEXITSTATUS(status),
        "signal": os.WTERMSIG(status) if signaled else None,
        "output": output.decode("utf-8", "replace").replace("\r\n", "\n"),
    }
    print(json.dumps(result))


main()
