"""What becomes of runs that are over: making room (`clean`)."""
