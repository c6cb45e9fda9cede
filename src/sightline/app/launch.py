"""Streamlit's own command line, kept from asking a site elsewhere for this machine's address.

It would do so for each request that comes from another site's page, to compare the two.
"""

from __future__ import annotations

from streamlit import net_util
from streamlit.web import cli

__all__ = ["main"]


def main() -> None:
    """Run what the arguments say."""
    net_util.get_external_ip = _unknown
    cli.main(prog_name="streamlit")


def _unknown() -> str | None:
    return None


if __name__ == "__main__":
    main()
