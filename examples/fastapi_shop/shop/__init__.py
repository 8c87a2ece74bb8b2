"""A FastAPI application whose stock is kept by actors: one for each product, so two people cannot buy the last one."""

from .product import Product

__all__ = ["Product"]
