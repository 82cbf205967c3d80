"""The one file of a gallery: tables, pages, connections, and what may befall a file and its medium."""
