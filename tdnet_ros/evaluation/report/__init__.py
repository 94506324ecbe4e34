"""The report of an evaluation: a table for a terminal, and one page that needs no network."""

from tdnet_ros.evaluation.report.headline import comparison_table, headline_table
from tdnet_ros.evaluation.report.page import write_comparison, write_page

__all__ = ["comparison_table", "headline_table", "write_comparison", "write_page"]
