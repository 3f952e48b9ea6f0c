"""Side-by-side measurements, one command each; never timed tests."""
