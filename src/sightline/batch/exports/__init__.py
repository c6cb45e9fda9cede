"""Rows of a store as files that other programs read: pictures, arrays, boxes, data sets of other libraries."""

from sightline.batch.exports.run import KINDS, Exported, Kind, export

__all__ = ["KINDS", "Exported", "Kind", "export"]
