"""What watches a training run, whichever framework trains: its losses and its health."""
