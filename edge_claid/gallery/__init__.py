"""The gallery: images, their regions and codes in one file."""

from edge_claid.gallery.store import Gallery, GalleryInfo

__all__ = ["Gallery", "GalleryInfo"]
