"""Care of a gallery: verify, repair, copy, merge, hand over to other tools."""
