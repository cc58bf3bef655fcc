"""The address of a server, how long to wait for it, and the key that it wants."""

from __future__ import annotations

import os
import re
from dataclasses import KW_ONLY, dataclass
from urllib.parse import SplitResult, urlsplit

from ...config.fields import check, setting
from ...errors import ConfigError, quoted
from .consent import HOSTS_VARIABLE, KEY_VARIABLE, Origin, check_host, check_key, split_address


@dataclass(frozen=True)
class Endpoint:
    """Where requests go, and how patiently. ConfigError for settings that cannot work.

    base_url: such as http://127.0.0.1:8000/v1; on this machine, or with allow_remote one that PAVE_JUDGE_HOSTS names.
    timeout: seconds for one reply, from its request to its last byte.
    retries: further attempts after a bad reply, with pauses of back_off, 2 back_off, 4 back_off, ... seconds.
    key_variable: the environment variable that holds the API key, if there is one. PAVE_JUDGE_HOSTS binds it to its
    origin, and its name begins with PAVE_: no workflow can send a key or another secret of the environment elsewhere.
    """

    base_url: str = setting(
        "http://127.0.0.1:8000/v1",
        "The server's address, to which /chat/completions or /score is added. On this machine; on another one only "
        f"with allow_remote and the owner's consent in {HOSTS_VARIABLE}.",
    )
    allow_remote: bool = setting(
        False,
        "Off: only servers on this machine. On: also a server that ComfyUI's environment names in "
        f"{HOSTS_VARIABLE}; images and prompts are sent there.",
    )
    _: KW_ONLY
    timeout: float = setting(
        60.0, "Seconds to wait for one complete reply.", low=0.1, high=3600.0, remedy="60 is patient"
    )
    retries: int = setting(
        2,
        "How often a request is repeated after a bad reply or none.",
        low=0,
        high=20,
        remedy="2 gets over a server that stumbles",
    )
    key_variable: str = setting(
        "",
        "The name of an environment variable that holds the API key, beginning with PAVE_, such as PAVE_JUDGE_KEY; "
        f"{HOSTS_VARIABLE} says which server it is for. Never the key itself: workflows are shared. Empty: no key.",
    )
    back_off: float = 0.5

    def __post_init__(self) -> None:
        check(self)
        wrong = f"base_url: {quoted(self.base_url)}"
        try:
            split_address(self.base_url)
        except ValueError as error:
            remedy = "write it as http://127.0.0.1:8000/v1; an API key goes into the variable of key_variable"
            raise ConfigError(f"{wrong} {error}: {remedy}") from error
        if not self.origin.is_loopback:
            if not self.allow_remote:
                raise ConfigError(
                    f"{wrong} is not on this machine: use 127.0.0.1, ::1 or localhost; or name it in {HOSTS_VARIABLE} "
                    "and switch allow_remote on, and images and prompts go there"
                )
            check_host(self.origin)
        if self.key_variable and not KEY_VARIABLE.fullmatch(self.key_variable):
            raise ConfigError(
                f"key_variable: {quoted(self.key_variable)} does not begin with PAVE_: put the key into an environment "
                "variable such as PAVE_JUDGE_KEY, give that name here, and never the key itself"
            )
        self.headers()

    @property
    def parts(self) -> SplitResult:
        """The address in its parts."""
        return urlsplit(self.base_url)

    @property
    def origin(self) -> Origin:
        """Scheme, host and port."""
        return Origin.of(self.parts)

    def url(self, path: str) -> str:
        """The address of `path`, such as /score, below base_url."""
        return self.base_url.rstrip("/") + path

    def headers(self) -> dict[str, str]:
        """The headers of a request, the key among them.

        ConfigError where the key is not for this server, or its variable is not set.
        """
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Connection": "close"}
        if not self.key_variable:
            return headers
        check_key(self.origin, self.key_variable)
        key = os.environ.get(self.key_variable, "").strip()
        if not re.fullmatch(r"[!-~]+", key):
            raise ConfigError(
                f"key_variable: {self.key_variable} holds no API key in ComfyUI's environment: set it and restart, "
                "or leave this empty"
            )
        return headers | {"Authorization": f"Bearer {key}"}

    def without_key(self, text: str) -> str:
        """`text` with the key struck out: some servers repeat it in an error, which goes into the log."""
        key = self.headers().get("Authorization", "").removeprefix("Bearer ")
        return text.replace(key, "***") if key else text
