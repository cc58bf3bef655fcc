"""The address of a server, how long to wait for it, and the key that it wants."""

from __future__ import annotations

import ipaddress
import math
import os
import re
from dataclasses import KW_ONLY, dataclass
from urllib.parse import SplitResult, urlsplit

from ...errors import ConfigError

KEY_VARIABLE = re.compile(r"PAVE_[A-Z0-9_]+")
_EXAMPLE = "write it as http://127.0.0.1:8000/v1"


@dataclass(frozen=True)
class Endpoint:
    """Where requests go, and how patiently. ConfigError for settings that cannot work.

    base_url: such as http://127.0.0.1:8000/v1; on this machine unless allow_remote.
    timeout: seconds for one reply, from its request to its last byte.
    retries: further attempts after a bad reply, with pauses of back_off, 2 back_off, 4 back_off, ... seconds.
    key_variable: the environment variable that holds the API key, if there is one; its name begins with PAVE_, so that
    no workflow can send other secrets of the environment away.
    """

    base_url: str
    allow_remote: bool = False
    _: KW_ONLY
    timeout: float = 60.0
    retries: int = 2
    key_variable: str = ""
    back_off: float = 0.5

    def __post_init__(self) -> None:
        self._check_address()
        if not (math.isfinite(self.timeout) and self.timeout > 0):
            raise ConfigError(f"timeout: {self.timeout} is not a positive number of seconds: 60 is patient")
        if not 0 <= self.retries <= 20:
            raise ConfigError(f"retries: {self.retries} is outside [0, 20]: 2 gets over a server that stumbles")
        if self.key_variable and not KEY_VARIABLE.fullmatch(self.key_variable):
            raise ConfigError(
                f"key_variable: {self.key_variable!r} does not begin with PAVE_: put the key into an environment "
                "variable such as PAVE_JUDGE_KEY, give that name here, and never the key itself"
            )
        self.headers()

    @property
    def parts(self) -> SplitResult:
        """The address in its parts."""
        return urlsplit(self.base_url)

    def url(self, path: str) -> str:
        """The address of `path`, such as /score, below base_url."""
        return self.base_url.rstrip("/") + path

    def headers(self) -> dict[str, str]:
        """The headers of a request, the key among them. ConfigError where the key's variable is not set."""
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Connection": "close"}
        if not self.key_variable:
            return headers
        key = os.environ.get(self.key_variable, "").strip()
        if not re.fullmatch(r"[!-~]+", key):
            raise ConfigError(
                f"key_variable: {self.key_variable} holds no API key in ComfyUI's environment: set it and restart, "
                "or leave this empty"
            )
        return headers | {"Authorization": f"Bearer {key}"}

    def _check_address(self) -> None:
        wrong = f"base_url: {self.base_url!r}"
        if re.search(r"[^!-~]|\\", self.base_url):
            raise ConfigError(f"{wrong} has characters that an address cannot have: {_EXAMPLE}")
        try:
            parts, host, port = self.parts, self.parts.hostname, self.parts.port
        except ValueError as error:
            raise ConfigError(f"{wrong} is not an address ({error}): {_EXAMPLE}") from error
        if parts.scheme not in ("http", "https") or not host or port == 0:
            raise ConfigError(f"{wrong} is not an address of a web server: {_EXAMPLE}")
        if "@" in parts.netloc or parts.query or parts.fragment or self.base_url.endswith(("?", "#")):
            raise ConfigError(
                f"{wrong} has a user, a query or a fragment in it: leave those out; an API key goes into the variable "
                "of key_variable"
            )
        if not self.allow_remote and not is_loopback(host):
            raise ConfigError(
                f"{wrong} is not on this machine: use 127.0.0.1, ::1 or localhost; or switch allow_remote on, and "
                f"images and prompts go to {host}"
            )


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, is this machine. No name but localhost is trusted or looked up."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
