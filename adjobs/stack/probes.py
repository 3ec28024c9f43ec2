"""What answers a stranger: requests to ports without any credentials, and addresses on which processes listen."""

from __future__ import annotations

import http.client
import ipaddress
import stat
import urllib.error
import urllib.request
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import psutil

from adjobs.errors import one_line
from adjobs.stack.certificates import requires_certificate

SECONDS = 5.0
_REFUSALS, _FIRST_ERROR = (401, 403), 400


class Exposure(StrEnum):
    """Whether strangers get in."""

    CLOSED = "closed"
    OPEN = "open"
    UNKNOWN = "unknown"


class Check(NamedTuple):
    """One thing that should be closed.

    Attributes:
        what: the thing.
        exposure: what it is.
        detail: by what this is known.
    """

    what: str
    exposure: Exposure
    detail: str


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object, **__: object) -> None:
        return None


_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)


def check_http(what: str, url: str) -> Check:
    """Whether a GET without credentials is refused with 401 or 403."""
    try:
        with _opener.open(url, timeout=SECONDS) as response:
            status = int(response.status)
    except urllib.error.HTTPError as error:
        status = error.code
    except (OSError, http.client.HTTPException) as error:
        return Check(what, Exposure.UNKNOWN, f"{url} does not answer ({one_line(error)})")
    if status in _REFUSALS:
        return Check(what, Exposure.CLOSED, f"{url} refuses ({status})")
    exposure = Exposure.OPEN if status < _FIRST_ERROR else Exposure.UNKNOWN
    return Check(what, exposure, f"{url} answers {status} without credentials")


def read_with_token(url: str, token: str) -> bytes | None:
    """The answer to a GET with a bearer token; None unless it succeeds."""
    try:
        with _opener.open(urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"}), timeout=SECONDS) as response:
            answer: bytes = response.read()
            return answer
    except (OSError, http.client.HTTPException):
        return None


def check_grpc(what: str, host: str, port: int, method: str) -> Check:
    """Whether a gRPC call without a token is refused.

    Args:
        what: the thing.
        host: of the port.
        port: where plain gRPC is spoken.
        method: a method that the server has, ``/package.Service/Method``; it is called with an empty message.
    """
    import grpc

    place = f"{host}:{port}{method}"
    with grpc.insecure_channel(f"{host}:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)(b"", timeout=SECONDS)
        except grpc.RpcError as error:
            code = error.code()
        else:
            return Check(what, Exposure.OPEN, f"{place} answers without a token")
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return Check(what, Exposure.CLOSED, f"{host}:{port} refuses ({code.name})")
    silent = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNIMPLEMENTED}
    exposure = Exposure.UNKNOWN if code in silent else Exposure.OPEN  # another error is that of the method, which ran
    return Check(what, exposure, f"{place} answers {code.name}")


def check_certificate(what: str, host: str, port: int) -> Check:
    """Whether a client without a certificate is refused."""
    is_required = requires_certificate(host, port)
    if is_required is None:
        return Check(what, Exposure.UNKNOWN, f"{host}:{port} does not answer")
    if is_required:
        return Check(what, Exposure.CLOSED, f"{host}:{port} asks for a certificate")
    return Check(what, Exposure.OPEN, f"{host}:{port} answers without a certificate")


def check_listeners(processes: Iterable[psutil.Process]) -> list[Check]:
    """Whether processes listen on loopback addresses alone, and on no Unix socket that other users may write to."""
    outside: list[str] = []
    writable: list[str] = []
    count = 0
    for process in processes:
        try:
            name = process.name()
            listening = [socket for socket in process.net_connections("tcp") if socket.status == psutil.CONN_LISTEN]
            paths = [str(socket.laddr) for socket in process.net_connections("unix")]
        except psutil.Error:
            continue
        count += len(listening)
        addresses = [socket.laddr for socket in listening if not _is_loopback(socket.laddr.ip)]
        outside += [f"{address.ip} port {address.port} ({name}, process {process.pid})" for address in addresses]
        writable += [f"{path} ({name})" for path in paths if _others_can_write(path)]
    return [
        check_places("addresses", outside, f"{count} ports, all on loopback addresses"),
        check_places("Unix sockets", sorted(set(writable)), "none that others may write to"),
    ]


def check_places(what: str, places: list[str], otherwise: str) -> Check:
    """Open if there are places, which are then the detail instead of ``otherwise``."""
    return Check(what, Exposure.OPEN if places else Exposure.CLOSED, ", ".join(places) or otherwise)


def _is_loopback(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


def _others_can_write(path: str) -> bool:
    """Whether another user could connect to a socket; one without a file has no permissions."""
    if not path.startswith("/"):
        return path.startswith(("@", "\0"))
    return bool(mode_of(Path(path)) & stat.S_IWOTH) and others_can_enter(Path(path).parent)


def others_can_enter(folder: Path) -> bool:
    """Whether another user can come to the files of a folder."""
    return all(mode_of(path) & stat.S_IXOTH for path in (folder, *folder.parents))


def mode_of(path: Path) -> int:
    """Permissions of a path; none if it is gone."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0
