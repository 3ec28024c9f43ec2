"""Do recent unlabelled images still look like the normal images that a model was evaluated on?"""
