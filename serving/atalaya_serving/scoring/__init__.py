"""Scene in, rows out: brings a raster to a model tile by tile, asks the model, and keeps what it answers."""
