"""Scores and truth to figures: how often, and how, the calls are right."""
