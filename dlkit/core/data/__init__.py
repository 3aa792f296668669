"""Data sets, the in-memory store, augmentation and loaders."""
