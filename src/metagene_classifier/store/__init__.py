"""Token ids at rest: what training reads from, and the order in which it reads."""
