"""What the user sees. A report draws and computes nothing.

Each command has a module here that wraps its result as a `blocks.Report`, and each output form has
one in `forms`. `documents` are the JSON as types, and `schema` makes schema.json from them.
"""
