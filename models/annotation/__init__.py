"""What all cell-type annotators share: the model face, calibration, metrics, baselines."""
