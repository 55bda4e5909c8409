"""Serves models, scores scenes, keeps the answers, trains and exports."""
