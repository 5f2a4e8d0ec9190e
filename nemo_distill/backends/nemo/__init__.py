"""NeMo 2.7 as the training framework."""
