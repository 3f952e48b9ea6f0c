"""Where and on how many machines: joining Ray, and the DDP job under Ray Train."""
