"""Which config: search spaces, trials, the scheduler, and `python -m tune.search`."""
