"""Find this very thing again: instance search in a local gallery, on the device."""

__version__ = "0.1.0"
