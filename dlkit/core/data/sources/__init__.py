"""Where samples come from: one module per data set or file format, each with a function that makes a `Source`."""
