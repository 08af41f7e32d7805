"""A network with nobody else on it: a process of its own where some public addresses are this machine's, and names lead to them.

So the real list of hosts, the real look-up of names and the real refusal of private addresses are tried, with nothing to switch
them off, and nothing that is said leaves the machine.
"""

from __future__ import annotations

import ctypes
import fcntl
import multiprocessing
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
SIOCSIFFLAGS, SIOCSIFADDR, IFF_UP = 0x8914, 0x8916, 1


@contextmanager
def island(scratch: Path, hosts: dict[str, str]) -> Iterator[ProcessPoolExecutor]:
    """One process, to have functions run there. `hosts`: name -> address; other names are asked of 127.0.0.1."""
    if os.getuid():
        pytest.skip("a network of its own, and a sandbox in it, takes root")
    scratch.mkdir(exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=land, initargs=(scratch, hosts)) as pool:
        yield pool


def land(scratch: Path, hosts: dict[str, str]) -> None:
    """Leave the machine's network for good."""
    libc = ctypes.CDLL(None, use_errno=True)
    for call, args in (
        (libc.unshare, (CLONE_NEWNS | CLONE_NEWNET,)),
        (libc.mount, (None, b"/", None, MS_REC | MS_PRIVATE, None)),
    ):
        if call(*args):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
        for number, address in enumerate(sorted(set(hosts.values()))):
            told = struct.pack("16sHH4s8x", f"lo:{number + 1}".encode(), socket.AF_INET, 0, socket.inet_aton(address))
            fcntl.ioctl(any_socket, SIOCSIFADDR, told)
    lines = "127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in hosts.items())
    for name, text in {"hosts": lines, "resolv.conf": "nameserver 127.0.0.1\noptions timeout:5 attempts:1\n"}.items():
        (scratch / name).write_text(text)
        if libc.mount(bytes(scratch / name), f"/etc/{name}".encode(), None, MS_BIND, None):
            raise OSError(ctypes.get_errno(), f"/etc/{name}")


def certificates(folder: Path, *names: str) -> tuple[Path, Path]:
    """A certificate authority of one's own, and a certificate with its key for hosts: both as files."""
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl to make certificates with")
    folder.mkdir(exist_ok=True)
    ca, leaf = folder / "ca.pem", folder / "leaf.pem"
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    made = [*new, "-subj", "/CN=island", "-keyout", str(folder / "ca.key"), "-out", str(ca)]
    subprocess.run(made, check=True, capture_output=True)
    told = [
        "-addext",
        "subjectAltName=" + ",".join(f"DNS:{name}" for name in names),
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ]
    made = [*new, "-subj", f"/CN={names[0]}", "-keyout", str(folder / "leaf.key"), "-out", str(folder / "leaf.crt")]
    made += ["-CA", str(ca), "-CAkey", str(folder / "ca.key"), *told]
    subprocess.run(made, check=True, capture_output=True)
    leaf.write_text((folder / "leaf.crt").read_text() + (folder / "leaf.key").read_text())
    return ca, leaf
