"""Where algorithms meet the loop: what is trained, evaluated, saved."""
