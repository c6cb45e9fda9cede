"""Errors: what a model takes for what, and which methods can be believed; from the reports that were written."""

from __future__ import annotations

import streamlit as st

from sightline.app.parts.evaluated import evaluation_view
from sightline.app.parts.mistakes import errors_view
from sightline.app.parts.reporting import chosen_report, found_reports
from sightline.app.parts.work import told

__all__ = ["page"]

_NONE = """\
There is no report below the folder that the app was started with (`--reports DIR`). Make one, and it appears here:"""
_COMMANDS = """\
# what a model gets wrong: a folder that holds one folder of pictures for each class
sightline errors PHOTOS --model resnet50 --out mistakes

# which explanations of a model can be believed
sightline evaluate PHOTOS --model resnet50 --limit 50 --out trust

# both without pictures of your own, in a minute
sightline demo
sightline evaluate demo/scenes --model demo/cheating --limit 12 --out trust"""


def page() -> None:
    """Draw the page."""
    st.title("What does the model get wrong, and why?")
    found = found_reports()
    report = chosen_report(found, "Report", "report", "errors", "evaluation")
    if report is None:
        st.info(_NONE, icon=":material/folder_open:")
        st.code(_COMMANDS, language="bash", wrap_lines=True)
        return
    with told():
        if report.kind == "errors":
            errors_view(found, report)
        else:
            evaluation_view(report)
