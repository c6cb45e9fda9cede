"""The script that Streamlit runs for every visitor: the pages and nothing else.

It lies in a folder of its own: beside a folder ``pages`` Streamlit would run a module of it for an address such as
/errors.
"""

from __future__ import annotations

import logging

import streamlit as st

from sightline.app.pages import ask, check, compare, errors, explain, learn, signals, trainings
from sightline.app.parts.share import remember_link
from sightline.app.parts.viewer import asset
from sightline.app.parts.work import told

PAGES = (
    st.Page(explain.page, title="Explain", icon=":material/visibility:", default=True),
    st.Page(compare.page, title="Compare", url_path="compare", icon=":material/grid_view:"),
    st.Page(check.page, title="Check", url_path="check", icon=":material/verified:"),
    st.Page(ask.page, title="Ask", url_path="ask", icon=":material/quiz:"),
    st.Page(signals.page, title="Signals", url_path="signals", icon=":material/show_chart:"),
    st.Page(errors.page, title="Errors", url_path="errors", icon=":material/bug_report:"),
    st.Page(trainings.page, title="Training runs", url_path="trainings", icon=":material/model_training:"),
    st.Page(learn.page, title="Learn", url_path="learn", icon=":material/school:"),
)

st.set_page_config(page_title="Sightline", page_icon=asset("icon.svg"), layout="wide")
st.logo(asset("logo.svg"), size="large", icon_image=asset("icon.svg"))
logging.getLogger("sightline").setLevel(logging.ERROR)  # what a model's notes say stands on the page
remember_link()
with told():
    st.navigation(PAGES, position="top").run()
