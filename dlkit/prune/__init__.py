"""Pruning: masks, and networks that really get smaller."""
