"""Where the app is: the host and port that it listens on, and the path under which a proxy serves it.

Whether it can listen is known before a model is loaded, and told by what the operator wrote. Knows no Gradio.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
from collections.abc import MutableMapping
from contextlib import ExitStack

HOST = "an address such as 127.0.0.1, ::1 or 0.0.0.0, or a name; the port is --port"
NO_HOST = re.compile(r"[\s/@\[\]%]|^[^:]*:[^:]*$")  # a URL, an address within one network card, host:port
ROOT_PATH = "a path such as /lab, or a whole address such as https://example.org/lab"
BELOW = re.compile(r"(https?://[^/?#\s]+)?(?:/?((?:[\w~-][\w.~-]*/)*[\w~-][\w.~-]*))?/?", re.ASCII)
HERE = "127.0.0.1 or ::1 for this machine alone, 0.0.0.0 or :: to let others in, or a name that leads to one of its own"


def host(given: str) -> str:
    """The host as sockets take it: without the brackets of a URL. Raises ValueError where it is none."""
    name = given.strip()
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    if not name or NO_HOST.search(name):
        raise ValueError(f"--host is {given!r}: must be {HOST}")
    return name


def root_path(given: str) -> str:
    """The root path with a slash before it and none after it; empty for the root itself. Raises ValueError if bad."""
    parts = BELOW.fullmatch(given.strip())
    if parts is None:
        raise ValueError(f"--root-path is {given!r}: must be {ROOT_PATH}")
    begins, path = parts.groups()
    return (begins or "") + (f"/{path}" if path else "")


def bracketed(name: str) -> str:
    """A host as it stands in an address: [::1] for ::1."""
    return f"[{name}]" if ":" in name else name


def is_loopback(name: str) -> bool:
    """Whether only this machine reaches what listens on a host (without brackets)."""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def past_proxies(name: str, environment: MutableMapping[str, str]) -> None:
    """Let no proxy of the environment (HTTP_PROXY, ALL_PROXY) stand between this process and what listens on a host:
    the app asks itself whether it is up, and a company's proxy does not lead back here.
    """
    told = environment.get("no_proxy") or environment.get("NO_PROXY", "")  # the small one counts where both are set
    exempt = ",".join(dict.fromkeys([*filter(None, told.split(",")), "localhost", "127.0.0.1", name]))
    environment["no_proxy"] = environment["NO_PROXY"] = exempt


def free_port(name: str, port: int) -> int:
    """The port to listen on: `port`, or where that is 0, one that is free on every address that `name` leads to.

    name: an address without brackets, or a name. Raises ValueError that names the option, the rule and the remedy.
    """
    try:
        addresses = dict.fromkeys(
            (family, where) for family, *_, where in socket.getaddrinfo(name, port, 0, socket.SOCK_STREAM)
        )
    except (OSError, UnicodeError) as error:  # a name that no network could know is refused by the codec
        raise ValueError(f"--host is {name!r}, which leads nowhere ({error}): must be {HERE}") from None
    with ExitStack() as open_sockets:
        for family, where in addresses:
            listening = open_sockets.enter_context(socket.socket(family, socket.SOCK_STREAM))
            if os.name == "posix":  # as the server does it: elsewhere the option would share a port that is taken
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                listening.bind((where[0], port, *where[2:]))
            except OSError as error:
                raise ValueError(_why(error, name, port)) from None
            port = listening.getsockname()[1]
    return port


def _why(error: OSError, name: str, port: int) -> str:
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        return f"--host is {name!r}, which is no address of this machine: must be {HERE}"
    if error.errno == errno.EADDRINUSE:
        return f"--port is {port}, which is in use on {name}: free it, or choose another one; 0 takes any that is free"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"--port is {port}, which this user may not listen on: choose one from 1024 to 65535"
    return f"cannot listen on {bracketed(name)}:{port} ({error.strerror}): choose another --host or --port"
