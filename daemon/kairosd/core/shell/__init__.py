"""Shell lines as plans: what a line says is decoded once, judged, and that is what runs; no shell ever sees it."""
