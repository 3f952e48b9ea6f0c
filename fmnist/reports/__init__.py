"""The five course reports: their recipes, the runner, and the table of results."""
