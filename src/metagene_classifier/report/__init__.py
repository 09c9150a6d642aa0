"""Figures and calls to something a person reads: pictures, the HTML report, the model card."""
