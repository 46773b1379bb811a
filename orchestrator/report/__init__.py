"""What people would rather see than read: plots, and one self-contained HTML page."""
