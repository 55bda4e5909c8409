"""The operator: from an InferenceModel to what runs in a cluster."""
