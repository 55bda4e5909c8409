"""The TensorFlow Serving API over any engine, without tensorflow."""
