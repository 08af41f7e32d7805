"""GitHub, and GitHub Enterprise Server: a pull request for each experiment that waits."""

from __future__ import annotations

import os
import re
import shutil
import sys
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.forges.rest import Denied, Rest, Unprocessable
from harness.forges.texts import current, mark, renewed, sealed, signed
from harness.models import UserError
from harness.process import clean_env, run
from harness.protocols import Answer, Launch, Offer

SSH = re.compile(r"(?:ssh://)?(?:[\w.-]+@)?([\w.-]+)[:/]([\w.-]+)/([\w.-]+?)(?:\.git)?/?")
HTTPS = re.compile(r"https://(?:[^/@]*@)?([\w.-]+)/([\w.-]+)/([\w.-]+?)(?:\.git)?/?")
FOR_GH = ("XDG_CONFIG_HOME", "GH_CONFIG_DIR", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR")


def address(url: str) -> tuple[str, str] | None:
    """Host and owner/name of a remote that is on GitHub, or on the server that GH_HOST names; None for others."""
    found = HTTPS.fullmatch(url) or SSH.fullmatch(url)
    return (found[1], f"{found[2]}/{found[3]}") if found and found[1] in ("github.com", os.environ.get("GH_HOST")) else None


class GitHub:
    """A repository there. The token is asked for when it is needed, and kept in memory only."""

    name = "github"
    records = False

    def __init__(self, host: str, repository: str) -> None:
        """`repository` is owner/name; nothing is asked yet."""
        self._host, self._repository = host, repository
        self.url = f"https://{host}/{repository}.git"
        self._known: list[dict[str, Any]] | None = None

    def token(self) -> str:
        """The token, which git may show to this host."""
        return self._token

    @cached_property
    def _token(self) -> str:
        return token(self._host)

    @cached_property
    def _rest(self) -> Rest:
        usual = "https://api.github.com" if self._host == "github.com" else f"https://{self._host}/api/v3"
        return Rest(os.environ.get("GITHUB_API_URL") or usual, self._token, self._tell)

    def _tell(self, said: str) -> None:
        print(said, file=sys.stderr)

    def offer(self, offer: Offer) -> str:
        """Open a pull request; or bring that which there is up to date, and finish what an interrupted one left to do."""
        if known := self._find(offer):
            if known["state"] == "open" and not any(str(each.get("name")) == offer.label for each in known.get("labels") or []):
                self._label(known, offer)
            self.update(offer)
            return str(known["html_url"])
        body = {"title": offer.title, "head": offer.branch, "base": offer.into, "body": sealed(offer)}
        try:
            made = self._rest.post(f"/repos/{self._repository}/pulls", body)
        except Unprocessable as refused:
            self._known = None  # somebody made it meanwhile, or an earlier answer of GitHub was lost
            if known := self._find(offer):
                return str(known["html_url"])
            raise UserError(f"GitHub did not open a pull request for {offer.branch}: {refused}") from None
        self._known = [*(self._known or []), made]
        self._label(made, offer)
        return str(made["html_url"])

    def _label(self, pull: dict[str, Any], offer: Offer) -> None:
        with suppress(Unprocessable, Denied):  # no label is no reason to stop
            self._rest.post(f"{self._issue(pull)}/labels", {"labels": [offer.label]})

    def update(self, offer: Offer) -> None:
        """Comments first and the text last, which says by its last line that both are done. What people closed stays as it is."""
        pull = self._find(offer)
        if pull is None or (pull["state"] != "open" and not pull.get("merged_at")):
            return
        text = str(pull.get("body") or "")
        if current(text, offer):
            return
        try:
            for note in offer.notes:
                self._comment(pull, note)
            if pull["state"] == "open" and (new := renewed(text, offer)):
                pull["body"] = self._rest.patch(f"/repos/{self._repository}/pulls/{pull['number']}", {"body": new})["body"]
        except (Unprocessable, Denied) as refused:  # a conversation may be locked
            self._tell(f"{pull['html_url']} was not brought up to date: {refused}")

    def _comment(self, pull: dict[str, Any], note: str) -> None:
        text, sign = signed(note)
        if not any(sign in str(each.get("body") or "") for each in self._rest.pages(f"{self._issue(pull)}/comments")):
            self._rest.post(f"{self._issue(pull)}/comments", {"body": text})

    def _issue(self, pull: dict[str, Any]) -> str:
        return f"/repos/{self._repository}/issues/{pull['number']}"

    def answers(self, offers: list[Offer]) -> dict[str, Answer]:
        """Merged is accepted, closed is rejected."""
        found = {}
        for offer in offers:
            pull = self._find(offer)
            if pull is None or pull["state"] == "open":
                continue
            if pull.get("merged_at"):
                found[offer.experiment] = self._answer("accept", pull, offer.commit, pull.get("merge_commit_sha"))
            else:
                found[offer.experiment] = self._answer("reject", pull, offer.commit, None)
        return found

    def _answer(self, kind: Any, pull: dict[str, Any], commit: str, merged: str | None) -> Answer:
        """Who it was is not part of a list, so the one pull request is asked for."""
        full = self._rest.get(f"/repos/{self._repository}/pulls/{pull['number']}")
        who = full.get("merged_by") or {}
        done = f"{'merged' if kind == 'accept' else 'closed'} {pull['html_url']}"
        if kind == "accept" and pull["head"].get("sha") not in (None, commit):
            done += "; what others had added to its branch was not measured, and is no part of it"
        return Answer(kind, str(who.get("login") or "somebody on GitHub"), merged, done)

    def _find(self, offer: Offer) -> dict[str, Any] | None:
        """The pull request of an offer, from its branch, which lies in this very repository: the open one, of which there is at
        most one, or a closed one of the same commit, for an earlier night may have had such a branch, too.
        """
        if self._known is None:
            query = {"state": "all", "base": offer.into, "sort": "created", "direction": "desc"}
            listed = list(self._rest.pages(f"/repos/{self._repository}/pulls", **query))
            self._known = [each for each in listed if self._ours(each)]
        found = [each for each in self._known if each["head"]["ref"] == offer.branch]
        return next((each for each in found if each["state"] == "open" or self._same(each, offer)), None)

    def _same(self, pull: dict[str, Any], offer: Offer) -> bool:
        return pull["head"].get("sha") == offer.commit or mark(offer) in str(pull.get("body") or "")

    def _ours(self, pull: dict[str, Any]) -> bool:
        return str((pull["head"].get("repo") or {}).get("full_name", "")).lower() == self._repository.lower()


def token(host: str) -> str:
    """The token of the environment, or the one that GitHub's own command line keeps."""
    for name in ("GH_TOKEN", "GITHUB_TOKEN"):
        if found := os.environ.get(name, "").strip():
            return found
    if gh := shutil.which("gh"):
        extra = {name: os.environ[name] for name in FOR_GH if name in os.environ}
        launch = Launch((gh, "auth", "token", "--hostname", host), clean_env(**extra), Path("/"))
        ended = run(launch, Path(os.devnull), 30)
        if ended.code == 0 and (found := ended.tail.strip()) and not re.search(r"\s", found):
            return found
    raise UserError(f"there is no token for {host}: run `gh auth login`, or set GH_TOKEN")
