"""What the command line does, one command per file: functions that return what JSON can hold, and that as text.

Printing and exit codes are the business of `__main__`, options that of `arguments`.
"""
