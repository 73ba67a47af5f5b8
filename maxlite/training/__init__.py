"""Training: the optimizer, the step, what is measured, and the loop around them."""
