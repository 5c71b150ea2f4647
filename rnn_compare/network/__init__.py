"""The network that is trained: a recurrence and linear heads on it, and what its errors cost."""
