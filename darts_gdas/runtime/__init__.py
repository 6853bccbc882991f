"""The loop and what it stands on. Contains no word of architecture search."""
