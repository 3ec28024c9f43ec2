"""Detectors outside training: images in, scores, decisions, anomaly maps and regions out."""
