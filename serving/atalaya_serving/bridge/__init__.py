"""The bridge: TensorFlow Serving's clients before a KServe v2 server, and KServe v2's before TensorFlow Serving."""
