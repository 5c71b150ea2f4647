"""From a step, a function in JAX, to a graph in both directions and its stages; no target is known here."""
