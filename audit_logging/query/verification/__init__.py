"""Verification: whether the trail is whole, and what proves it."""
