"""Media to stores: inputs read once, encoded to rows, written in place, by any number of processes, however often killed."""
