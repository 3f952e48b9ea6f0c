"""The page in which a browser runs the model; what the page needs is written by Python."""
