"""Data sets: where they come from, their files, splits and pictures."""
