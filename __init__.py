"""scweave: cell-peak-gene graphs of single-cell multiome data, and the models that read them."""

__version__ = "0.1.0"
