"""The gallery: images, their regions and codes in one file."""

from edge_claid.gallery.info import GalleryInfo
from edge_claid.gallery.store import Gallery

__all__ = ["Gallery", "GalleryInfo"]
