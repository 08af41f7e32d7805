"""An entry of agents.yaml as a model: how a coding-agent CLI is started, what its output means, what it may leave.

The docstrings below the fields are their reference; docs/agents.md shows them at work.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from harness.loginspec import Host, Login, Open, plain_name, variable
from harness.value import Positive, Written


def regular(text: str) -> str:
    """Reject what is no regular expression."""
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}") from None
    return text


Kind = Literal["refused", "rate_limited", "auth", "quota", "network", "context", "crashed"]


class PromptSpec(Written):
    """How a CLI takes its prompt."""

    via: Literal["stdin", "arg", "file", "none"] = "stdin"
    """On stdin, as an argument, or as a file whose path is {prompt_file}; `none` for a program that reads no words."""
    flag: str = ""
    """With `via: arg`, the option whose value the prompt is; the last argument when left out."""


class Select(Written):
    """Picks a text out of output that is a JSON object a line. The last line that fits counts."""

    where: dict[str, str | bool | int] = {}
    """What a line has to be: paths such as `item.type` and their values. A number in a path is a place in a list."""
    take: str
    """The path of the text."""
    join: bool = False
    """Take all lines that fit, one after the other: for text that comes in pieces."""


class OutputSpec(Written):
    """What the output of a CLI says."""

    format: Literal["text", "json_lines"] = "text"
    """Plain text, or a JSON object a line; lines that are none are passed over."""
    text: Select | None = None
    """The agent's last message, which stands in for EXPERIMENT.md where it wrote none."""
    pattern: Annotated[str, AfterValidator(regular)] = ""
    """With plain text, a regular expression whose first group is that message; the end of the output when left out."""
    errors: list[Select] = []
    """Messages that say that the work failed. Several CLIs exit with 0 all the same."""
    session: Select | None = None
    """The id of the session, for {session} in `resume`."""


class ErrorRule(Written):
    """What a message of a CLI means."""

    match: Annotated[str, AfterValidator(regular)]
    """A regular expression; case and line breaks make no difference."""
    kind: Kind
    """What it says; docs/agents.md tells what the harness does next."""


class Reply(Written):
    """What a person would type at one screen of an interactive CLI."""

    pattern: Annotated[str, AfterValidator(regular)]
    """A regular expression that the screen shows, without colours."""
    send: str
    """What is typed, with the placeholders of argv and {prompt}; a carriage return is written \\r."""
    times: Annotated[int, Field(ge=1)] = 1
    """How often at most."""


class Retry(Written):
    """How often a proposal is asked for again when the provider was busy or could not be reached."""

    times: Annotated[int, Field(ge=0)] = 3
    """How often at most; after that the experiment is void."""
    wait_s: Positive = 20
    """Seconds before the first time; each wait after it is three times as long."""


class Provider(Written):
    """Where an agent's model requests go. The gateway sends them there and adds the key, which no sandbox ever holds."""

    api: Literal["anthropic", "openai-chat", "openai-responses", "gemini"]
    """The protocol that the agent speaks; only its model endpoints are passed on."""
    url: str = ""
    """The provider's base URL as its own clients take it (OpenAI's ends in /v1); the protocol's owner when left out."""
    key_env: str | list[str] = []
    """The variable that holds the key, or several, of which the first that is set counts."""
    key_cmd: list[str] = []
    """A command that prints the key; it is run again when the provider refuses the key. Comes after the variables."""
    auth: Literal["auto", "bearer", "x-api-key", "x-goog-api-key"] = "auto"
    """The header that takes the key; by default the protocol's own, and a bearer for the token of a Claude subscription."""
    web: Literal["off", "search"] = "off"
    """Whether the provider's own web search may be used; nothing else on the internet can be."""

    @field_validator("key_env")
    @classmethod
    def names_variables(cls, names: str | list[str]) -> str | list[str]:
        """Reject what is no name of a variable, above all a key."""
        for name in [names] if isinstance(names, str) else names:
            variable(name)
        return names

    @property
    def variables(self) -> list[str]:
        """The names in `key_env`."""
        return [self.key_env] if isinstance(self.key_env, str) else self.key_env

    @model_validator(mode="after")
    def guards_the_key(self) -> Provider:
        """Reject a URL that is none, and one over which a key would be sent in the open."""
        if not self.url:
            return self
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
            raise ValueError(f"url: {self.url!r} is not a base URL such as https://api.example.com/v1")
        keyed, local = bool(self.variables or self.key_cmd), parts.hostname in ("127.0.0.1", "::1", "localhost")
        if parts.scheme == "http" and keyed and not local:
            raise ValueError(f"url: {self.url!r} would send the key unencrypted: use https")
        return self


ACP_OUTPUT = {
    "format": "json_lines",
    "text": {"where": {"type": "said"}, "take": "text"},
    "errors": [{"where": {"type": "failed"}, "take": "message"}],
}


