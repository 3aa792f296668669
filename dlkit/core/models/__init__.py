"""Builders of networks: torchvision's by name, small ones of our own, and lists of layers."""
