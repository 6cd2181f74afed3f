"""Chromosomes, genes, DNA and peaks by place."""
