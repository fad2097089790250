"""Processes that stand still: a stop that has been sent has not happened yet."""

import os
import signal


def freeze(pid: int) -> None:
    """SIGSTOP to a child of this process; returns when all its threads stand, or when it has ended.

    The kernel stops a process thread by thread: on a busy machine one that was told to stop goes on for some
    milliseconds, time enough to answer or to publish.
    """
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
