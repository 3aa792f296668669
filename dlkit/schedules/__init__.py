"""Learning-rate curves without torch: pure functions of the step."""
