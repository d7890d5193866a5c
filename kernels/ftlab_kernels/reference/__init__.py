"""Pure-PyTorch references: one operator a file, the truth that every kernel is tested against."""
