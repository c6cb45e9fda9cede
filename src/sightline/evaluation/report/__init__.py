"""Reports: what was found, as one page that loads nothing.

`page` fills templates, which extend ``page.html.j2``; `write` makes the report of an evaluation.
"""

from sightline.evaluation.report.page import rendered, write_page
from sightline.evaluation.report.write import write_report

__all__ = ["rendered", "write_page", "write_report"]
