"""Importing TensorFlow without its start-up lines, which TF_CPP_MIN_LOG_LEVEL no longer holds back (seen in 2.21)."""

import os


def import_tensorflow_quietly() -> None:
    """Import TensorFlow and let it look for devices while file descriptor 2 points nowhere; errors still raise."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import tensorflow as tf

        tf.config.list_physical_devices()  # says that there is no GPU
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
