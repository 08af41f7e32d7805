"""A small GitHub: the few documented endpoints that the harness uses, over HTTP, and git over HTTP beside them.

Branches lie in a bare repository on disk, and a merge is a real merge there. Pages are short, tokens are checked, and
`faults` are answers that come before the real ones.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pygit2

TOKEN, PAGE = "ghp_thisisthetokenofthetests", 2
WHO = {f"GIT_{who}_{what}": "grace@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
QUIET = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}


class Hub:
    """The server and its one repository, o/r. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.bare = folder / "hub" / "o" / "r.git"
        self.pulls: list[dict[str, Any]] = []
        self.comments: list[tuple[int, str]] = []  # number of the pull request, text
        self.locked = False
        self.dies: tuple[int, Callable[[], None]] | None = None  # what happens after so many requests are done, before the answer
        self.asked: list[tuple[str, str, str]] = []  # method, path, Authorization
        self.faults: list[tuple[str, int, dict[str, str], Any]] = []  # method, status, headers, body
        subprocess.run(["git", "init", "-q", "--bare", str(self.bare)], check=True)
        hub = self

        class Handler(_Handler):
            owner = hub

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Hub:
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def git(self, *args: str) -> str:
        env = {"PATH": os.environ["PATH"], **QUIET, **WHO}
        done = subprocess.run(["git", "-C", str(self.bare), *args], env=env, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def branches(self) -> list[str]:
        return self.git("for-each-ref", "--format=%(refname:short)", "refs/heads").splitlines()

    def merge(self, number: int, how: str = "merge", who: str = "grace") -> str:
        """What the buttons do; the merge commit."""
        pull = self.pulls[number - 1]
        head, base = pull["head"]["ref"], pull["base"]["ref"]
        made = self.rebased(base, head) if how == "rebase" else self.merged(base, head, how, number)
        self.git("update-ref", f"refs/heads/{base}", made)
        pull |= {"state": "closed", "merged_at": "2026-01-01T00:00:00Z", "merge_commit_sha": made, "merged_by": {"login": who}}
        return made

    def merged(self, base: str, head: str, how: str, number: int) -> str:
        """A commit with what both changed, of which only one with `merge` has two parents."""
        tree = self.git("merge-tree", "--write-tree", base, head).splitlines()[0]
        parents = [base, head] if how == "merge" else [base]
        words = [word for parent in parents for word in ("-p", parent)]
        said = f"Merge pull request #{number}" if how == "merge" else self.pulls[number - 1]["title"]
        return self.git("commit-tree", tree, *words, "-m", said)

    def rebased(self, base: str, head: str) -> str:
        """Copies of the commits of `head` on top of `base`, with their messages."""
        onto, repo = self.git("rev-parse", base), pygit2.Repository(str(self.bare))
        for commit in self.git("rev-list", "--reverse", "--no-merges", f"{base}..{head}").splitlines():
            tree = repo.merge_trees(*(repo.revparse_single(f"{each}^{{tree}}") for each in (f"{commit}^", onto, commit)))
            onto = self.git(
                "commit-tree", str(tree.write_tree(repo)), "-p", onto, "-m", self.git("log", "-1", "--format=%B", commit)
            )
        return onto

    def add(self, branch: str, tree: str = "", *parents: str) -> str:
        """A commit of somebody's on a branch, without a change where no tree is given."""
        words = [word for parent in (branch, *parents) for word in ("-p", parent)]
        made = self.git("commit-tree", tree or f"{branch}^{{tree}}", *words, "-m", "of somebody")
        self.git("update-ref", f"refs/heads/{branch}", made)
        return made

    def close(self, number: int) -> None:
        self.pulls[number - 1]["state"] = "closed"

    def refresh(self) -> None:
        """What GitHub notices by itself: a branch that is gone, or that came into its base."""
        branches = self.branches()
        for pull in self.pulls:
            head, base = pull["head"]["ref"], pull["base"]["ref"]
            if pull["state"] == "open" and not {head, base} <= set(branches):
                pull["state"] = "closed"
            elif pull["state"] == "open":
                pull["head"]["sha"] = self.git("rev-parse", head)
                if not self.git("rev-list", f"{base}..{head}"):
                    pull |= {
                        "state": "closed",
                        "merged_at": "2026-01-01T00:00:00Z",
                        "merge_commit_sha": self.git("rev-parse", base),
                    }

    def open(self, told: dict[str, Any]) -> tuple[int, Any]:
        if told["head"] not in self.branches() or told["base"] not in self.branches():
            return 422, {"message": "Validation Failed", "errors": [{"field": "head", "code": "invalid"}]}
        if any(each["head"]["ref"] == told["head"] and each["state"] == "open" for each in self.pulls):
            return 422, {"message": "Validation Failed", "errors": [{"message": "A pull request already exists for o:x."}]}
        number = len(self.pulls) + 1
        head, base = {"ref": told["head"], "repo": {"full_name": "o/r"}}, {"ref": told["base"]}
        made = {"number": number, "state": "open", "title": told["title"], "body": told["body"], "head": head, "base": base}
        made |= {
            "html_url": f"https://github.com/o/r/pull/{number}",
            "merged_at": None,
            "merge_commit_sha": "0" * 40,
            "labels": [],
        }
        head["sha"] = self.git("rev-parse", told["head"])
        self.pulls.append(made)
        return 201, made


class _Handler(BaseHTTPRequestHandler):
    owner: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PATCH(self) -> None:
        self._serve("PATCH")

    def _serve(self, method: str) -> None:
        hub, body = self.owner, self._body()
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        hub.asked.append((method, self.path, self.headers.get("Authorization", "")))
        if path.startswith("/git/"):
            return self._git(method, path.removeprefix("/git"), body)
        for index, (verb, status, headers, said) in enumerate(hub.faults):
            if verb == method:
                del hub.faults[index]
                return self._answer(status, said, headers)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._answer(401, {"message": "Bad credentials"})
        hub.refresh()
        match (method, path.strip("/").split("/")):
            case "GET", ["repos", "o", "r", "pulls"]:
                self._page(query)
            case "GET", ["repos", "o", "r", "pulls", number]:
                self._answer(200, hub.pulls[int(number) - 1])
            case "POST", ["repos", "o", "r", "pulls"]:
                self._answer(*hub.open(json.loads(body)))
            case "PATCH", ["repos", "o", "r", "pulls", number]:
                hub.pulls[int(number) - 1] |= json.loads(body)
                self._answer(200, hub.pulls[int(number) - 1])
            case "POST", ["repos", "o", "r", "issues", number, "labels"]:
                hub.pulls[int(number) - 1]["labels"] += [{"name": name} for name in json.loads(body)["labels"]]
                self._answer(200, [])
            case "GET", ["repos", "o", "r", "issues", number, "comments"]:
                self._answer(200, [{"body": text} for of, text in hub.comments if of == int(number)])
            case "POST", ["repos", "o", "r", "issues", number, "comments"] if hub.locked:
                self._answer(403, {"message": "Unable to create comment because issue is locked."})
            case "POST", ["repos", "o", "r", "issues", number, "comments"]:
                hub.comments.append((int(number), json.loads(body)["body"]))
                self._answer(201, {})
            case _:
                self._answer(404, {"message": "Not Found"})

    def _page(self, query: dict[str, list[str]]) -> None:
        page = int(query.get("page", ["1"])[0])
        found = [each for each in reversed(self.owner.pulls) if each["base"]["ref"] == query["base"][0]]
        shown = [{name: value for name, value in each.items() if name != "merged_by"} for each in found]
        more = f'<{self.owner.url}{urlsplit(self.path).path}?page={page + 1}&base={query["base"][0]}>; rel="next"'
        self._answer(200, shown[(page - 1) * PAGE : page * PAGE], {"Link": more} if len(shown) > page * PAGE else {})

    def _answer(self, status: int, said: Any, headers: dict[str, str] | None = None) -> None:
        if self.owner.dies:
            left, happen = self.owner.dies
            self.owner.dies = (left - 1, happen)
            if left == 1:
                happen()
        data = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _git(self, method: str, path: str, body: bytes) -> None:
        """Git's own server, as a CGI program, for whoever has the token."""
        shown = self.headers.get("Authorization", "")
        if shown != "Basic " + base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode():
            return self._answer(401, {}, {"WWW-Authenticate": 'Basic realm="git"'})
        env = {
            "PATH": os.environ["PATH"],
            **QUIET,
            "GIT_PROJECT_ROOT": str(self.owner.bare.parents[1]),
            "GIT_HTTP_EXPORT_ALL": "1",
        }
        env |= {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": urlsplit(self.path).query, "REMOTE_USER": "x"}
        env |= {"CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body))}
        done = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, check=True)
        head, _, data = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in {**fields, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def log_message(self, format: str, *args: Any) -> None:
        pass
