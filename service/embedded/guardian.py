"""Brokers never outlive the process that started them, not even after `kill -9`, which no handler can see.

A shell of a few lines waits beside the brokers, its input a pipe from this process. However this process ends, the
kernel closes the pipe; the shell then kills what is still running and removes the temporary folder. (Linux's
PR_SET_PDEATHSIG would be shorter, but it is Linux's alone, follows the thread that started the child rather than the
process, and leaves the folder behind.)
"""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

# Each line that comes in is the whole list of brokers that live now.
SCRIPT = """
pids=""
while read -r line; do pids=$line; done
[ -z "$pids" ] || kill -9 $pids 2>/dev/null
[ -z "$1" ] || { n=0; until rm -rf "$1" 2>/dev/null || [ $n -ge 50 ]; do n=$((n + 1)); sleep 0.1; done; }
"""
CLOSE_SECONDS = 10.0


class Guardian:
    """Kills the watched processes and removes a folder as soon as this process ends or `close` is called."""

    def __init__(self, remove: Path | None) -> None:
        """`remove` is a folder that goes at the end, or None. Raises OSError when the machine has no `sh`."""
        read_end, write_end = os.pipe()
        self._pipe = os.fdopen(write_end, "wb", buffering=0)
        try:
            self._shell = subprocess.Popen(  # noqa: S603 - a fixed script; its one argument is a path of our own making
                ["/bin/sh", "-c", SCRIPT, "callstream-kafka-guardian", str(remove or "")],
                stdin=read_end,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,  # Ctrl-C and a kill of this process's group must not reach it
            )
        except OSError:
            self._pipe.close()
            raise
        finally:
            os.close(read_end)

    def watch(self, pids: Iterable[int]) -> None:
        """From now on exactly these processes are killed at the end."""
        with contextlib.suppress(BrokenPipeError):  # somebody killed the shell: the brokers still work
            self._pipe.write((" ".join(str(pid) for pid in pids) + "\n").encode())

    async def close(self) -> None:
        """Lets the shell do its work now and waits for it."""
        self._pipe.close()
        try:
            await asyncio.to_thread(self._shell.wait, CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._shell.kill()
            self._shell.wait()
