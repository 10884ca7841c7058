"""The mission: trampolines, the call sites that use them, and the plan to make each one right."""
