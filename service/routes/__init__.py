"""One file per group of routes; app.py includes them."""
