"""A seeded fuzzer over the prebuilt objects."""
