"""Where this machine's owner lets images, prompts and keys go: origins, and the environment variable that names them.

    PAVE_JUDGE_HOSTS="https://api.openai.com=PAVE_JUDGE_KEY, http://192.168.1.20:8000"

Origins (scheme://host[:port]) with commas between, each with the variable of the key that may be sent there, if any. A
workflow comes from strangers and cannot set it. This machine itself needs no entry, but a key that goes to it does.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from ...errors import ConfigError, quoted

HOSTS_VARIABLE = "PAVE_JUDGE_HOSTS"
KEY_VARIABLE = re.compile(r"PAVE_[A-Z0-9_]{1,90}")
DEFAULT_PORTS = {"http": 80, "https": 443}
LONGEST = 2000
"""Characters of an address."""
RESTART = "in the environment that starts ComfyUI, and restart it"


@dataclass(frozen=True)
class Origin:
    """Scheme, host and port of an address, in the one form in which they are compared.

    The host is in small letters, without the dot of the root, an address of version 6 in its short form.
    """

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, parts: SplitResult) -> Origin:
        """The origin of a checked address."""
        return cls(parts.scheme, _normal(parts.hostname or ""), parts.port or DEFAULT_PORTS[parts.scheme])

    @property
    def is_loopback(self) -> bool:
        """Whether this is this machine."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}")


def split_address(address: str) -> SplitResult:
    """The parts of an address of a web server. ValueError, which says what is wrong, for any other text."""
    if len(address) > LONGEST:
        raise ValueError(f"has {len(address)} characters")
    if re.search(r"[^!-~]|\\", address):
        raise ValueError("has characters that an address cannot have")
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"is not an address ({error})") from error
    if parts.scheme not in DEFAULT_PORTS or port == 0 or not re.fullmatch(r"[a-z0-9._:%-]+", host or ""):
        raise ValueError("is not an address of a web server")
    if "@" in parts.netloc or parts.query or parts.fragment or address.endswith(("?", "#")):
        raise ValueError("has a user, a query or a fragment in it")
    return parts


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, is this machine. No name but localhost is trusted or looked up."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def allowed() -> dict[Origin, set[str]]:
    """{origin: the variables whose keys may be sent there}, as HOSTS_VARIABLE says. ConfigError if it is malformed."""
    found: dict[Origin, set[str]] = {}
    for entry in filter(None, map(str.strip, os.environ.get(HOSTS_VARIABLE, "").split(","))):
        address, bound, key = (part.strip() for part in entry.partition("="))
        wrong = f"{HOSTS_VARIABLE}: {quoted(entry)}"
        example = f"write it as http://192.168.1.20:8000 or https://api.openai.com=PAVE_JUDGE_KEY, {RESTART}"
        try:
            parts = split_address(address)
        except ValueError as error:
            raise ConfigError(f"{wrong} {error}: {example}") from error
        if parts.path not in ("", "/"):
            raise ConfigError(f"{wrong} has a path: {example}")
        if bound and not KEY_VARIABLE.fullmatch(key):
            raise ConfigError(f"{wrong} binds what is not the name of a variable that begins with PAVE_: {example}")
        found.setdefault(Origin.of(parts), set()).update([key] if bound else [])
    return found


def check_host(origin: Origin) -> None:
    """ConfigError unless images and prompts may go to `origin`, which is another machine."""
    if origin not in allowed():
        raise ConfigError(
            f"base_url: {quoted(str(origin))} is another machine, and a workflow alone cannot send images and prompts "
            f'there: if you want that, set {HOSTS_VARIABLE}="{origin}" {RESTART}'
        )


def check_key(origin: Origin, variable: str) -> None:
    """ConfigError unless the key in `variable` may go to `origin`."""
    if variable not in allowed().get(origin, ()):
        raise ConfigError(
            f"key_variable: the key in {variable} is not for {quoted(str(origin))}: if it is, set "
            f'{HOSTS_VARIABLE}="{origin}={variable}" {RESTART}'
        )


def _normal(host: str) -> str:
    try:
        return ipaddress.ip_address(host).compressed
    except ValueError:
        return host.removesuffix(".")
