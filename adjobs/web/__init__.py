"""What the HTTP services share: where they listen, who is let in, slow clients, and pages that load nothing from elsewhere."""
