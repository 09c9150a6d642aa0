"""A browser for the sunburst."""

from tests.browser import browser

__all__ = ["browser"]
