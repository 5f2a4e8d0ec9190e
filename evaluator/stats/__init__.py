"""Pure statistics over tables of scores."""
