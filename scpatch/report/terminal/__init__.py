"""Drawing on a screen: its width and colours, columns, and the code of a function."""
