"""Training: one loop, one session, and what they are made of."""
