"""Which method for these data? Several are trained on the same splits in equal time, and validation ranks them."""
