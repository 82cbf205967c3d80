"""Answers of a gallery: images and regions by score, their boxes, and how sure the answer is."""
