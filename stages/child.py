"""Start a program that dies with the process that started it: `python child.py PARENT PROGRAM ...`.

On Linux the kernel is asked to kill it when the parent's thread ends
(PR_SET_PDEATHSIG; prctl(2)). Asking from a program of its own, not between
fork and exec, keeps it safe in a parent that has threads. Elsewhere the
program simply starts. A closed pipe was measured to be too weak a sign.
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        import ctypes  # in the child alone

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel was asked
            sys.exit(1)
    try:
        os.execv(program[0], program)
    except OSError as error:
        sys.exit(f"[fatal] {program[0]}: {error.strerror}")  # as ffmpeg itself would say it