class AgentSpec(Written):
    """One entry of agents.yaml."""

    name: Annotated[str, AfterValidator(plain_name)]
    """The entry's name, as `--agent` takes it."""
    driver: Literal["exec", "tty", "acp"] = "exec"
    """`exec` starts the program, gives it the prompt and waits for its end; `tty` does so at a terminal, see `expect`; `acp`
    speaks the Agent Client Protocol with it, which needs neither `prompt` nor `output`."""
    argv: Annotated[list[Open], Field(min_length=1)]
    """The command line, no shell string; {python} {model} {file} {prompt_file} {home} {seed} {base_url} {key} are filled in."""
    prompt: PromptSpec = PromptSpec()
    """How it takes its prompt."""
    model: str = ""
    """The name of the model, for {model}."""
    provider: Provider | None = None
    """Its LLM provider: {base_url} (without /v1) and {key}, which is worth nothing outside, lead there through the gateway."""
    network: Literal["gateway", "provider"] = "gateway"
    """`provider` is weaker, for a login that no gateway can stand in for: past it, to `hosts` alone, with the login inside."""
    hosts: list[Host] = []
    """With `network: provider`, the hosts that may be reached, by HTTPS and by these very names."""
    login: Login | None = None
    """With `network: provider`, the login, which a proposal has for itself while it works and can read."""
    fallback: str = ""
    """Another entry, which proposes while this one's provider makes it wait for a new quota."""
    env: dict[str, Open] = {}
    """Variables for this agent alone, with the same placeholders as argv."""
    home_files: dict[str, Open] = {}
    """Files of the private HOME that every proposal starts with: path -> text, with the same placeholders."""
    output: OutputSpec = OutputSpec()
    """What its output says."""
    resume: list[str] = []
    """What argv ends with to go on with an earlier session, whose id is {session}; see `context`."""
    context: Literal["fresh", "resume"] = "fresh"
    """`fresh` starts every proposal anew; `resume` goes on with the CLI's own session, in a private HOME that lasts the night."""
    errors: list[ErrorRule] = []
    """What its messages mean, beside the words that are common to providers."""
    ok_exit_codes: list[int] = [0]
    """Exit codes that are no failure; what counts is the file that the agent left."""
    retry: Retry | None = None
    """How often it is asked again after words of a busy provider or none in reach; without a provider only if this is given."""
    repairs: Annotated[int, Field(ge=0)] | None = None
    """How often it may mend a change that crashed, and is told when it repeats one or made none; 1 with a provider, else 0."""
    expect: list[Reply] = []
    """With `driver: tty`, what to type at which screen."""
    litter: list[str] = []
    """Globs of files that the CLI itself leaves in the worktree; the record does not list them as dropped."""
    program: str = ""
    """A file that this agent is told instead of the task's program, relative to the root of the repository."""
    version_cmd: list[str] = []
    """Prints the version that goes into the record."""
    install: str = ""
    """How to get the program, for the message that it is missing."""

    @model_validator(mode="before")
    @classmethod
    def says_what_its_driver_notes(cls, data: Any) -> Any:
        """An agent of the driver `acp` says what the protocol lets it say."""
        return {"output": ACP_OUTPUT, **data} if isinstance(data, dict) and data.get("driver") == "acp" else data

    @field_validator("context")
    @classmethod
    def can_resume(cls, context: str, info: ValidationInfo) -> str:
        """Reject `resume` where nothing says how."""
        output = info.data.get("output")
        if context == "resume" and not (info.data.get("resume") and output and output.session and info.data["driver"] != "acp"):
            raise ValueError("this agent cannot resume a session: `resume` and, below `output`, `session` have to say how")
        return context

    @model_validator(mode="after")
    def has_one_way_out(self) -> AgentSpec:
        """Reject a mixture of the two ways to a provider, and half of the weaker one."""
        if self.network == "gateway":
            if self.hosts or self.login:
                raise ValueError("`hosts` and `login` belong to `network: provider`: add that, or leave them out")
            return self
        if not self.hosts or not self.login:
            raise ValueError(
                "`network: provider` wants to know which `hosts` may be reached, and of which files the `login` consists"
            )
        if self.provider:
            raise ValueError("`network: provider` goes past the gateway: leave `provider` out, or better `network`")
        if self.context == "resume":
            raise ValueError("with `network: provider` every proposal begins anew: leave out `context: resume`")
        texts = [*self.argv, *self.resume, *self.env.values(), *self.home_files.values()]
        if found := next((name for name in ("{base_url}", "{key}") if any(name in text for text in texts)), None):
            raise ValueError(f"{found} is the gateway's, and `network: provider` goes past it: let the program use its own login")
        return self

    @property
    def outside(self) -> bool:
        """Whether it needs an LLM provider, by either way."""
        return self.provider is not None or self.network == "provider"

    @property
    def patience(self) -> Retry | None:
        """`retry`, or its default; None for what needs nobody outside, whose words about networks mean something else."""
        return self.retry or (Retry() if self.outside else None)

    @property
    def more_tries(self) -> int:
        """`repairs`, or its default: programs that ask no model would only do the same again."""
        return (1 if self.outside else 0) if self.repairs is None else self.repairs
