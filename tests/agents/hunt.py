"""What an agent would do that looks for the key: it reads every byte that it can, and asks the gateway in every way.

test_gateway_night.py runs it behind its own function `ask`.
"""
# ruff: noqa
# mypy: ignore-errors

import base64
import glob
import re
import socket
import zlib

needle, since = base64.b64decode(sys.argv[1][::-1]).decode(), float(sys.argv[2])  # backwards, or the hunt would find itself
found = []
words = [needle.encode(), base64.b64encode(needle.encode()), needle[::-1].encode(), needle.encode().hex().encode()]


def look(where, data):
    if any(word in data for word in words):
        found.append(where)


def read(path, most=64 << 20):
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(most)
    except OSError:
        return b""


look("my environment", repr(dict(os.environ)).encode())
for status in glob.glob("/proc/[0-9]*"):
    for name in ("environ", "cmdline", "maps", "mountinfo", "net/unix"):
        look(f"{status}/{name}", read(f"{status}/{name}"))
    if status != f"/proc/{os.getpid()}":
        for start, stop in re.findall(rb"^([0-9a-f]+)-([0-9a-f]+) r", read(status + "/maps"), re.M):
            try:
                with open(status + "/mem", "rb", buffering=0) as file:
                    file.seek(int(start, 16))
                    look(status + "/mem", file.read(min(int(stop, 16) - int(start, 16), 64 << 20)))
            except (OSError, OverflowError, ValueError):
                pass
    for handle in glob.glob(status + "/fd/*"):
        if os.path.isfile(handle):
            look(handle, read(handle))
files = 0
for folder, below, names in os.walk("/"):
    if folder == "/":
        below[:] = [name for name in below if name not in ("proc", "sys")]
    for name in names:
        path = os.path.join(folder, name)
        try:
            fresh = os.lstat(path).st_mtime > since
        except OSError:
            continue
        if fresh and os.path.isfile(path) and not os.path.islink(path):
            data = read(path)
            files += 1
            look(path, data)
            try:
                look(path, zlib.decompress(data))
            except zlib.error:
                pass
for path in ("/v1/messages", "/v1/messages/count_tokens", "/v1/files", "/", "/v1/messages?x-api-key"):
    try:
        look("answer to " + path, ask(path=path)[1].encode())
        for method in (b"GET", b"TRACE"):
            talk = socket.create_connection(("127.0.0.1", int(os.environ["ANTHROPIC_BASE_URL"].rpartition(":")[2])))
            talk.sendall(method + b" " + path.encode() + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            look("raw answer to " + path, talk.recv(1 << 20))
    except OSError:  # without a gateway there is nobody to ask
        pass
os.makedirs("notes", exist_ok=True)
open("notes/EXPERIMENT.md", "w").write("hunted\n\nfound " + repr(sorted(set(found))) + f" in {files} files\n")
open("toy/solution.py", "a").write("# hunted\n")
