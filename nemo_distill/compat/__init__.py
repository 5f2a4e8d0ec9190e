"""Every change that this project makes to third-party code."""
