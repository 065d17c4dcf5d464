"""The demos of mmalign: pages in the browser that show what the library does."""
