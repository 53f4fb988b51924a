"""The commands of `proxquant-np`: each is a function that adds it to the parser and, below it, the
function that runs it. What a command alone needs is imported when it runs, so that all start soon.
"""
