"""Less than a process usually has, for tests that are scripts: run in the child before its exec.

    Server(backend, before=confine.refuse_calls("unshare", "io_uring_setup"))
"""
import ctypes
import os
import platform
import struct

# System calls by number on x86-64; the calls that this kernel has on aarch64 have the same meaning.
NUMBERS = {
    "x86_64": {"unshare": 272, "io_uring_setup": 425, "io_uring_enter": 426, "prlimit64": 302,
               "getrlimit": 97, "clone3": 435, "clone": 56, "socket": 41, "bind": 49},
    "aarch64": {"unshare": 97, "io_uring_setup": 425, "io_uring_enter": 426, "prlimit64": 261,
                "getrlimit": 163, "clone3": 435, "clone": 220, "socket": 198,
                "bind": 200},
}
EPERM, EACCES, ENOSYS, EAFNOSUPPORT = 1, 13, 38, 97
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
BPF_LOAD_WORD, BPF_RETURN = 0x20, 0x06
BPF_JUMP_IF_EQUAL, BPF_JUMP_IF_ANY_BIT = 0x15, 0x45
SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO = 0x7FFF0000, 0x00050000


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def refuse_calls(*names, error=EPERM):
    """A seccomp filter that answers these calls with an error, as a container's profile does."""
    numbers = [NUMBERS[platform.machine()][name] for name in names]
    code = struct.pack("=HBBI", BPF_LOAD_WORD, 0, 0, 0)  # the number of the call
    for position, number in enumerate(numbers):
        code += struct.pack("=HBBI", BPF_JUMP_IF_EQUAL, len(numbers) - position, 0, number)
    code += struct.pack("=HBBI", BPF_RETURN, 0, 0, SECCOMP_RET_ALLOW)
    code += struct.pack("=HBBI", BPF_RETURN, 0, 0, SECCOMP_RET_ERRNO | error)
    return _install(code)


def allow_calls(allowed, families, denied_bits):
    """A filter that answers all calls with EPERM but those of `allowed`, by number; of socket() all
    address families but `families` with EAFNOSUPPORT; of those of `denied_bits`, {number: bits},
    where the first argument has one of the bits, with EPERM; clone3 with ENOSYS, as it cannot be
    looked into: what systemd makes of SystemCallFilter=, RestrictAddressFamilies= and
    RestrictNamespaces=."""
    numbers = NUMBERS[platform.machine()]
    load_number = struct.pack("=HBBI", BPF_LOAD_WORD, 0, 0, 0)
    load_argument = struct.pack("=HBBI", BPF_LOAD_WORD, 0, 0, 16)  # the first one's lower half

    def answer(error):
        return struct.pack("=HBBI", BPF_RETURN, 0, 0, SECCOMP_RET_ERRNO | error)

    def only_for(number, block):
        skip = len(block) // 8
        return struct.pack("=HBBI", BPF_JUMP_IF_EQUAL, 0, skip, number) + block
    code = load_number + only_for(numbers["clone3"], answer(ENOSYS))
    block = load_argument
    for position, family in enumerate(families):
        block += struct.pack("=HBBI", BPF_JUMP_IF_EQUAL, len(families) - position, 0, family)
    code += only_for(numbers["socket"], block + answer(EAFNOSUPPORT) + load_number)
    for number, bits in denied_bits.items():
        code += only_for(number, load_argument + struct.pack("=HBBI", BPF_JUMP_IF_ANY_BIT, 0, 1,
                                                             bits) + answer(EPERM) + load_number)
    for number in sorted(allowed):
        code += only_for(number, struct.pack("=HBBI", BPF_RETURN, 0, 0, SECCOMP_RET_ALLOW))
    return _install(code + answer(EPERM))


def _install(code):
    libc = ctypes.CDLL(None, use_errno=True)

    def confine():
        buffer = ctypes.create_string_buffer(code, len(code))
        program = _Program(len(code) // 8, ctypes.addressof(buffer))
        if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
        if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "PR_SET_SECCOMP")
    return confine


class Cgroup:
    """A cgroup of its own (version 1 or 2) with a limit; OSError where none can be made."""

    def __init__(self, controller, limits_v1, limits_v2):
        self.path = None
        with open("/proc/self/cgroup") as file:
            groups = [line.strip().split(":", 2) for line in file]
        bases = [(f"/sys/fs/cgroup/{names}{path}", limits_v1) for _, names, path in groups
                 if controller in names.split(",")]
        bases += [(f"/sys/fs/cgroup/{names}", limits_v1) for _, names, _ in groups
                  if controller in names.split(",")]
        bases += [(f"/sys/fs/cgroup{path}", limits_v2) for _, names, path in groups if not names]
        error = OSError("no cgroup of " + controller)
        for base, limits in bases:
            path = f"{base.rstrip('/')}/pulsewheel_test_{os.getpid()}"
            try:
                os.mkdir(path)
                self.path = path
                for name, value in limits.items():
                    with open(f"{path}/{name}", "w") as file:
                        file.write(str(value))
                return
            except OSError as why:
                error = why
                self.remove()
        raise error

    def enter(self):
        """Runs in the child before exec."""
        with open(f"{self.path}/cgroup.procs", "w") as file:
            file.write(str(os.getpid()))

    def remove(self):
        if self.path is not None:
            try:
                os.rmdir(self.path)
            except OSError:
                pass
            self.path = None


def memory_cgroup(size_bytes):
    return Cgroup("memory", {"memory.limit_in_bytes": size_bytes}, {"memory.max": size_bytes})


def pids_cgroup(most):
    return Cgroup("pids", {"pids.max": most}, {"pids.max": most})
