"""Files: opening and recognising inputs, writing outputs whole or not at all."""
