"""Shipped data: the head prior with its card, and the scene of `avatar-kit demo`."""
