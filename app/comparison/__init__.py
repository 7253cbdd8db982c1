"""Guidance methods side by side: the same prompts and the same starting noise in every arm."""
