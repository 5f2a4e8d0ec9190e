"""What becomes of runs that are over: the hub (`push`), making room (`clean`)."""
