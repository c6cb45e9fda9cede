"""Reports: what was found, as one page that loads nothing."""

from sightline.evaluation.report.page import rendered, write_page

__all__ = ["rendered", "write_page"]
