"""Run folders: where a run lives, and what it says of itself."""
