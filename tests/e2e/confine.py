"""Narrows what this process may do, then becomes the command behind "--".

    confine.py [--open-files N] [--deny WHAT=ERRNO] [--cover PATH] [--join GROUP] -- COMMAND...

--open-files sets RLIMIT_NOFILE, soft and hard. --deny installs a seccomp filter that answers with that errno: all of
io_uring, as container runtimes do; ring_restrictions, the registration of which kernels may refuse; seccomp itself.
--cover puts a socket in the place of a file, in a mount
namespace of its own: open(2) of a socket fails (ENXIO) for everybody, root included. --join moves it into a control
group, given as its directory.
"""

import ctypes
import errno
import os
import platform
import resource
import socket
import struct
import sys
import tempfile

LIBC = ctypes.CDLL(None, use_errno=True)

PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
RETURN_ALLOW = 0x7FFF0000
RETURN_ERRNO = 0x00050000
LOAD_WORD = 0x20       # BPF_LD | BPF_W | BPF_ABS
JUMP_IF_EQUAL = 0x15   # BPF_JMP | BPF_JEQ | BPF_K
RETURN = 0x06          # BPF_RET | BPF_K
CALL = 0               # where struct seccomp_data has the number of the system call,
SECOND_ARGUMENT = 24   # and this, its low half on a little-endian machine
IO_URING_SETUP, IO_URING_ENTER, IO_URING_REGISTER = 425, 426, 427  # the same on every architecture
REGISTER_RESTRICTIONS = 11
SECCOMP = 317 if platform.machine() == "x86_64" else 277

DENIABLE = {  # what to compare, one line of (offset, value) each: all must be equal
    "io_uring": [[(CALL, IO_URING_SETUP)], [(CALL, IO_URING_ENTER)], [(CALL, IO_URING_REGISTER)]],
    "ring_restrictions": [[(CALL, IO_URING_REGISTER), (SECOND_ARGUMENT, REGISTER_RESTRICTIONS)]],
    "seccomp": [[(CALL, SECCOMP)]],
}

CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000


def check(result, what):
    if result != 0:
        code = ctypes.get_errno()
        sys.exit(f"confine.py: {what}: {os.strerror(code)}")


def limit_open_files(count):
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(count), int(count)))


def deny(what):
    name, code = what.split("=")
    program = []
    for conditions in DENIABLE[name]:
        for left, (offset, value) in zip(range(len(conditions), 0, -1), conditions):
            program.append((LOAD_WORD, 0, 0, offset))
            program.append((JUMP_IF_EQUAL, 0, 2 * left - 1, value))  # when not: to what follows these conditions
        program.append((RETURN, 0, 0, RETURN_ERRNO | getattr(errno, code)))
    program.append((RETURN, 0, 0, RETURN_ALLOW))
    text = b"".join(struct.pack("HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(text, len(text))
    filter_program = struct.pack("HP", len(program), ctypes.addressof(buffer))  # native alignment: struct sock_fprog
    check(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    check(LIBC.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_program, 0, 0), "seccomp")


def cover(path):
    check(LIBC.unshare(CLONE_NEWNS), "unshare")
    check(LIBC.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "making mounts private")
    with tempfile.TemporaryDirectory() as directory:
        place = os.path.join(directory, "socket")
        with socket.socket(socket.AF_UNIX) as unreadable:
            unreadable.bind(place)
        check(LIBC.mount(place.encode(), path.encode(), None, MS_BIND, None), f"covering {path}")


def join(group):
    with open(os.path.join(group, "cgroup.procs"), "w", encoding="ascii") as processes:
        processes.write(str(os.getpid()))


def main():
    arguments = sys.argv[1:]
    while arguments and arguments[0] != "--":
        flag, value, *arguments = arguments
        {"--open-files": limit_open_files, "--deny": deny, "--cover": cover, "--join": join}[flag](value)
    command = arguments[1:]
    os.execvp(command[0], command)


main()
