"""Motifs of transcription factors in peaks, and where peaks lie beside genes."""
