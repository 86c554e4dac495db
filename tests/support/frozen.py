"""A thread that stands still while the others of its process run, as a stuck reactor does."""
import ctypes
import os
import time

PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000


class Frozen:
    """One thread of a process that stands still while the others run."""

    def __init__(self, task):
        self.task = task
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.ptrace(PTRACE_SEIZE)
        self.ptrace(PTRACE_INTERRUPT)
        os.waitpid(task, WALL)

    def ptrace(self, request):
        self.libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p,
                                     ctypes.c_void_p]
        if self.libc.ptrace(request, self.task, None, None) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def thaw(self):
        try:
            self.ptrace(PTRACE_DETACH)
        except ProcessLookupError:
            pass  # it has ended, or runs already

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.thaw()  # or nothing could wait for the end of its process

    def wait_for_end_of(self, process, within_s):
        """The process's exit code; its frozen thread is reaped by who traces it."""
        deadline = time.monotonic() + within_s
        while process.poll() is None:
            assert time.monotonic() < deadline, "still runs"
            try:
                os.waitpid(self.task, WALL | os.WNOHANG)
            except ChildProcessError:
                pass
            time.sleep(0.02)
        return process.returncode
