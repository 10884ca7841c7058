"""Facts about Linux: offsets of its fields, and the tables that say what it patches."""
