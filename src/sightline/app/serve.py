"""Start the app's server: bound to this machine unless asked otherwise, without usage statistics."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from importlib import resources, util

from sightline.app.settings import VARIABLE, Settings
from sightline.errors import ModelError, ParameterError

__all__ = ["command", "free_port", "serve"]

FIRST_PORT = 8501
_TRIED = 50
_THEMES = {
    "light": {
        "primaryColor": "#1f6f8b",
        "backgroundColor": "#ffffff",
        "secondaryBackgroundColor": "#f4f6f8",
        "textColor": "#1f2328",
    },
    "dark": {
        "primaryColor": "#6cc3de",
        "backgroundColor": "#14181d",
        "secondaryBackgroundColor": "#1f252c",
        "textColor": "#e8ebee",
    },
}


def serve(settings: Settings, host: str = "127.0.0.1", port: int | None = None) -> None:
    """Replace this process by the server of the app, which ends on Ctrl-C.

    ``port`` None takes the first free one from 8501. Raises ModelError where Streamlit is not installed and
    ParameterError for an address that cannot be bound.
    """
    if util.find_spec("streamlit") is None:
        raise ModelError("the app needs Streamlit; run: pip install 'sightline[app]'")
    chosen = free_port(host, port)
    os.environ[VARIABLE] = settings.to_json()
    sys.stdout.write(f"Sightline: http://{_shown(host)}:{chosen}  (Ctrl-C stops it)\n")
    sys.stdout.flush()
    os.execv(sys.executable, command(settings, host, chosen))  # noqa: S606  the same interpreter, no shell


def command(settings: Settings, host: str, port: int) -> list[str]:
    """Return the command line of the server."""
    options = {
        "server.headless": "true",
        "server.address": host,
        "server.port": str(port),
        "server.maxUploadSize": str(settings.upload_mb),
        "server.fileWatcherType": "none",
        "server.showEmailPrompt": "false",
        "server.disconnectedSessionTTL": "15",
        "browser.gatherUsageStats": "false",
        "browser.serverAddress": _shown(host),
        "client.showErrorDetails": "none",
        "client.toolbarMode": "minimal",
        "logger.hideWelcomeMessage": "true",
        "theme.font": "sans-serif",
        "theme.headingFontSizes": '["1.9rem","1.5rem","1.2rem","1.05rem"]',
        "theme.paddingTop": "1rem",
    }
    options |= {f"theme.{base}.{name}": value for base, look in _THEMES.items() for name, value in look.items()}
    script = str(resources.files("sightline.app").joinpath("script", "main.py"))
    return [sys.executable, "-m", "streamlit", "run", script, *(f"--{name}={value}" for name, value in options.items())]


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
    except socket.gaierror:
        raise ParameterError(
            f"--host {host}: no such address; wanted one of this machine, such as 127.0.0.1."
        ) from None
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(address)
        except OSError as error:
            return (error.strerror or str(error)).lower()
    return None


def _shown(host: str) -> str:
    """Return the address to open in a browser: any address of this machine is its own."""
    try:
        return "127.0.0.1" if ipaddress.ip_address(host).is_unspecified else host
    except ValueError:
        return host
