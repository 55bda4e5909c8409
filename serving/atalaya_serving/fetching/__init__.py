"""Brings a model's versions from a store into a folder before a server starts, and tells which versions a store has."""
