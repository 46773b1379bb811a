"""Laws of scale: typed records in, typed laws out. No files, no logging, no plotting."""
