"""Labels of defects: masks, polygons, run-length codes, blocks and boxes."""
