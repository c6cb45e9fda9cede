"""Start the app's server: bound to this machine unless asked otherwise, without usage statistics."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import sys
from importlib import resources, util

from sightline.app.settings import VARIABLE, Settings
from sightline.errors import ModelError, ParameterError, SightlineError

__all__ = ["command", "free_port", "serve"]

FIRST_PORT = 8501
_TRIED = 50
_LATER = 60  # seconds after which Streamlit itself would forget a session that the app has closed by then
_WANTED = "wanted one of this machine, such as 127.0.0.1"
_THEMES = {
    "light": {
        "primaryColor": "#1f6f8b",
        "backgroundColor": "#ffffff",
        "secondaryBackgroundColor": "#f4f6f8",
        "textColor": "#1f2328",
    },
    "dark": {
        "primaryColor": "#2d83a0",
        "backgroundColor": "#14181d",
        "secondaryBackgroundColor": "#1f252c",
        "textColor": "#e8ebee",
    },
}


# What a configuration of the visitor's own or of the folder must not open again.
_CLOSED = {
    "browser.gatherUsageStats": "false",
    "client.showErrorDetails": "none",
    "client.showErrorLinks": "false",
    "server.baseUrlPath": "",
    "server.enableAgentApi": "false",
    "server.enableCORS": "true",
    "server.enableStaticServing": "false",
    "server.enableXsrfProtection": "true",
    "server.showEmailPrompt": "false",
}


def serve(settings: Settings, host: str = "127.0.0.1", port: int | None = None) -> None:
    """Replace this process by the server of the app, which ends on Ctrl-C.

    ``port`` None takes the first free one from 8501. Raises ModelError where Streamlit is not installed, what
    `load` raises for a model that cannot be had, and ParameterError for an address that cannot be bound.
    """
    if util.find_spec("streamlit") is None:
        raise ModelError("the app needs Streamlit; run: pip install 'sightline[app]'")
    _check_models(settings)
    chosen = free_port(host, port)
    os.environ[VARIABLE] = settings.to_json()
    sys.stdout.write(f"Sightline: http://{_shown(host)}:{chosen}  (Ctrl-C stops it)\n")
    sys.stdout.flush()
    os.execv(sys.executable, command(settings, host, chosen))  # noqa: S606  the same interpreter, no shell


def _check_models(settings: Settings) -> None:
    """Raise what `load` raises for a model that cannot be had: before the visitors are there, not in front of them."""
    from sightline.models.load import load

    for name in settings.models:
        try:
            load(name, labels=settings.labels)
        except SightlineError as error:
            raise type(error)(f"--model {name}: {error}") from None


def command(settings: Settings, host: str, port: int) -> list[str]:
    """Return the command line of the server."""
    options = {
        **_CLOSED,
        "server.headless": "true",
        "server.address": host,
        "server.port": str(port),
        "server.maxUploadSize": str(settings.upload_mb),
        "server.fileWatcherType": "none",
        "server.disconnectedSessionTTL": str(settings.keep_seconds + _LATER),
        "browser.serverAddress": _shown(host),
        "client.toolbarMode": "minimal",
        "logger.hideWelcomeMessage": "true",
        "logger.level": "error",
        "theme.font": "sans-serif",
        "theme.headingFontSizes": '["1.9rem","1.5rem","1.2rem","1.05rem"]',
        "theme.paddingTop": "1rem",
    }
    options |= {f"theme.{base}.{name}": value for base, look in _THEMES.items() for name, value in look.items()}
    script = str(resources.files("sightline.app").joinpath("script", "main.py"))
    given = [*options.items(), *(("server.allowedHosts", name) for name in _known_as(host))]
    return [
        sys.executable,
        "-m",
        "sightline.app.launch",
        "run",
        script,
        *(f"--{name}={value}" for name, value in given),
    ]


def _known_as(host: str) -> tuple[str, ...]:
    """Return the names under which the app is asked for, so that no other site's name can lead to it.

    None, which is any, where it listens on all addresses: which names lead to those is not known here.
    """
    address = _address(host)
    if address is None:
        return ("127.0.0.1", "localhost") if host == "localhost" else (host,)
    if address.is_unspecified:
        return ()
    return (host, "localhost") if address.is_loopback else (host,)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a host's text is, None where it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def free_port(host: str, port: int | None) -> int:
    """Return ``port``, or the first free one from 8501; raise ParameterError where it cannot be bound."""
    for candidate in (port,) if port is not None else range(FIRST_PORT, FIRST_PORT + _TRIED):
        why = _refusal(host, candidate)
        if why is None:
            return candidate
        if port is not None:
            raise ParameterError(f"--port {port}: {why}; give another --port, or none for the first that is free.")
    raise ParameterError(f"no port from {FIRST_PORT} to {FIRST_PORT + _TRIED - 1} can be bound on {host}; give --port.")


def _refusal(host: str, port: int) -> str | None:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError):
        raise ParameterError(f"--host {host!r}: no such address; {_WANTED}.") from None
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise ParameterError(f"--host {host}: no address of this machine; {_WANTED}.") from None
            return (error.strerror or str(error)).lower()
    return None


def _shown(host: str) -> str:
    """Return the address to open in a browser: any address of this machine is its own."""
    address = _address(host)
    if address is None or not address.is_unspecified:
        return f"[{host}]" if address is not None and address.version == 6 else host
    return "127.0.0.1" if address.version == 4 else "[::1]"
