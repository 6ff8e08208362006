"""Everything that makes the weights. Uses qmmfl; nothing imports it."""
