"""What a curve is described by, and what pairs of runs say: numbers in, numbers out."""
