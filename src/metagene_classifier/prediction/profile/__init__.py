"""What is in a sample: its calls counted, abundances estimated from them, and how diverse it is."""
