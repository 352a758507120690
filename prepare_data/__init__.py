"""From annotated photographs to packed stores of samples."""
