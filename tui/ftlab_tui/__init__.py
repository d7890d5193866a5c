"""The terminal application over ftlab; holds nothing yet."""
