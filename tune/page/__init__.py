"""What report.html is made of: figures from a run's files, and the page from the figures."""
