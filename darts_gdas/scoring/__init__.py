"""Whether a network is promising, before it is trained."""
