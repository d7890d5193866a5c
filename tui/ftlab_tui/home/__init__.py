"""Home: what there is and what to do next."""
