"""Which images to label: rank unlabelled images, hand them to Label Studio, and fetch the labels."""
