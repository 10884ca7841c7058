"""`ar` archives, regular and thin: reading their headers, laying them out anew."""
