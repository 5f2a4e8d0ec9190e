"""What a run will cost, before it starts: epochs, tokens, GPU-hours, memory, disk and what its scores can show."""
