"""What a recipe says: the blend and its sources, the settings, the scale that fills them in, the schedule."""
