"""TensorRT engines: how they are described, built, kept and trusted. ``runners/`` runs them."""
