"""Planes of every cached case, computed once by the trained synthesis nets."""
