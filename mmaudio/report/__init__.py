"""From numbers and samples to a page a person opens: one static folder that needs no network and no server."""
