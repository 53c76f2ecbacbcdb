raise ImportError("this process must run without uvloop")
