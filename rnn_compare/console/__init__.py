"""What the programs have in common: flags, complaints, lines on a terminal, signals."""
