"""Problems of a data set, detected before anything is trained."""
