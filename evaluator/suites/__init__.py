"""Which benchmarks there are, what judges them, and the data sets they need."""
