"""What a run leaves for others: adapters, merged weights and other formats."""
