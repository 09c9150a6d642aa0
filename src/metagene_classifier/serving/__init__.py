"""Calls in a browser: a local page and its API over one model."""
