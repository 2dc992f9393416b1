"""The system call filter of the sandbox, assembled by hand: a classic BPF program as `bwrap --seccomp` reads it.

It refuses what namespaces do not contain:

- `socket` of any family but IPv4, IPv6 and netlink. A path-name UNIX socket in a mounted folder is a door out of the
  sandbox, and AF_VSOCK reaches a hypervisor's host. `socketpair` stays, for streams (asyncio needs it); a *datagram*
  pair is refused, since `sendto` on one reaches any path-name socket (unix(7)).
- io_uring, whose requests pass no filter; keyrings, which no namespace divides; new user namespaces, which hand out
  capabilities again; bpf, perf and userfaultfd, which only widen the kernel's surface.
- TIOCSTI and TIOCLINUX, which type into a terminal (bwrap(1) recommends it even with --new-session).
- the 32-bit and x32 ways into the same kernel, where all numbers differ.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from kairosd.errors import SandboxError
from kairosd.frozen import frozen

LOAD, AND, RETURN = 0x20, 0x54, 0x06  # BPF_LD|W|ABS, BPF_ALU|AND|K, BPF_RET|K: linux/bpf_common.h
EQUAL, AT_LEAST, ANY_BIT = 0x15, 0x35, 0x45  # BPF_JMP with JEQ, JGE, JSET, each with a constant
NUMBER, ARCHITECTURE, FIRST, SECOND = 0, 4, 16, 24  # offsets in struct seccomp_data; arguments' low words
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000  # linux/seccomp.h
EPERM, ENOSYS = 1, 38
FAMILIES = (2, 10, 16)  # AF_INET, AF_INET6, AF_NETLINK
DATAGRAMS = (2, 3)  # SOCK_DGRAM, and SOCK_RAW, which UNIX sockets take for it
TERMINAL = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
CLONE_NEWUSER = 0x10000000
X32 = 0x40000000


@frozen
class Machine:
    """One architecture: its audit number and the numbers of the calls we look at."""

    audit: int
    socket: int
    socketpair: int
    ioctl: int
    clone: int
    refused: tuple[int, ...]
    x32: bool = False


SHARED = (425, 426, 427)  # io_uring_setup, io_uring_enter, io_uring_register: new calls have one number everywhere
CLONE3 = 435
MACHINES: Mapping[str, Machine] = {
    # refused: add_key, request_key, keyctl, unshare, setns, bpf, perf_event_open, userfaultfd
    "x86_64": Machine(0xC000003E, 41, 53, 16, 56, (248, 249, 250, 272, 308, 321, 298, 323, *SHARED), x32=True),
    "aarch64": Machine(0xC00000B7, 198, 199, 29, 220, (217, 218, 219, 97, 268, 280, 241, 282, *SHARED)),
}


def program(machine: str) -> bytes:
    """The filter for `machine` (as `uname -m` says it). Raises `SandboxError` for one we have no numbers of."""
    known = MACHINES.get(machine)
    if known is None:
        raise SandboxError(f"no system call filter is known for {machine}", fix=f"use one of {', '.join(MACHINES)}")
    code = [_step(LOAD, ARCHITECTURE), _step(EQUAL, known.audit, yes=1), _step(RETURN, KILL), _step(LOAD, NUMBER)]
    if known.x32:
        code += [_step(AT_LEAST, X32, no=1), _step(RETURN, ERRNO | ENOSYS)]
    for number in known.refused:
        code += [_step(EQUAL, number, no=1), _step(RETURN, ERRNO | EPERM)]
    # clone3 hides its flags behind a pointer; told that it does not exist, every libc falls back to clone.
    code += [_step(EQUAL, CLONE3, no=1), _step(RETURN, ERRNO | ENOSYS)]
    code += _when(known.socket, [_step(LOAD, FIRST), *_among(FAMILIES, ALLOW), _step(RETURN, ERRNO | EPERM)])
    pair = [_step(LOAD, SECOND), _step(AND, 0xF), *_among(DATAGRAMS, ERRNO | EPERM), _step(RETURN, ALLOW)]
    code += _when(known.socketpair, pair)
    code += _when(known.ioctl, [_step(LOAD, SECOND), *_among(TERMINAL, ERRNO | EPERM), _step(RETURN, ALLOW)])
    namespace = [_step(ANY_BIT, CLONE_NEWUSER, no=1), _step(RETURN, ERRNO | EPERM)]
    code += _when(known.clone, [_step(LOAD, FIRST), *namespace, _step(RETURN, ALLOW)])
    return b"".join([*code, _step(RETURN, ALLOW)])


def _step(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("<HBBI", code, yes, no, value)


def _when(number: int, block: list[bytes]) -> list[bytes]:
    """Runs `block`, which returns on every way, for one system call; jumps over it for the others."""
    return [_step(EQUAL, number, no=len(block)), *block]


def _among(values: tuple[int, ...], verdict: int) -> list[bytes]:
    return [step for value in values for step in (_step(EQUAL, value, no=1), _step(RETURN, verdict))]
