"""Run a command that dies with the process that started it.

Used as a script: `python tether.py PARENT_PID COMMAND...`. It asks Linux to send SIGKILL when the parent
ends, then becomes the command, so that the pid stays the same. A stopped or crashed test run leaves no broker
behind. Elsewhere than on Linux it only becomes the command.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the tie held
            sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
