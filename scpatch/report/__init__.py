"""What the user sees: one module for each command, and one for each form that several share.

A report is rows of plain data first; the forms (a terminal, plain lines, JSON) are back ends over
the same rows. `schema.json` beside this file describes the JSON.
"""
