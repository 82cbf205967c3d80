"""What of this machine the product needs and how it is with it, each finding with its fix."""
