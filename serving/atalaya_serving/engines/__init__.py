"""What runs a model: one small protocol (base), one module an engine."""
