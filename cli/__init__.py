"""The command line: click commands, no maths."""
