"""Training runs: side by side, epoch by epoch, and what each came to."""

from __future__ import annotations

import streamlit as st

from sightline.app.parts.reporting import chosen_report, found_reports
from sightline.app.parts.runs import compared, listed, running, trained_view
from sightline.app.parts.work import told

__all__ = ["page"]

_NONE = """\
There is no training below the folder that the app was started with (`--reports DIR`). Begin one, and it appears here
while it runs:"""
_COMMANDS = """\
# from a folder that holds one folder of pictures for each class
sightline train PHOTOS --model mobilenet_v2 --out run

# without pictures of your own
sightline train mnist1d --out digits"""


def page() -> None:
    """Draw the page."""
    st.title("What did the training learn?")
    reports = found_reports()
    if not reports.of("training"):
        chosen_report(reports, "Run", "run", "training")
        st.info(_NONE, icon=":material/folder_open:")
        st.code(_COMMANDS, language="bash", wrap_lines=True)
        return
    # Only while one runs is the list read again by itself.
    every = 4.0 if running(reports) else None
    st.fragment(_runs, run_every=every)()
    st.subheader("One run", divider="gray")
    report = chosen_report(reports, "Run", "run", "training")
    if report is not None:
        with told():
            trained_view(report)


def _runs() -> None:
    runs = listed(found_reports())
    compared(runs)
