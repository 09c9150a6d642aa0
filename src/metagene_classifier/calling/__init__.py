"""From class scores to taxa: calibrated probabilities, the rule over ranks, and what is refused."""
