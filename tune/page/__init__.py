"""report.html: figures from a run's files, and the page from the figures.

The charts are our own (charts/*.js): no charting library gives keyboard access, words for screen
readers and a page that works offline in 120 KB.
"""
