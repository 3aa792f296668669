"""Shape arithmetic without torch."""
