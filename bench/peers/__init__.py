"""Our server and its peers, side by side: the same weights, the same requests, one run."""
