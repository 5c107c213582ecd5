"""Once per key, across processes: marks, and the middleware that keeps them."""
